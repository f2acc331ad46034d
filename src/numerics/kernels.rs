//! The arithmetic of the encoder, and the only `unsafe` code in Moothall.
//!
//! One matrix product serves every layer: a row-major left side against a right
//! side packed into column panels. Three paths give it (portable, AVX2 with FMA,
//! AVX-512), chosen once at run time. Each output element is summed over `k` in
//! one fixed order that does not depend on how many rows the batch has, so a
//! comment's numbers never depend on its neighbours.
//!
//! Register tiles follow the usual outer-product scheme (Goto and van de Geijn,
//! "Anatomy of high-performance matrix multiplication", ACM TOMS 34(3), 2008).

#![allow(unsafe_code)]
#![allow(
    clippy::inline_always,
    reason = "these bodies must be compiled inside the functions that switch vector instructions on"
)]

/// Depth of one pass over a panel: 384 floats of 32 columns are 48 KiB, which
/// stays close to the core. Fixed, because it fixes the order of summation.
const DEPTH: usize = 384;

/// Rows worked on before the next panel: 192 rows of 384 floats are 288 KiB of level-2 cache.
const ROW_BLOCK: usize = 192;

/// Columns of the widest panel.
const WIDEST: usize = 32;

/// Rows of a panel that are asked for before they are needed: a panel is larger than the first-level cache, and
/// processors do not guess soon enough that it is read from end to end.
const AHEAD: usize = 8;

/// Which instructions the matrix product uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    /// Plain Rust, on any processor.
    Portable,
    /// 256-bit vectors with fused multiply-add.
    Avx2,
    /// 512-bit vectors.
    Avx512,
}

impl Path {
    /// Whether this processor has the instructions.
    pub fn is_available(self) -> bool {
        match self {
            Self::Portable => true,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => is_x86_feature_detected!("avx512f"),
            #[cfg(not(target_arch = "x86_64"))]
            Self::Avx2 | Self::Avx512 => false,
        }
    }

    /// Every path that this processor can run, slowest first.
    pub fn available() -> Vec<Self> {
        [Self::Portable, Self::Avx2, Self::Avx512].into_iter().filter(|path| path.is_available()).collect()
    }

    /// The fastest available path.
    pub fn fastest() -> Self {
        *Self::available().last().unwrap_or(&Self::Portable)
    }

    /// Columns of one packed panel.
    pub fn panel_width(self) -> usize {
        match self {
            Self::Portable | Self::Avx2 => 16,
            Self::Avx512 => 32,
        }
    }

    /// Rows of the tallest tile: its sums fill the registers that the columns and the left value leave.
    fn tallest_tile(self) -> usize {
        match self {
            Self::Portable if cfg!(target_arch = "aarch64") => 6,
            Self::Portable => 2,
            Self::Avx2 => 6,
            Self::Avx512 => 12,
        }
    }

    /// `columns` rounded up to whole panels: the width of every output buffer.
    pub fn padded(self, columns: usize) -> usize {
        columns.next_multiple_of(self.panel_width())
    }
}

/// The right side of a product, `depth` x `columns`, cut into panels of
/// [`Path::panel_width`] columns; each panel is contiguous, depth by depth, and
/// the last is filled up with zeros.
#[derive(Clone, Debug)]
pub struct Packed {
    path: Path,
    depth: usize,
    columns: usize,
    panels: Vec<f32>,
}

impl Packed {
    /// An empty matrix to be filled by [`Packed::fill_rows`] or [`Packed::fill_transposed`].
    ///
    /// # Panics
    /// When this processor lacks the path's instructions: the unsafe code below relies on this check.
    pub fn empty(path: Path) -> Self {
        assert!(path.is_available(), "{path:?} needs instructions that this processor lacks");
        Self { path, depth: 0, columns: 0, panels: Vec::new() }
    }

    /// Packs `element(row, column)` of a `depth` x `columns` matrix.
    pub fn new(path: Path, depth: usize, columns: usize, element: impl Fn(usize, usize) -> f32) -> Self {
        let mut packed = Self::empty(path);
        let width = packed.shape(depth, columns);
        for (index, panel) in packed.panels.chunks_exact_mut((depth * width).max(1)).enumerate() {
            for (row, values) in panel.chunks_exact_mut(width).enumerate() {
                for (column, value) in (index * width..columns).zip(values) {
                    *value = element(row, column);
                }
            }
        }
        packed
    }

    /// Packs anew the matrix whose rows are the first `columns` floats of each `stride` in `rows`.
    pub fn fill_rows(&mut self, rows: &[f32], stride: usize, depth: usize, columns: usize) {
        let width = self.shape(depth, columns);
        for (index, panel) in self.panels.chunks_exact_mut((depth * width).max(1)).enumerate() {
            let from = index * width;
            let taken = width.min(columns - from);
            for (values, row) in panel.chunks_exact_mut(width).zip(rows.chunks(stride)) {
                values[..taken].copy_from_slice(&row[from..from + taken]);
            }
        }
    }

    /// Packs anew the matrix whose columns are the first `depth` floats of each `stride` in `rows`.
    pub fn fill_transposed(&mut self, rows: &[f32], stride: usize, depth: usize, columns: usize) {
        let width = self.shape(depth, columns);
        for (panel, rows) in self.panels.chunks_exact_mut((depth * width).max(1)).zip(rows.chunks(stride * width)) {
            for (column, row) in rows.chunks(stride).enumerate() {
                for (values, value) in panel.chunks_exact_mut(width).zip(&row[..depth]) {
                    values[column] = *value;
                }
            }
        }
    }

    /// Sets the shape, with zeros at least beyond the last column; returns the width of a panel.
    fn shape(&mut self, depth: usize, columns: usize) -> usize {
        self.depth = depth;
        self.columns = columns;
        if !columns.is_multiple_of(self.path.panel_width()) {
            self.panels.clear();
        }
        self.panels.resize(depth * self.path.padded(columns), 0.0);
        self.path.panel_width()
    }

    /// Columns of the product's output buffer.
    pub fn padded_columns(&self) -> usize {
        self.path.padded(self.columns)
    }
}

/// What the sums of a product start from.
#[derive(Clone, Copy, Debug)]
pub enum Start<'a> {
    /// Nothing.
    Zero,
    /// The same row for each row of the output: a bias, [`Packed::padded_columns`] long.
    Row(&'a [f32]),
    /// What the output holds.
    Output,
}

/// `out += left * right`, for `rows` rows; see [`multiply`].
pub fn multiply_add(left: &[f32], left_stride: usize, rows: usize, right: &Packed, out: &mut [f32], out_stride: usize) {
    multiply(left, left_stride, rows, right, Start::Output, out, out_stride);
}

/// `out = start + left * right`, for `rows` rows.
///
/// `left` holds rows of `left_stride` floats of which the first `right.depth`
/// count; `out` holds rows of `out_stride` floats, of which the first
/// [`Packed::padded_columns`] are written.
///
/// # Panics
/// When a buffer is shorter than its rows and stride need: the unsafe tiles
/// below rely on this check.
pub fn multiply(
    left: &[f32],
    left_stride: usize,
    rows: usize,
    right: &Packed,
    start: Start<'_>,
    out: &mut [f32],
    out_stride: usize,
) {
    const ZEROS: [f32; WIDEST] = [0.0; WIDEST];
    if rows == 0 || right.depth == 0 || right.columns == 0 {
        return;
    }
    let padded = right.padded_columns();
    assert!(
        left_stride >= right.depth && left.len() >= (rows - 1) * left_stride + right.depth,
        "left side is too short"
    );
    assert!(out_stride >= padded && out.len() >= (rows - 1) * out_stride + padded, "output is too short");
    assert_eq!(right.panels.len(), right.depth * padded, "right side is not packed");
    if let Start::Row(row) = start {
        assert!(row.len() >= padded, "first sums are too short");
    }
    let width = right.path.panel_width();
    let tallest = right.path.tallest_tile();
    for block in (0..rows).step_by(ROW_BLOCK) {
        let block_rows = ROW_BLOCK.min(rows - block);
        // Tiles as equal in height as can be: a low one would leave the core waiting for its sums.
        let count = block_rows.div_ceil(tallest);
        for from in (0..right.depth).step_by(DEPTH) {
            let depth = DEPTH.min(right.depth - from);
            for (index, panel) in right.panels.chunks_exact(right.depth * width).enumerate() {
                let mut row = block;
                for tile in 0..count {
                    let height = (block + block_rows - row).div_ceil(count - tile);
                    let at = row * out_stride + index * width;
                    let out = out[at..at + (height - 1) * out_stride + width].as_mut_ptr();
                    let (start, start_stride) = match start {
                        _ if from > 0 => (out.cast_const(), out_stride),
                        Start::Zero => (ZEROS.as_ptr(), 0),
                        Start::Row(row) => (row[index * width..(index + 1) * width].as_ptr(), 0),
                        Start::Output => (out.cast_const(), out_stride),
                    };
                    let at = row * left_stride + from;
                    let left = left[at..at + (height - 1) * left_stride + depth].as_ptr();
                    let panel = panel[from * width..(from + depth) * width].as_ptr();
                    let tile = Tile { left, left_stride, depth, panel, start, start_stride, out, out_stride };
                    // SAFETY: the slices just cut are as long as `Tile` demands, `height` is 1 to
                    // `tallest`, and `Packed::empty` refused a path whose instructions are missing.
                    unsafe { tile.run(right.path, height) };
                    row += height;
                }
            }
        }
    }
}

/// One register tile of a product: a few rows by one panel.
///
/// Invariants, on which all unsafe code of the tiles rests, for a tile of `rows` rows:
/// `left` holds `rows` rows of `depth` floats at `left_stride`; `panel` holds `depth` rows of
/// [`Path::panel_width`] floats; `start` and `out` hold `rows` rows of that width at their
/// strides (a stride of 0 reads one row again and again). `start` may be `out`: every
/// first sum is read before a result is written.
#[derive(Clone, Copy)]
struct Tile {
    left: *const f32,
    left_stride: usize,
    depth: usize,
    panel: *const f32,
    start: *const f32,
    start_stride: usize,
    out: *mut f32,
    out_stride: usize,
}

/// Runs the tile compiled for the given height.
macro_rules! by_height {
    ($tile:expr, $vector:ty, $height:expr, [$($known:literal)+]) => {
        match $height {
            $($known => $tile.sums::<$vector, $known>(),)+
            _ => unreachable!("no tile is that tall"),
        }
    };
}

impl Tile {
    /// # Safety
    /// The invariants of [`Tile`] hold, the processor has the instructions of `path`, and
    /// `rows` is 1 to [`Path::tallest_tile`].
    unsafe fn run(self, path: Path, rows: usize) {
        // SAFETY: the caller's promise is passed on unchanged.
        unsafe {
            match path {
                Path::Portable => by_height!(self, Plain, rows, [1 2 3 4 5 6]),
                #[cfg(target_arch = "x86_64")]
                Path::Avx2 => self.avx2(rows),
                #[cfg(target_arch = "x86_64")]
                Path::Avx512 => self.avx512(rows),
                #[cfg(not(target_arch = "x86_64"))]
                Path::Avx2 | Path::Avx512 => unreachable!("not offered by Path::available here"),
            }
        }
    }

    /// # Safety
    /// As for [`Tile::run`], on [`Path::Avx2`].
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn avx2(self, rows: usize) {
        // SAFETY: the caller's promise is passed on unchanged.
        unsafe { by_height!(self, std::arch::x86_64::__m256, rows, [1 2 3 4 5 6]) }
    }

    /// # Safety
    /// As for [`Tile::run`], on [`Path::Avx512`].
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f")]
    unsafe fn avx512(self, rows: usize) {
        // SAFETY: the caller's promise is passed on unchanged.
        unsafe { by_height!(self, std::arch::x86_64::__m512, rows, [1 2 3 4 5 6 7 8 9 10 11 12]) }
    }

    /// The sums of `ROWS` rows by two vectors, all kept in registers.
    ///
    /// # Safety
    /// As for [`Tile::run`], for this vector and number of rows.
    #[inline(always)]
    unsafe fn sums<V: Vector, const ROWS: usize>(self) {
        // SAFETY: every pointer below stays inside the lengths that `Tile` states.
        unsafe {
            let mut sums = [[V::load(self.start), V::load(self.start.add(V::LANES))]; ROWS];
            for (row, sum) in sums.iter_mut().enumerate().skip(1) {
                let start = self.start.add(row * self.start_stride);
                *sum = [V::load(start), V::load(start.add(V::LANES))];
            }
            let mut panel = self.panel;
            for step in 0..self.depth {
                let columns = [V::load(panel), V::load(panel.add(V::LANES))];
                // It may lie behind the panel's end: nothing is read there.
                V::fetch_ahead(panel.wrapping_add(AHEAD * 2 * V::LANES));
                panel = panel.add(2 * V::LANES);
                for (row, sum) in sums.iter_mut().enumerate() {
                    let value = V::splat(*self.left.add(row * self.left_stride + step));
                    sum[0] = value.times_plus(columns[0], sum[0]);
                    sum[1] = value.times_plus(columns[1], sum[1]);
                }
            }
            for (row, sum) in sums.iter().enumerate() {
                let out = self.out.add(row * self.out_stride);
                sum[0].store(out);
                sum[1].store(out.add(V::LANES));
            }
        }
    }
}

/// Multiplies and adds `steps` times in registers alone, on as many sums as hide the wait for
/// one: the most that one core can do on this path. Returns the floating-point operations done.
///
/// # Panics
/// When this processor lacks the path's instructions.
pub fn operate(path: Path, steps: usize) -> f64 {
    #[inline(always)]
    unsafe fn chains<V: Vector, const CHAINS: usize>(steps: usize) -> f64 {
        // SAFETY: the callers below saw that the processor has the instructions; `out` has room for 16.
        unsafe {
            let factor = V::splat(std::hint::black_box(0.999));
            let mut sums = [V::splat(std::hint::black_box(0.001)); CHAINS];
            for _ in 0..steps {
                for sum in &mut sums {
                    *sum = sum.times_plus(factor, factor);
                }
            }
            let mut out = [0.0f32; 16];
            for sum in sums {
                sum.store(out.as_mut_ptr());
                std::hint::black_box(&out);
            }
        }
        (2 * V::LANES * CHAINS * steps) as f64
    }
    assert!(path.is_available(), "{path:?} needs instructions that this processor lacks");
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{__m256, __m512};
        #[target_feature(enable = "avx2,fma")]
        fn avx2(steps: usize) -> f64 {
            // SAFETY: this function may only be called where the instructions are.
            unsafe { chains::<__m256, 12>(steps) }
        }
        #[target_feature(enable = "avx512f")]
        fn avx512(steps: usize) -> f64 {
            // SAFETY: as above.
            unsafe { chains::<__m512, 12>(steps) }
        }
        match path {
            Path::Portable => {}
            // SAFETY: the instructions were asserted above.
            Path::Avx2 => return unsafe { avx2(steps) },
            // SAFETY: the instructions were asserted above.
            Path::Avx512 => return unsafe { avx512(steps) },
        }
    }
    // SAFETY: plain Rust needs no instructions that may be missing.
    unsafe { chains::<Plain, 4>(steps) }
}

/// A vector register. The methods are compiled inside the functions that switch its instructions on.
trait Vector: Copy {
    /// Floats in it; a panel is two vectors wide.
    const LANES: usize;
    /// # Safety
    /// The processor has the instructions, and `LANES` floats can be read.
    unsafe fn load(from: *const f32) -> Self;
    /// # Safety
    /// The processor has the instructions, and `LANES` floats can be written.
    unsafe fn store(self, to: *mut f32);
    /// # Safety
    /// The processor has the instructions.
    unsafe fn splat(value: f32) -> Self;
    /// # Safety
    /// The processor has the instructions.
    unsafe fn times_plus(self, factor: Self, sum: Self) -> Self;
    /// Asks for the two vectors from here on to be brought near. Any address will do.
    fn fetch_ahead(_from: *const f32) {}
}

/// Eight floats that the compiler fits into what the processor has.
#[derive(Clone, Copy)]
struct Plain([f32; 8]);

impl Vector for Plain {
    const LANES: usize = 8;

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller promises eight floats; an array of them has their alignment.
        Self(unsafe { *from.cast::<[f32; 8]>() })
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: as above.
        unsafe { *to.cast::<[f32; 8]>() = self.0 };
    }

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        Self([value; 8])
    }

    #[inline(always)]
    unsafe fn times_plus(self, factor: Self, sum: Self) -> Self {
        let mut out = sum;
        for ((out, value), factor) in out.0.iter_mut().zip(self.0).zip(factor.0) {
            *out = times_plus::<PLAIN_FUSES>(value, factor, *out);
        }
        out
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{
        __m256, __m512, _MM_HINT_T0, _mm_prefetch, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_set1_ps, _mm256_storeu_ps,
        _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_set1_ps, _mm512_storeu_ps,
    };

    /// The methods by their intrinsics, whose only demands are those of the trait.
    macro_rules! vector {
        ($vector:ty, $lanes:literal, $load:ident, $store:ident, $splat:ident, $times_plus:ident) => {
            impl super::Vector for $vector {
                const LANES: usize = $lanes;

                #[inline(always)]
                unsafe fn load(from: *const f32) -> Self {
                    // SAFETY: the caller's promise is passed on unchanged.
                    unsafe { $load(from) }
                }

                #[inline(always)]
                unsafe fn store(self, to: *mut f32) {
                    // SAFETY: as above.
                    unsafe { $store(to, self) }
                }

                #[inline(always)]
                unsafe fn splat(value: f32) -> Self {
                    // SAFETY: as above.
                    unsafe { $splat(value) }
                }

                #[inline(always)]
                unsafe fn times_plus(self, factor: Self, sum: Self) -> Self {
                    // SAFETY: as above.
                    unsafe { $times_plus(self, factor, sum) }
                }

                #[inline(always)]
                fn fetch_ahead(from: *const f32) {
                    // A cache line holds 16 floats.
                    for line in (0..2 * Self::LANES).step_by(16) {
                        // SAFETY: every x86-64 has the instruction, and no address makes it fail.
                        unsafe { _mm_prefetch::<_MM_HINT_T0>(from.wrapping_add(line).cast()) };
                    }
                }
            }
        };
    }

    vector!(__m256, 8, _mm256_loadu_ps, _mm256_storeu_ps, _mm256_set1_ps, _mm256_fmadd_ps);
    vector!(__m512, 16, _mm512_loadu_ps, _mm512_storeu_ps, _mm512_set1_ps, _mm512_fmadd_ps);
}

/// `a * b + c`, in one rounding where the processor has an instruction for it.
#[inline(always)]
fn times_plus<const FUSED: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FUSED { a.mul_add(b, c) } else { a * b + c }
}

/// Whether plain Rust may fuse: without the instruction `mul_add` would be a slow call.
const PLAIN_FUSES: bool = cfg!(target_arch = "aarch64");

/// Runs `$body` compiled for the widest vectors that the processor has.
macro_rules! widened {
    ($(#[$doc:meta])* $name:ident, $body:ident, ($($argument:ident: $kind:ty),+)) => {
        $(#[$doc])*
        pub fn $name(path: Path, $($argument: $kind),+) {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2,fma")]
                fn avx2($($argument: $kind),+) { $body::<true>($($argument),+); }
                #[target_feature(enable = "avx512f")]
                fn avx512($($argument: $kind),+) { $body::<true>($($argument),+); }
                match path {
                    // SAFETY: the guard saw the instructions.
                    Path::Avx2 if path.is_available() => return unsafe { avx2($($argument),+) },
                    // SAFETY: the guard saw the instructions.
                    Path::Avx512 if path.is_available() => return unsafe { avx512($($argument),+) },
                    _ => {}
                }
            }
            let _ = path;
            $body::<PLAIN_FUSES>($($argument),+);
        }
    };
}

widened!(
    /// The exact Gaussian error linear unit, in place: `x * (1 + erf(x / sqrt 2)) / 2`.
    /// `erf` as a quotient of polynomials, with the coefficients of Eigen (`erf`,
    /// SpecialFunctionsImpl.h), whose error is below 1e-6.
    gelu, gelu_body, (values: &mut [f32])
);
widened!(
    /// The softmax of each row's first `length` floats, in place; rows are `padded` floats
    /// long, a multiple of 16, and the rest of each becomes zero.
    softmax, softmax_body, (values: &mut [f32], padded: usize, length: usize)
);
widened!(
    /// Adds `residual` to each row of `width`, a multiple of 16, normalises it to mean 0 and
    /// variance 1, then scales and shifts, in place.
    add_and_normalise, add_and_normalise_body, (rows: &mut [f32], residual: &[f32], scale: &[f32], shift: &[f32], epsilon: f32)
);

/// `e^x` for `x <= 0`, to about 1e-7 relative; below -87 it stays at `e^-87`.
/// Range reduction to 2^n * e^r with |r| <= ln(2)/2 and the Taylor polynomial of degree 6.
#[inline(always)]
fn exp_of_negative<const FUSED: bool>(x: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0; // 1.5 * 2^23: adding it rounds to a whole number, kept in the low bits
    let x = x.max(-87.0);
    let shifted = times_plus::<FUSED>(x, std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = times_plus::<FUSED>(n, -0.693_359_4, x); // ln 2 in two parts
    let r = times_plus::<FUSED>(n, 2.121_944_4e-4, r);
    let mut p = 1.388_888_9e-3;
    for coefficient in [8.333_333e-3, 4.166_666_6e-2, 1.666_666_7e-1, 0.5, 1.0, 1.0] {
        p = times_plus::<FUSED>(p, r, coefficient);
    }
    p * f32::from_bits((shifted.to_bits() << 23).wrapping_add(1.0f32.to_bits()))
}

#[inline(always)]
fn gelu_body<const FUSED: bool>(values: &mut [f32]) {
    const ABOVE: [f32; 7] = [
        -2.726_142_3e-10,
        2.770_681_4e-8,
        -2.101_024e-6,
        -5.692_506_4e-5,
        -7.349_906_5e-4,
        -2.954_6e-3,
        -1.609_603_3e-2,
    ];
    const BELOW: [f32; 5] = [-1.456_607_2e-5, -2.133_740_6e-4, -1.682_827e-3, -7.373_329e-3, -1.426_473_9e-2];
    for value in values {
        let x = *value;
        let z = (x * std::f32::consts::FRAC_1_SQRT_2).clamp(-4.0, 4.0);
        let square = z * z;
        let mut above = ABOVE[0];
        for coefficient in &ABOVE[1..] {
            above = times_plus::<FUSED>(above, square, *coefficient);
        }
        let mut below = BELOW[0];
        for coefficient in &BELOW[1..] {
            below = times_plus::<FUSED>(below, square, *coefficient);
        }
        let half = 0.5 * x;
        *value = times_plus::<FUSED>(half, z * above / below, half);
    }
}

#[inline(always)]
fn softmax_body<const FUSED: bool>(values: &mut [f32], padded: usize, length: usize) {
    for row in values.chunks_exact_mut(padded) {
        row[length..].fill(f32::MIN);
        let mut largest = [f32::MIN; 16];
        for chunk in row.as_chunks::<16>().0 {
            for (largest, value) in largest.iter_mut().zip(chunk) {
                *largest = if *value > *largest { *value } else { *largest };
            }
        }
        let largest = largest.into_iter().fold(f32::MIN, f32::max);
        for value in row.as_chunks_mut::<16>().0.as_flattened_mut() {
            *value = exp_of_negative::<FUSED>(*value - largest);
        }
        row[length..].fill(0.0);
        let scale = 1.0 / sum(row);
        for value in row.as_chunks_mut::<16>().0.as_flattened_mut() {
            *value *= scale;
        }
    }
}

/// A sum in sixteen lanes: an order that vectorises and never changes.
#[inline(always)]
fn sum(values: &[f32]) -> f32 {
    let mut lanes = [0.0f32; 16];
    for chunk in values.as_chunks::<16>().0 {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane += value;
        }
    }
    lanes.iter().sum::<f32>()
}

#[inline(always)]
fn add_and_normalise_body<const FUSED: bool>(
    rows: &mut [f32],
    residual: &[f32],
    scale: &[f32],
    shift: &[f32],
    epsilon: f32,
) {
    let width = scale.len();
    for (row, residual) in rows.chunks_exact_mut(width).zip(residual.chunks_exact(width)) {
        for (value, extra) in row.iter_mut().zip(residual) {
            *value += extra;
        }
        let mean = sum(row) / width as f32;
        let mut lanes = [0.0f32; 16];
        for chunk in row.as_chunks::<16>().0 {
            for (lane, value) in lanes.iter_mut().zip(chunk) {
                let distance = value - mean;
                *lane = times_plus::<FUSED>(distance, distance, *lane);
            }
        }
        let inverse = 1.0 / (lanes.iter().sum::<f32>() / width as f32 + epsilon).sqrt();
        for ((value, scale), shift) in row.iter_mut().zip(scale).zip(shift) {
            *value = times_plus::<FUSED>((*value - mean) * inverse, *scale, *shift);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(count: usize, seed: u32) -> Vec<f32> {
        let mut state = seed;
        (0..count)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 8) as f32 / 16_777_216.0 - 0.5
            })
            .collect()
    }

    #[test]
    fn every_path_agrees_with_the_plain_triple_loop() {
        for path in Path::available() {
            for (rows, depth, columns) in [(1, 1, 1), (3, 32, 7), (13, 384, 40), (5, 1000, 33), (200, 64, 16)] {
                let left = numbers(rows * depth, 1);
                let right = numbers(depth * columns, 2);
                let packed = Packed::new(path, depth, columns, |k, n| right[k * columns + n]);
                let stride = packed.padded_columns();
                let mut out = vec![1.0; rows * stride];
                multiply_add(&left, depth, rows, &packed, &mut out, stride);
                for row in 0..rows {
                    for column in 0..columns {
                        let expected: f32 =
                            1.0 + (0..depth).map(|k| left[row * depth + k] * right[k * columns + column]).sum::<f32>();
                        let found = out[row * stride + column];
                        assert!(
                            (found - expected).abs() < 1e-3,
                            "{path:?} {rows}x{depth}x{columns}: {found} {expected}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn a_row_has_the_same_bits_alone_and_among_others() {
        for path in Path::available() {
            let (rows, depth, columns) = (29, 1536, 384);
            let left = numbers(rows * depth, 3);
            let right = numbers(depth * columns, 4);
            let packed = Packed::new(path, depth, columns, |k, n| right[k * columns + n]);
            let mut together = vec![0.0; rows * columns];
            multiply_add(&left, depth, rows, &packed, &mut together, columns);
            for row in 0..rows {
                let mut alone = vec![0.0; columns];
                multiply_add(&left[row * depth..], depth, 1, &packed, &mut alone, columns);
                assert_eq!(alone, together[row * columns..(row + 1) * columns], "{path:?} row {row}");
            }
        }
    }

    #[test]
    fn element_functions_match_double_precision_on_every_path() {
        let inputs: Vec<f32> = (-80..=80).map(|step| step as f32 / 10.0).collect();
        for path in Path::available() {
            let mut found = inputs.clone();
            gelu(path, &mut found);
            for (x, found) in inputs.iter().zip(&found) {
                let expected = 0.5 * f64::from(*x) * (1.0 + erf(f64::from(*x) / 2f64.sqrt()));
                assert!((f64::from(*found) - expected).abs() < 3e-6, "gelu({x}) = {found}, not {expected}");
            }
            let mut row = inputs.clone();
            let length = row.len();
            row.resize(length.next_multiple_of(16), 7.0);
            softmax(path, &mut row, length.next_multiple_of(16), length);
            let total: f64 = inputs.iter().map(|x| f64::from(*x).exp()).sum();
            for (x, found) in inputs.iter().zip(&row) {
                assert!((f64::from(*found) - f64::from(*x).exp() / total).abs() < 1e-6);
            }
        }
    }

    /// The error function by its Maclaurin series, enough for |x| <= 6.
    fn erf(x: f64) -> f64 {
        if x.abs() > 5.0 {
            return x.signum();
        }
        let (mut term, mut total) = (x, x);
        for n in 1..200 {
            term *= -x * x / f64::from(n);
            total += term / f64::from(2 * n + 1);
        }
        total * 2.0 / std::f64::consts::PI.sqrt()
    }

    #[test]
    #[should_panic(expected = "output is too short")]
    fn a_short_buffer_is_refused_before_any_unsafe_code() {
        let packed = Packed::new(Path::fastest(), 4, 4, |_, _| 1.0);
        multiply_add(&[1.0; 8], 4, 2, &packed, &mut [0.0; 5], 64);
    }
}
