//! For build scripts of firmware: brings in the model, sizes its memory and checks that it fits the chip.
//!
//! | variable | |
//! |---|---|
//! | `RESIDUAL_MODEL` | the model file (`.rsd`), relative to the crate; an untrained ResNet-20 without it |
//!
//! A model that is damaged, or that needs more memory than the chip has, ends the build with the reason.

use std::{env, error::Error, fs, path::PathBuf};

use residual_core::rsd::{AlignedBytes, View, synthetic};
use residual_edge::{Fast, Small, arena_bytes};

/// What the application needs besides the model's memory: the stack, and the statics of drivers and logging.
const REST: usize = 12 * 1024;

/// Everything: `memory.x` is the text of the linker's memory description.
///
/// # Errors
/// One line that says what does not fit.
pub fn firmware(memory: &str) -> Result<(), Box<dyn Error>> {
    let out = out_dir()?;
    let model = model()?;
    let sizes = write_sizes(&model, &out)?;
    let ram = region(memory, "RAM").ok_or("memory.x has no RAM of a length in K or M")?;
    let flash = region(memory, "FLASH").ok_or("memory.x has no FLASH of a length in K or M")?;
    if sizes + REST > ram {
        return Err(format!("the model needs {sizes} bytes of RAM and the rest {REST}, the chip has {ram}").into());
    }
    if model.len() > flash {
        return Err(format!("the model has {} bytes, the chip's flash {flash}", model.len()).into());
    }
    fs::write(out.join("memory.x"), memory)?;
    println!("cargo::rustc-link-search={}", out.display());
    println!("cargo::rustc-link-arg-bins=--nmagic");
    println!("cargo::rustc-link-arg-bins=-Tlink.x");
    Ok(())
}

/// The build script's folder.
///
/// # Errors
/// Outside of a build script there is none.
pub fn out_dir() -> Result<PathBuf, Box<dyn Error>> {
    Ok(env::var_os("OUT_DIR").ok_or("this runs in build scripts")?.into())
}

/// The bytes of the file that `variable` names.
///
/// # Errors
/// If it cannot be read.
pub fn read(variable: &str) -> Result<Option<Vec<u8>>, Box<dyn Error>> {
    println!("cargo::rerun-if-env-changed={variable}");
    let Some(path) = env::var_os(variable).map(PathBuf::from) else { return Ok(None) };
    println!("cargo::rerun-if-changed={}", path.display());
    Ok(Some(fs::read(&path).map_err(|e| format!("{variable}: {}: {e}", path.display()))?))
}

/// The model.
///
/// # Errors
/// If it cannot be read.
pub fn model() -> Result<AlignedBytes, Box<dyn Error>> {
    Ok(match read("RESIDUAL_MODEL")? {
        Some(bytes) => AlignedBytes::from(&bytes[..]),
        None => synthetic(&"resnet20-cifar".parse()?, 1)?,
    })
}

/// Bytes of arena for the engine's mode that the features choose.
///
/// # Errors
/// If the model is damaged.
pub fn arena(model: &[u8]) -> Result<usize, Box<dyn Error>> {
    let small = env::var_os("CARGO_FEATURE_SMALL").is_some();
    Ok(if small { arena_bytes::<Small>(model)? } else { arena_bytes::<Fast>(model)? })
}

/// Writes `model.rsd` and `sizes.rs` for [`memory!`](crate::memory!); the bytes of RAM they ask for.
fn write_sizes(model: &[u8], out: &std::path::Path) -> Result<usize, Box<dyn Error>> {
    let view = View::new_checked(model).map_err(|e| format!("RESIDUAL_MODEL: {e}"))?;
    let (input, output) = view.input().zip(view.output()).ok_or("RESIDUAL_MODEL: no input or output")?;
    let (arena, picture) = (arena(model)?, input.shape.elements());
    let (classes, ops) = (output.shape.elements(), view.ops());
    let sizes = format!("Sizes {{ arena: {arena}, picture: {picture}, classes: {classes}, ops: {ops} }}");
    fs::write(out.join("model.rsd"), model)?;
    fs::write(out.join("sizes.rs"), sizes)?;
    Ok(arena + picture + 2 * classes + 4 * ops)
}

/// The length of a region in a linker's memory description.
fn region(memory: &str, name: &str) -> Option<usize> {
    let line = memory.lines().find(|line| line.trim_start().starts_with(name))?;
    let (_, length) = line.split_once("LENGTH")?;
    let length = length.trim_start_matches([' ', '=']).trim_end();
    let (digits, unit) = length.split_at_checked(length.find(|c: char| !c.is_ascii_digit())?)?;
    let unit = match unit.trim() {
        "K" => 1 << 10,
        "M" => 1 << 20,
        _ => return None,
    };
    digits.parse::<usize>().ok()?.checked_mul(unit)
}

#[cfg(test)]
mod tests {
    use super::region;

    #[test]
    fn regions_are_read_as_linkers_read_them() {
        let memory =
            "MEMORY {\n  /* RAM here */\n  FLASH : ORIGIN = 0x0, LENGTH = 1M\n  RAM (rwx): ORIGIN = 1, LENGTH=128K\n}";
        assert_eq!((region(memory, "FLASH"), region(memory, "RAM")), (Some(1 << 20), Some(128 << 10)));
        for wrong in ["", "RAM", "RAM : LENGTH = ", "RAM : LENGTH = 1", "RAM : LENGTH = 1G", "RAM : LENGTH = K"] {
            assert_eq!(region(wrong, "RAM"), None, "{wrong}");
        }
        for memory in [include_str!("../../nrf52840/memory.x"), include_str!("../../stm32f4/memory/stm32f411.x")] {
            assert!(region(memory, "RAM").is_some() && region(memory, "FLASH").is_some());
        }
    }
}
