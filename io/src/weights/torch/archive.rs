//! The zip archive of `torch.save` since PyTorch 1.6: stored entries below one folder.

use std::{collections::HashMap, io::Cursor, ops::Range};

use zip::{
    CompressionMethod, ZipArchive,
    read::{ArchiveOffset, Config},
};

use super::super::error::{Fault, clean};

pub struct Archive<'a> {
    bytes: &'a [u8],
    zip: ZipArchive<Cursor<&'a [u8]>>,
    /// with its slash
    folder: String,
    /// entries that were verified
    known: HashMap<String, Range<usize>>,
    /// bytes that may still be verified: entries which overlap would make it quadratic
    budget: usize,
}

impl<'a> Archive<'a> {
    pub fn new(bytes: &'a [u8]) -> Result<Self, Fault> {
        let config = Config { archive_offset: ArchiveOffset::Known(0) };
        let zip = ZipArchive::with_config(config, Cursor::new(bytes)).map_err(unreadable)?;
        if zip.has_duplicate_names() {
            return Err(Fault::format("two entries of the archive have the same name"));
        }
        let folder = folder(&zip)?;
        Ok(Archive { bytes, zip, folder, known: HashMap::new(), budget: bytes.len() })
    }

    /// Where the entry called `name` lies in the file, its checksum verified; `None` if there is none.
    pub fn find(&mut self, name: &str) -> Result<Option<Range<usize>>, Fault> {
        if let Some(range) = self.known.get(name) {
            return Ok(Some(range.clone()));
        }
        let Some(index) = self.zip.index_for_name(&format!("{}{name}", self.folder)) else { return Ok(None) };
        let entry = self.zip.by_index_raw(index).map_err(unreadable)?;
        let name = name.to_owned();
        let shown = clean(&name);
        if entry.encrypted() {
            return Err(Fault::format(format!("entry {shown} is encrypted")));
        }
        if entry.compression() != CompressionMethod::Stored {
            let method = entry.compression();
            return Err(Fault::format(format!("entry {shown} is compressed ({method}); torch.save stores entries")));
        }
        let outside = || Fault::format(format!("entry {shown} reaches beyond the end of the file"));
        let start = entry.data_start().and_then(|n| usize::try_from(n).ok()).ok_or_else(outside)?;
        let size = usize::try_from(entry.size()).map_err(|_| outside())?;
        let range = start..start.checked_add(size).ok_or_else(outside)?;
        let content = self.bytes.get(range.clone()).ok_or_else(outside)?;
        self.budget =
            self.budget.checked_sub(size).ok_or_else(|| Fault::format("entries of the archive overlap each other"))?;
        // A fuzzer cannot guess checksums.
        if !cfg!(fuzzing) && crc32fast::hash(content) != entry.crc32() {
            return Err(Fault::format(format!("entry {shown} is damaged: its checksum does not match")));
        }
        self.known.insert(name, range.clone());
        Ok(Some(range))
    }
}

/// The folder of the only `data.pkl`.
fn folder(zip: &ZipArchive<Cursor<&[u8]>>) -> Result<String, Fault> {
    let mut folders = zip.file_names_raw().filter_map(|name| {
        let folder = name.strip_suffix(b"data.pkl")?;
        let (slash, name) = folder.split_last()?;
        (*slash == b'/' && !name.contains(&b'/')).then_some(folder)
    });
    match (folders.next(), folders.next()) {
        (Some(folder), None) => {
            str::from_utf8(folder).map(str::to_owned).map_err(|_| Fault::format("an entry's name is not UTF-8"))
        }
        (Some(_), Some(_)) => Err(Fault::format("it has more than one data.pkl")),
        (None, _) => Err(Fault::format("the archive has no data.pkl, so torch.save did not write it")),
    }
}

fn unreadable(error: zip::result::ZipError) -> Fault {
    Fault::format(clean(&error.to_string()))
}
