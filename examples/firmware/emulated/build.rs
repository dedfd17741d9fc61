//! Brings model and pictures into the firmware, sizes its arena, and describes the board's memory.
//!
//! `RESIDUAL_MODEL` and `RESIDUAL_PICTURES` name the files (without them: an untrained ResNet-20 and
//! one grey picture), `RESIDUAL_BOARD` the board.

use std::{env, fs, path::PathBuf};

use residual_core::format::{AlignedBytes, View, synthetic};
use residual_edge::{Fast, Small, arena_bytes};

const BOARDS: [(&str, &str); 5] = [
    ("mps2-an385", "FLASH : ORIGIN = 0x00000000, LENGTH = 4M\nRAM : ORIGIN = 0x20000000, LENGTH = 4M"),
    ("mps2-an386", "FLASH : ORIGIN = 0x00000000, LENGTH = 4M\nRAM : ORIGIN = 0x20000000, LENGTH = 4M"),
    ("mps2-an500", "FLASH : ORIGIN = 0x00000000, LENGTH = 4M\nRAM : ORIGIN = 0x20000000, LENGTH = 4M"),
    ("mps2-an505", "FLASH : ORIGIN = 0x10000000, LENGTH = 4M\nRAM : ORIGIN = 0x38000000, LENGTH = 4M"),
    ("mps3-an547", "FLASH : ORIGIN = 0x00000000, LENGTH = 512K\nRAM : ORIGIN = 0x20000000, LENGTH = 512K"),
];

fn read(variable: &str) -> Option<Vec<u8>> {
    println!("cargo::rerun-if-env-changed={variable}");
    let path = env::var_os(variable)?;
    println!("cargo::rerun-if-changed={}", path.display());
    Some(fs::read(&path).unwrap_or_else(|e| panic!("{variable}: {}: {e}", path.display())))
}

fn main() {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let model = match read("RESIDUAL_MODEL") {
        Some(bytes) => AlignedBytes::from(&bytes[..]),
        None => synthetic(&"resnet20-cifar".parse().expect("a valid name"), 1).expect("a valid network"),
    };
    let input = View::new_checked(&model).expect("a valid model").input().expect("a valid model");
    let pictures = read("RESIDUAL_PICTURES").unwrap_or_else(|| vec![0; input.shape.elements()]);
    assert!(pictures.len().is_multiple_of(input.shape.elements()), "pictures do not fit the model's input");
    let small = env::var_os("CARGO_FEATURE_SMALL").is_some();
    let arena = if small { arena_bytes::<Small>(&model) } else { arena_bytes::<Fast>(&model) };
    let constants = format!(
        "const MODEL_BYTES: usize = {};\nconst PICTURES_BYTES: usize = {};\nconst ARENA_BYTES: usize = {};\n",
        model.len(),
        pictures.len(),
        arena.expect("a valid model"),
    );
    fs::write(out.join("model.rsd"), &*model).expect("OUT_DIR is writable");
    fs::write(out.join("pictures.bin"), pictures).expect("OUT_DIR is writable");
    fs::write(out.join("constants.rs"), constants).expect("OUT_DIR is writable");

    println!("cargo::rerun-if-env-changed=RESIDUAL_BOARD");
    let board = env::var("RESIDUAL_BOARD").unwrap_or("mps2-an386".into());
    let memory = BOARDS.iter().find(|(name, _)| *name == board).unwrap_or_else(|| panic!("unknown board {board}"));
    fs::write(out.join("memory.x"), format!("MEMORY {{\n{}\n}}\n", memory.1)).expect("OUT_DIR is writable");
    // Handlers of a device's interrupts would be named here.
    fs::write(out.join("device.x"), "").expect("OUT_DIR is writable");
    println!("cargo::rustc-link-search={}", out.display());
    println!("cargo::rustc-link-arg=-Tlink.x");
    println!("cargo::rustc-link-arg=--nmagic");
}
