//! Sizes of a linked firmware.

use std::{fs, path::Path};

use anyhow::{Context, Result};
use object::{Object, ObjectSection, ObjectSymbol};

/// What a firmware takes besides its model.
pub struct Size {
    /// code and constants, in bytes
    pub code: u64,
    /// statics, in bytes
    pub ram: u64,
    /// names of what is linked of `core::panicking`: every panic but the firmware's own goes through it
    pub panics: Vec<String>,
}

/// Reads the sizes of `elf`.
pub fn size(elf: &Path) -> Result<Size> {
    let bytes = fs::read(elf).with_context(|| elf.display().to_string())?;
    let file = object::File::parse(&*bytes).with_context(|| elf.display().to_string())?;
    let of = |names: &[&str]| -> u64 {
        let sections = file.sections().filter(|s| s.name().is_ok_and(|n| names.contains(&n)));
        sections.map(|s| s.size()).sum()
    };
    let all = of(&[".vector_table", ".text", ".rodata", ".data"]);
    let ram = of(&[".data", ".bss", ".uninit"]);
    let mut data = 0;
    let mut panics = Vec::new();
    for symbol in file.symbols() {
        let Ok(name) = symbol.name() else { continue };
        if ["model", "pictures"].iter().any(|data| name.eq_ignore_ascii_case(data)) {
            data += symbol.size();
        }
        if name.contains("panicking") && symbol.size() > 0 {
            panics.push(name.to_string());
        }
    }
    panics.sort();
    panics.dedup();
    Ok(Size { code: all - data.min(all), ram, panics })
}
