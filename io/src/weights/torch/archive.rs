//! The zip archive of `torch.save` since PyTorch 1.6: stored entries below one folder.

use std::{
    collections::{HashMap, hash_map::Entry as Slot},
    io,
    ops::Range,
};

use rawzip::{
    CompressionMethod, ErrorKind, MAX_CENTRAL_DIRECTORY_RECORD_SIZE, ZipArchive, ZipArchiveEntryWayfinder, ZipLocator,
};

use super::super::{
    error::{Fault, clean},
    place::all_finite,
    source::Source,
    store::Dtype,
};

pub struct Archive<'a> {
    source: &'a Source,
    zip: ZipArchive<&'a Source>,
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
    /// once its checksum is verified
    verified: Option<Content>,
}

/// Where an entry lies.
#[derive(Clone)]
pub struct Content {
    pub range: Range<usize>,
    /// what the elements were taken for, and whether all of them are then finite
    finite: (Dtype, bool),
}

impl Content {
    /// Whether it is known to hold finite elements of this type alone.
    pub fn is_finite(&self, dtype: Dtype) -> bool {
        self.finite == (dtype, true)
    }
}

impl<'a> Archive<'a> {
    pub fn new(source: &'a Source) -> Result<Self, Fault> {
        // Long enough for any entry of the directory.
        let mut room = vec![0; MAX_CENTRAL_DIRECTORY_RECORD_SIZE];
        let located = ZipLocator::new().locate_in_reader(source, &mut room, source.len() as u64);
        let zip = located.map_err(|(_, error)| unreadable(error))?;
        let (mut entries, mut records) = (HashMap::new(), zip.entries(&mut room));
        while let Some(record) = records.next_entry().map_err(unreadable)? {
            let Slot::Vacant(slot) = entries.entry(record.file_path().as_bytes().to_vec()) else {
                return Err(Fault::format("two entries of the archive have the same name"));
            };
            slot.insert(Entry {
                at: record.wayfinder(),
                method: record.compression_method(),
                encrypted: record.flags().is_encrypted(),
                crc: record.crc32(),
                verified: None,
            });
        }
        let folder = folder(entries.keys())?;
        Ok(Archive { source, zip, entries, folder, budget: source.len() })
    }

    /// Where the entry called `name` lies in the file, its checksum verified; `None` if there is none. On the way its
    /// elements, of type `dtype`, are looked at.
    pub fn find(&mut self, name: &str, dtype: Dtype) -> Result<Option<Content>, Fault> {
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
            ErrorKind::IO(end) if end.kind() == io::ErrorKind::UnexpectedEof => outside(),
            _ => unreadable(error),
        })?;
        let (start, end) = found.compressed_data_range();
        let range = usize::try_from(start).and_then(|start| Ok(start..usize::try_from(end)?)).map_err(|_| outside())?;
        if range.start > range.end || range.end > self.source.len() {
            return Err(outside());
        }
        self.budget = self
            .budget
            .checked_sub(range.len())
            .ok_or_else(|| Fault::format("entries of the archive overlap each other"))?;
        let (mut sum, mut finite) = (crc32fast::Hasher::new(), true);
        self.source.scan(range.clone(), |block| {
            sum.update(block);
            finite &= all_finite(dtype, block);
        })?;
        // A fuzzer cannot guess checksums.
        if !cfg!(fuzzing) && sum.finalize() != entry.crc {
            return Err(Fault::format(format!("entry {shown} is damaged: its checksum does not match")));
        }
        entry.verified = Some(Content { range, finite: (dtype, finite) });
        Ok(entry.verified.clone())
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
    match error.into_kind() {
        // The end is met where the archive is wrong about itself; all else is the system's.
        ErrorKind::IO(error) if error.kind() != io::ErrorKind::UnexpectedEof => Fault::Io(error),
        kind => Fault::format(format!("not a readable zip archive: {}", clean(&kind.to_string()))),
    }
}
