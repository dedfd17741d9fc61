//! The zip archive of `torch.save` since PyTorch 1.6: stored entries below one folder.

use std::{
    collections::{HashMap, hash_map::Entry as Place},
    ops::Range,
};

use rawzip::{CompressionMethod, ErrorKind, ZipArchive, ZipArchiveEntryWayfinder, ZipSliceArchive};

use super::super::error::{Fault, clean};

pub struct Archive<'a> {
    bytes: &'a [u8],
    zip: ZipSliceArchive<&'a [u8]>,
    /// by name, which are bytes of any kind
    entries: HashMap<Vec<u8>, Entry>,
    /// with its slash
    folder: Vec<u8>,
    /// bytes that may still be verified: entries which overlap would make it quadratic
    budget: usize,
}

/// What the archive's directory says of an entry.
struct Entry {
    at: ZipArchiveEntryWayfinder,
    method: CompressionMethod,
    encrypted: bool,
    crc: u32,
    /// where it lies, once its checksum is verified
    verified: Option<Range<usize>>,
}

impl<'a> Archive<'a> {
    pub fn new(bytes: &'a [u8]) -> Result<Self, Fault> {
        let zip = ZipArchive::from_slice(bytes).map_err(unreadable)?;
        let mut entries = HashMap::new();
        for record in zip.entries() {
            let record = record.map_err(unreadable)?;
            let Place::Vacant(place) = entries.entry(record.file_path().as_bytes().to_vec()) else {
                return Err(Fault::format("two entries of the archive have the same name"));
            };
            place.insert(Entry {
                at: record.wayfinder(),
                method: record.compression_method(),
                encrypted: record.flags().is_encrypted(),
                crc: record.crc32(),
                verified: None,
            });
        }
        let folder = folder(entries.keys())?;
        Ok(Archive { bytes, zip, entries, folder, budget: bytes.len() })
    }

    /// Where the entry called `name` lies in the file, its checksum verified; `None` if there is none.
    pub fn find(&mut self, name: &str) -> Result<Option<Range<usize>>, Fault> {
        let Some(entry) = self.entries.get_mut(&[&self.folder, name.as_bytes()].concat()) else { return Ok(None) };
        if entry.verified.is_some() {
            return Ok(entry.verified.clone());
        }
        let shown = clean(name);
        if entry.encrypted {
            return Err(Fault::format(format!("entry {shown} is encrypted; torch.save encrypts nothing")));
        }
        if entry.method != CompressionMethod::STORE {
            let method = entry.method.name().map_or_else(|| entry.method.as_u16().to_string(), str::to_lowercase);
            return Err(Fault::format(format!("entry {shown} is compressed ({method}); torch.save stores entries")));
        }
        let (packed, size) = (entry.at.compressed_size_hint(), entry.at.uncompressed_size_hint());
        if packed != size {
            let reason = format!("entry {shown} is stored, but its sizes disagree: {packed} and {size} bytes");
            return Err(Fault::format(reason));
        }
        let outside = || Fault::format(format!("entry {shown} reaches beyond the end of the file"));
        let found = self.zip.get_entry(entry.at).map_err(|error| match error.kind() {
            ErrorKind::Eof => outside(),
            _ => unreadable(error),
        })?;
        let (start, end) = found.compressed_data_range();
        let range = usize::try_from(start).and_then(|start| Ok(start..usize::try_from(end)?)).map_err(|_| outside())?;
        let content = self.bytes.get(range.clone()).ok_or_else(outside)?;
        self.budget = self
            .budget
            .checked_sub(content.len())
            .ok_or_else(|| Fault::format("entries of the archive overlap each other"))?;
        // A fuzzer cannot guess checksums.
        if !cfg!(fuzzing) && crc32fast::hash(content) != entry.crc {
            return Err(Fault::format(format!("entry {shown} is damaged: its checksum does not match")));
        }
        entry.verified = Some(range.clone());
        Ok(Some(range))
    }
}

/// The folder of the only `data.pkl`.
fn folder<'n>(names: impl Iterator<Item = &'n Vec<u8>>) -> Result<Vec<u8>, Fault> {
    let mut folders = names.filter_map(|name| {
        let folder = name.strip_suffix(b"data.pkl")?;
        let (slash, name) = folder.split_last()?;
        (*slash == b'/' && !name.contains(&b'/')).then_some(folder)
    });
    match (folders.next(), folders.next()) {
        (Some(folder), None) => Ok(folder.to_vec()),
        (Some(_), Some(_)) => Err(Fault::format("it has more than one data.pkl")),
        (None, _) => Err(Fault::format("the archive has no data.pkl, so torch.save did not write it")),
    }
}

fn unreadable(error: rawzip::Error) -> Fault {
    Fault::format(format!("not a readable zip archive: {}", clean(&error.to_string())))
}
