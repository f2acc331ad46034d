//! Names the folder of the mentoring heads in force, so that they can be compiled in.

use std::path::{Path, PathBuf};

fn main() {
    let heads = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/mentoring/heads");
    let pointer = heads.join("active.toml");
    println!("cargo:rerun-if-changed={}", pointer.display());
    let text = std::fs::read_to_string(&pointer).unwrap_or_default();
    let version = text
        .lines()
        .find_map(|line| line.trim().strip_prefix("version")?.trim_start().strip_prefix('='))
        .map_or("none", |value| value.trim().trim_matches('"'));
    let mut folder = heads.join(version);
    if !folder.join("heads.toml").is_file() {
        // Nothing trained yet: it compiles, and says so when they are asked for.
        folder = PathBuf::from(std::env::var("OUT_DIR").unwrap_or_default());
        for name in ["heads.toml", "heads.safetensors"] {
            std::fs::write(folder.join(name), "").expect("a build script may write to its own folder");
        }
    }
    println!("cargo:rustc-env=MOOTHALL_MENTORING_HEADS={}", folder.display());
}
