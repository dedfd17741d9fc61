//! Brings model and pictures into the firmware, sizes its arena, and describes the board's memory.
//!
//! `RESIDUAL_MODEL` and `RESIDUAL_PICTURES` name the files (without them: an untrained ResNet-20 and
//! one grey picture), `RESIDUAL_BOARD` the board.

use std::{env, error::Error, fs};

use firmware_app::build;
use residual_core::rsd::View;

const BOARDS: [(&str, &str); 5] = [
    ("mps2-an385", "FLASH : ORIGIN = 0x00000000, LENGTH = 4M\nRAM : ORIGIN = 0x20000000, LENGTH = 4M"),
    ("mps2-an386", "FLASH : ORIGIN = 0x00000000, LENGTH = 4M\nRAM : ORIGIN = 0x20000000, LENGTH = 4M"),
    ("mps2-an500", "FLASH : ORIGIN = 0x00000000, LENGTH = 4M\nRAM : ORIGIN = 0x20000000, LENGTH = 4M"),
    ("mps2-an505", "FLASH : ORIGIN = 0x10000000, LENGTH = 4M\nRAM : ORIGIN = 0x38000000, LENGTH = 4M"),
    ("mps3-an547", "FLASH : ORIGIN = 0x00000000, LENGTH = 512K\nRAM : ORIGIN = 0x20000000, LENGTH = 512K"),
];

fn main() -> Result<(), Box<dyn Error>> {
    let out = build::out_dir()?;
    let model = build::model()?;
    let input = View::new_checked(&model)?.input().ok_or("the model has no input")?;
    let pictures = build::read("RESIDUAL_PICTURES")?.unwrap_or_else(|| vec![0; input.shape.elements()]);
    if !pictures.len().is_multiple_of(input.shape.elements()) {
        return Err("pictures do not fit the model's input".into());
    }
    let constants = format!(
        "const MODEL_BYTES: usize = {};\nconst PICTURES_BYTES: usize = {};\nconst ARENA_BYTES: usize = {};\n",
        model.len(),
        pictures.len(),
        build::arena(&model)?,
    );
    fs::write(out.join("model.rsd"), &*model)?;
    fs::write(out.join("pictures.bin"), pictures)?;
    fs::write(out.join("constants.rs"), constants)?;

    println!("cargo::rerun-if-env-changed=RESIDUAL_BOARD");
    let board = env::var("RESIDUAL_BOARD").unwrap_or("mps2-an386".into());
    let memory = BOARDS.iter().find(|(name, _)| *name == board).ok_or_else(|| format!("unknown board {board}"))?;
    fs::write(out.join("memory.x"), format!("MEMORY {{\n{}\n}}\n", memory.1))?;
    // Handlers of a device's interrupts would be named here.
    fs::write(out.join("device.x"), "")?;
    println!("cargo::rustc-link-search={}", out.display());
    println!("cargo::rustc-link-arg=-Tlink.x");
    println!("cargo::rustc-link-arg=--nmagic");
    Ok(())
}
