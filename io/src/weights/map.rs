//! The bytes of a file: mapped, or in memory.

use std::{fs::File, io, ops::Deref, path::Path};

use crate::open_regular;

/// Bytes whose address does not change while they are owned.
#[derive(Debug)]
pub(super) enum Bytes {
    Mapped(memmap2::Mmap),
    Memory(Vec<u8>),
}

impl Bytes {
    /// Maps a regular file for reading.
    pub fn map(path: &Path) -> io::Result<Self> {
        let file = open_regular(path)?;
        if file.metadata()?.len() == 0 {
            return Ok(Bytes::Memory(Vec::new()));
        }
        map_file(&file).map(Bytes::Mapped)
    }
}

impl Bytes {
    /// Gives the memory of a part of a mapped file back to the system: what is read again comes from the file again.
    pub fn release(&self, part: &[u8]) {
        #[cfg(unix)]
        if let Bytes::Mapped(map) = self
            && let Some(start) = part.as_ptr().addr().checked_sub(map.as_ptr().addr())
            && start.checked_add(part.len()).is_some_and(|end| end <= map.len())
        {
            release(map, start, part.len());
        }
        #[cfg(not(unix))]
        let _ = part;
    }
}

#[cfg(unix)]
#[allow(unsafe_code)]
fn release(map: &memmap2::Mmap, start: usize, len: usize) {
    // SAFETY: nothing is ever written to the map, which is private and of a regular file. So its pages hold what the file
    // holds, before and, read again, afterwards, as far as `map_file`'s promise goes.
    let advised = unsafe { map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, start, len) };
    // It was a hint.
    let _ = advised;
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
