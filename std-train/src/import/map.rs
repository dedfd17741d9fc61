//! The bytes of a file: mapped, or in memory.

use std::{fs::File, io, ops::Deref, path::Path};

/// Bytes whose address does not change while they are owned.
#[derive(Debug)]
pub(super) enum Bytes {
    Mapped(memmap2::Mmap),
    Memory(Vec<u8>),
}

impl Bytes {
    /// Maps a regular file for reading.
    pub fn map(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let kind = file.metadata()?;
        if !kind.is_file() {
            return Err(io::Error::other("not a regular file"));
        }
        if kind.len() == 0 {
            return Ok(Bytes::Memory(Vec::new()));
        }
        map_file(&file).map(Bytes::Mapped)
    }
}

#[allow(unsafe_code)]
fn map_file(file: &File) -> io::Result<memmap2::Mmap> {
    // SAFETY: the map is read-only and private to this process, `Mmap` keeps it alive for as long as
    // a slice of it can exist, and every byte pattern is a valid u8 and f32. What remains is that
    // nobody changes the file while it is mapped, which no program can enforce: `WeightFile::open`
    // documents it as the caller's part, and this project itself replaces files by renaming, never in
    // place. All lengths and offsets are copied out and checked once, so that even a broken promise
    // changes values, never bounds; a file cut short raises SIGBUS.
    unsafe { memmap2::Mmap::map(file) }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Bytes::Mapped(map) => map,
            Bytes::Memory(bytes) => bytes,
        }
    }
}
