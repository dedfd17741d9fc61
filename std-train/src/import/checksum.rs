//! A checksum of a safetensors file, in its own metadata: CRC-32 of all bytes, the checksum's digits counting as zeros.
//!
//! A second entry says that there is a checksum, so that a damaged key does not pass for a file without one.

use std::collections::BTreeMap;

use super::{error::Fault, keys, map::Bytes};

/// What a checksum is before it is known.
const ZEROS: &str = "00000000";

/// The value of [`keys::WRITER`].
const WRITER: &str = "residual";

/// Adds both entries to the metadata of a file that is to be written.
pub(super) fn announce(metadata: &mut BTreeMap<String, String>) {
    metadata.insert(keys::WRITER.into(), WRITER.into());
    metadata.insert(keys::CHECKSUM.into(), ZEROS.into());
}

/// Where the digits lie in a header: quotes inside of strings are escaped, so nothing else looks like this.
fn find(header: &[u8]) -> Option<usize> {
    let key = format!("\"{}\":\"", keys::CHECKSUM);
    let at = header.windows(key.len()).position(|part| part == key.as_bytes())? + key.len();
    (header.get(at + ZEROS.len()) == Some(&b'"')).then_some(at)
}

/// Replaces the zeros in a header by the checksum of the file that begins with its length and it and goes on with what
/// `rest` hands out in pieces.
pub(super) fn seal(header: &mut String, rest: impl FnOnce(&mut dyn FnMut(&[u8]))) {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&(header.len() as u64).to_le_bytes());
    hasher.update(header.as_bytes());
    rest(&mut |part| hasher.update(part));
    if let Some(at) = find(header.as_bytes()) {
        header.replace_range(at..at + ZEROS.len(), &format!("{:08x}", hasher.finalize()));
    }
}

/// Compares a file with its checksum and takes the entries about it out of the metadata; whether there was one.
pub(super) fn verify(bytes: &Bytes, header: &[u8], metadata: &mut BTreeMap<String, String>) -> Result<bool, Fault> {
    let announced = metadata.remove(keys::WRITER).is_some_and(|writer| writer == WRITER);
    let stored = match (metadata.remove(keys::CHECKSUM), announced) {
        (None, false) => return Ok(false),
        (None, true) => return Err(Fault::format("it is damaged: its checksum is missing")),
        (Some(stored), _) => stored,
    };
    let begin = size_of::<u64>();
    let Some(at) = find(header).map(|at| at + begin) else {
        return Err(Fault::format("it is damaged: its checksum is not where it was written"));
    };
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&bytes[..at]);
    hasher.update(ZEROS.as_bytes());
    for part in bytes[at + ZEROS.len()..].chunks(1 << 20) {
        hasher.update(part);
        // What is looked at once need not stay in memory.
        bytes.release(part);
    }
    let found = format!("{:08x}", hasher.finalize());
    if found == stored {
        return Ok(true);
    }
    Err(Fault::format(format!(
        "it is damaged: its checksum is {}, its content has {found}; take a copy of it from elsewhere (after a change by \
         another program, remove {} from the metadata)",
        super::clean(&stored),
        keys::CHECKSUM
    )))
}
