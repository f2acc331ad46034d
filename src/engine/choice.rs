//! Which encoder runs and on what: `[engine]` of the settings, `--engine` and `--device`.

use std::fmt;

/// Whether this binary carries the rust-bert engine.
pub const HAS_RUST_BERT: bool = cfg!(feature = "rust-bert");

/// What to do where it does not.
pub const WITHOUT_RUST_BERT: &str = "this binary was built without the rust-bert engine: fetch libtorch with \
    scripts/libtorch and build with `cargo build --release --features rust-bert` (docs/engines.md)";

/// What libtorch computes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Device {
    /// The processor.
    #[default]
    Cpu,
    /// The NVIDIA GPU with this number.
    Cuda(usize),
}

impl Device {
    /// `cpu` or `cuda:N`.
    pub fn from_key(key: &str) -> Option<Self> {
        match key.split_once(':') {
            None => (key == "cpu").then_some(Self::Cpu),
            Some((kind, number)) => number.parse().ok().filter(|_| kind == "cuda").map(Self::Cuda),
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(number) => write!(f, "cuda:{number}"),
        }
    }
}

/// Which encoder runs. Both read the same files and give the same answers, but for float noise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EngineChoice {
    /// The pure-Rust one, on the processor.
    #[default]
    BuiltIn,
    /// rust-bert on libtorch.
    RustBert(Device),
}

impl EngineChoice {
    /// Keys of the engines.
    pub const KINDS: [&str; 2] = ["built-in", "rust-bert"];

    /// Where libtorch computes, should anything need it.
    pub fn device(self) -> Device {
        match self {
            Self::BuiltIn => Device::Cpu,
            Self::RustBert(device) => device,
        }
    }
}

impl fmt::Display for EngineChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BuiltIn => f.write_str("built-in"),
            Self::RustBert(device) => write!(f, "rust-bert on {device}"),
        }
    }
}

/// What is done before a text goes to the encoder: `engine.cheap_first`, `--cheap-first`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CheapFirst {
    /// A text that was judged before is not judged again, and the line settles plain spam by the first stage.
    #[default]
    On,
    /// Repeats alone.
    Repeats,
    /// Nothing: every comment is encoded.
    Off,
}

impl CheapFirst {
    /// Keys, in the order of the variants.
    pub const KINDS: [&str; 3] = ["on", "repeats", "off"];

    /// The choice with this key.
    pub fn from_key(key: &str) -> Option<Self> {
        [Self::On, Self::Repeats, Self::Off]
            .into_iter()
            .zip(Self::KINDS)
            .find(|(_, known)| *known == key)
            .map(|(one, _)| one)
    }

    /// Whether an equal text's judgement is taken again.
    pub fn reuses(self) -> bool {
        self != Self::Off
    }

    /// Whether the first stage may settle plain spam.
    pub fn settles(self) -> bool {
        self == Self::On
    }
}

#[cfg(test)]
mod tests {
    use super::Device;

    #[test]
    fn a_device_is_the_processor_or_a_numbered_gpu() {
        assert_eq!(Device::from_key("cpu"), Some(Device::Cpu));
        assert_eq!(Device::from_key("cuda:1"), Some(Device::Cuda(1)));
        for wrong in ["", "cuda", "cuda:", "cuda:x", "cpu:0", "gpu:0"] {
            assert_eq!(Device::from_key(wrong), None, "{wrong}");
        }
    }
}
