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
    /// An empty matrix to be filled by [`Packed::fill`].
    ///
    /// # Panics
    /// When this processor lacks the path's instructions.
    pub fn empty(path: Path) -> Self {
        assert!(path.is_available(), "{path:?} needs instructions that this processor lacks");
        Self { path, depth: 0, columns: 0, panels: Vec::new() }
    }

    /// Packs `element(row, column)` of a `depth` x `columns` matrix.
    pub fn new(path: Path, depth: usize, columns: usize, element: impl Fn(usize, usize) -> f32) -> Self {
        let mut packed = Self::empty(path);
        packed.fill(depth, columns, element);
        packed
    }

    /// Packs anew, keeping the allocation.
    pub fn fill(&mut self, depth: usize, columns: usize, element: impl Fn(usize, usize) -> f32) {
        let width = self.path.panel_width();
        self.depth = depth;
        self.columns = columns;
        self.panels.clear();
        self.panels.reserve(depth * self.path.padded(columns));
        for first in (0..columns).step_by(width) {
            for row in 0..depth {
                for column in first..first + width {
                    self.panels.push(if column < columns { element(row, column) } else { 0.0 });
                }
            }
        }
    }

    /// Columns of the product's output buffer.
    pub fn padded_columns(&self) -> usize {
        self.path.padded(self.columns)
    }
}

/// `out += left * right`, for `rows` rows.
///
/// `left` holds rows of `left_stride` floats of which the first `right.depth`
/// count; `out` holds rows of `out_stride` floats, at least
/// [`Packed::padded_columns`].
///
/// # Panics
/// When a buffer is shorter than its rows and stride need: the unsafe tiles
/// below rely on this check.
pub fn multiply_add(left: &[f32], left_stride: usize, rows: usize, right: &Packed, out: &mut [f32], out_stride: usize) {
    if rows == 0 || right.depth == 0 || right.columns == 0 {
        return;
    }
    assert!(
        left_stride >= right.depth && left.len() >= (rows - 1) * left_stride + right.depth,
        "left side is too short"
    );
    assert!(
        out_stride >= right.padded_columns() && out.len() >= (rows - 1) * out_stride + right.padded_columns(),
        "output is too short"
    );
    assert_eq!(right.panels.len(), right.depth * right.padded_columns(), "right side is not packed");
    let width = right.path.panel_width();
    for block in (0..rows).step_by(ROW_BLOCK) {
        let block_rows = ROW_BLOCK.min(rows - block);
        for from in (0..right.depth).step_by(DEPTH) {
            let depth = DEPTH.min(right.depth - from);
            for (index, panel) in right.panels.chunks_exact(right.depth * width).enumerate() {
                let panel = &panel[from * width..(from + depth) * width];
                tiles(
                    right.path,
                    &left[block * left_stride + from..],
                    left_stride,
                    block_rows,
                    depth,
                    panel,
                    &mut out[block * out_stride + index * width..],
                    out_stride,
                );
            }
        }
    }
}

/// Runs one panel over a block of rows, tile by tile.
#[allow(clippy::too_many_arguments, reason = "the shape of a matrix product")]
fn tiles(
    path: Path,
    left: &[f32],
    left_stride: usize,
    rows: usize,
    depth: usize,
    panel: &[f32],
    out: &mut [f32],
    out_stride: usize,
) {
    let width = path.panel_width();
    let tallest = match path {
        Path::Portable => 4,
        Path::Avx2 => 6,
        Path::Avx512 => 12,
    };
    let mut row = 0;
    while row < rows {
        let height = tallest.min(rows - row);
        let left = &left[row * left_stride..];
        let out = &mut out[row * out_stride..];
        debug_assert!(left.len() >= (height - 1) * left_stride + depth);
        debug_assert!(out.len() >= (height - 1) * out_stride + width);
        debug_assert!(panel.len() >= depth * width);
        match path {
            Path::Portable => portable_tile(left, left_stride, height, depth, panel, out, out_stride),
            // SAFETY: `Packed::empty` refuses a path whose instructions are missing,
            // and the three lengths were asserted by `multiply_add`.
            #[cfg(target_arch = "x86_64")]
            Path::Avx2 => unsafe {
                x86::avx2(left.as_ptr(), left_stride, height, depth, panel.as_ptr(), out.as_mut_ptr(), out_stride);
            },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Path::Avx512 => unsafe {
                x86::avx512(left.as_ptr(), left_stride, height, depth, panel.as_ptr(), out.as_mut_ptr(), out_stride);
            },
            #[cfg(not(target_arch = "x86_64"))]
            Path::Avx2 | Path::Avx512 => unreachable!("not offered by Path::available here"),
        }
        row += height;
    }
}

fn portable_tile(
    left: &[f32],
    left_stride: usize,
    rows: usize,
    depth: usize,
    panel: &[f32],
    out: &mut [f32],
    out_stride: usize,
) {
    for row in 0..rows {
        let out = &mut out[row * out_stride..row * out_stride + 16];
        let mut sums = [0.0f32; 16];
        sums.copy_from_slice(out);
        let left = &left[row * left_stride..row * left_stride + depth];
        for (value, columns) in left.iter().zip(panel.chunks_exact(16)) {
            for (sum, column) in sums.iter_mut().zip(columns) {
                *sum += value * column;
            }
        }
        out.copy_from_slice(&sums);
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{
        __m256, __m512, _mm256_broadcast_ss, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_setzero_ps, _mm256_storeu_ps,
        _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_set1_ps, _mm512_setzero_ps, _mm512_storeu_ps,
    };

    /// Runs the tile of the given height.
    macro_rules! by_height {
        ($tile:ident, $height:expr, [$($known:literal)+], $arguments:tt) => {
            match $height {
                $($known => $tile::<$known> $arguments,)+
                _ => unreachable!("tiles() never asks for a taller tile"),
            }
        };
    }

    /// # Safety
    /// AVX2 and FMA are present; `left` holds `rows` rows of `depth` floats at
    /// `left_stride`, `panel` holds `depth` x 16, `out` holds `rows` rows of 16
    /// at `out_stride`; `rows` is 1 to 6.
    #[target_feature(enable = "avx2,fma")]
    pub unsafe fn avx2(
        left: *const f32,
        left_stride: usize,
        rows: usize,
        depth: usize,
        panel: *const f32,
        out: *mut f32,
        out_stride: usize,
    ) {
        // SAFETY: the caller's promise is passed on unchanged.
        unsafe {
            by_height!(tile_avx2, rows, [1 2 3 4 5 6], (left, left_stride, depth, panel, out, out_stride));
        }
    }

    #[target_feature(enable = "avx2,fma")]
    unsafe fn tile_avx2<const ROWS: usize>(
        left: *const f32,
        left_stride: usize,
        depth: usize,
        panel: *const f32,
        out: *mut f32,
        out_stride: usize,
    ) {
        // SAFETY: every pointer below stays inside the lengths that `avx2` demands.
        unsafe {
            let mut sums: [[__m256; 2]; ROWS] = [[_mm256_setzero_ps(); 2]; ROWS];
            for (row, sum) in sums.iter_mut().enumerate() {
                sum[0] = _mm256_loadu_ps(out.add(row * out_stride));
                sum[1] = _mm256_loadu_ps(out.add(row * out_stride + 8));
            }
            for step in 0..depth {
                let first = _mm256_loadu_ps(panel.add(step * 16));
                let second = _mm256_loadu_ps(panel.add(step * 16 + 8));
                for (row, sum) in sums.iter_mut().enumerate() {
                    let value = _mm256_broadcast_ss(&*left.add(row * left_stride + step));
                    sum[0] = _mm256_fmadd_ps(value, first, sum[0]);
                    sum[1] = _mm256_fmadd_ps(value, second, sum[1]);
                }
            }
            for (row, sum) in sums.iter().enumerate() {
                _mm256_storeu_ps(out.add(row * out_stride), sum[0]);
                _mm256_storeu_ps(out.add(row * out_stride + 8), sum[1]);
            }
        }
    }

    /// # Safety
    /// AVX-512F is present; `left` holds `rows` rows of `depth` floats at
    /// `left_stride`, `panel` holds `depth` x 32, `out` holds `rows` rows of 32
    /// at `out_stride`; `rows` is 1 to 12.
    #[target_feature(enable = "avx512f")]
    pub unsafe fn avx512(
        left: *const f32,
        left_stride: usize,
        rows: usize,
        depth: usize,
        panel: *const f32,
        out: *mut f32,
        out_stride: usize,
    ) {
        // SAFETY: the caller's promise is passed on unchanged.
        unsafe {
            by_height!(tile_avx512, rows, [1 2 3 4 5 6 7 8 9 10 11 12], (left, left_stride, depth, panel, out, out_stride));
        }
    }

    #[target_feature(enable = "avx512f")]
    unsafe fn tile_avx512<const ROWS: usize>(
        left: *const f32,
        left_stride: usize,
        depth: usize,
        panel: *const f32,
        out: *mut f32,
        out_stride: usize,
    ) {
        // SAFETY: every pointer below stays inside the lengths that `avx512` demands.
        unsafe {
            let mut sums: [[__m512; 2]; ROWS] = [[_mm512_setzero_ps(); 2]; ROWS];
            for (row, sum) in sums.iter_mut().enumerate() {
                sum[0] = _mm512_loadu_ps(out.add(row * out_stride));
                sum[1] = _mm512_loadu_ps(out.add(row * out_stride + 16));
            }
            for step in 0..depth {
                let first = _mm512_loadu_ps(panel.add(step * 32));
                let second = _mm512_loadu_ps(panel.add(step * 32 + 16));
                for (row, sum) in sums.iter_mut().enumerate() {
                    let value = _mm512_set1_ps(*left.add(row * left_stride + step));
                    sum[0] = _mm512_fmadd_ps(value, first, sum[0]);
                    sum[1] = _mm512_fmadd_ps(value, second, sum[1]);
                }
            }
            for (row, sum) in sums.iter().enumerate() {
                _mm512_storeu_ps(out.add(row * out_stride), sum[0]);
                _mm512_storeu_ps(out.add(row * out_stride + 16), sum[1]);
            }
        }
    }
}

/// Runs `$body` compiled for the widest vectors that the processor has. The
/// bodies use plain multiplications and additions, which Rust never fuses, so
/// every path gives the same bits.
macro_rules! widened {
    ($(#[$doc:meta])* $name:ident, $body:ident, ($($argument:ident: $kind:ty),+)) => {
        $(#[$doc])*
        pub fn $name(path: Path, $($argument: $kind),+) {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2,fma")]
                fn avx2($($argument: $kind),+) { $body($($argument),+); }
                #[target_feature(enable = "avx512f")]
                fn avx512($($argument: $kind),+) { $body($($argument),+); }
                match path {
                    // SAFETY: the guard saw the instructions.
                    Path::Avx2 if path.is_available() => return unsafe { avx2($($argument),+) },
                    // SAFETY: the guard saw the instructions.
                    Path::Avx512 if path.is_available() => return unsafe { avx512($($argument),+) },
                    _ => {}
                }
            }
            let _ = path;
            $body($($argument),+);
        }
    };
}

widened!(
    /// The exact Gaussian error linear unit, in place: `x * (1 + erf(x / sqrt 2)) / 2`.
    /// `erf` by Abramowitz and Stegun 7.1.26, whose error is below 1.5e-7.
    gelu, gelu_body, (values: &mut [f32])
);
widened!(
    /// The softmax of a row, in place.
    softmax, softmax_body, (values: &mut [f32])
);
widened!(
    /// Adds `residual` to each row of `width`, normalises it to mean 0 and
    /// variance 1, then scales and shifts, in place.
    add_and_normalise, add_and_normalise_body, (rows: &mut [f32], residual: &[f32], scale: &[f32], shift: &[f32], epsilon: f32)
);

/// `e^x` for `x <= 0`, to about 1e-7 relative; below -87 it is zero.
/// Range reduction to 2^n * e^r with |r| <= ln(2)/2 and the Taylor polynomial of degree 6.
#[inline(always)]
fn exp_of_negative(x: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0; // 1.5 * 2^23: adding it rounds to a whole number
    let x = x.max(-87.0);
    let n = (x * std::f32::consts::LOG2_E + ROUND) - ROUND;
    let r = (x - n * 0.693_359_4) - n * -2.121_944_4e-4; // ln 2 in two parts
    let p = 1.0
        + r * (1.0 + r * (0.5 + r * (1.666_666_7e-1 + r * (4.166_666_6e-2 + r * (8.333_333e-3 + r * 1.388_888_9e-3)))));
    p * f32::from_bits(((n as i32 + 127) as u32) << 23)
}

#[inline(always)]
fn gelu_body(values: &mut [f32]) {
    for value in values {
        let x = *value;
        let z = (x * std::f32::consts::FRAC_1_SQRT_2).abs();
        let t = 1.0 / (1.0 + 0.327_591_1 * z);
        let poly = t * (0.254_829_6 + t * (-0.284_496_74 + t * (1.421_413_7 + t * (-1.453_152 + t * 1.061_405_4))));
        let erf = 1.0 - poly * exp_of_negative(-(z * z));
        *value = 0.5 * x * (1.0 + erf.copysign(x));
    }
}

#[inline(always)]
fn softmax_body(values: &mut [f32]) {
    let largest = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    for value in values.iter_mut() {
        *value = exp_of_negative(*value - largest);
    }
    let scale = 1.0 / sum(values);
    for value in values {
        *value *= scale;
    }
}

/// A sum in sixteen lanes: an order that vectorises and never changes.
#[inline(always)]
fn sum(values: &[f32]) -> f32 {
    let mut lanes = [0.0f32; 16];
    let chunks = values.chunks_exact(16);
    let rest: f32 = chunks.remainder().iter().sum();
    for chunk in chunks {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane += value;
        }
    }
    lanes.iter().sum::<f32>() + rest
}

#[inline(always)]
fn add_and_normalise_body(rows: &mut [f32], residual: &[f32], scale: &[f32], shift: &[f32], epsilon: f32) {
    let width = scale.len();
    for (row, residual) in rows.chunks_exact_mut(width).zip(residual.chunks_exact(width)) {
        for (value, extra) in row.iter_mut().zip(residual) {
            *value += extra;
        }
        let mean = sum(row) / width as f32;
        let mut lanes = [0.0f32; 16];
        for chunk in row.chunks(16) {
            for (lane, value) in lanes.iter_mut().zip(chunk) {
                let distance = value - mean;
                *lane += distance * distance;
            }
        }
        let inverse = 1.0 / (lanes.iter().sum::<f32>() / width as f32 + epsilon).sqrt();
        for ((value, scale), shift) in row.iter_mut().zip(scale).zip(shift) {
            *value = (*value - mean) * inverse * scale + shift;
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
            softmax(path, &mut row);
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
