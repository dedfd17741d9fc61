//! The binary version of CIFAR-10 and CIFAR-100 (Krizhevsky, 2009).

use std::{
    io,
    path::{Path, PathBuf},
};

use super::{Dataset, Split};
use crate::{DataError, Image, read_regular};

const SIDE: usize = 32;
const PLANE: usize = SIDE * SIDE;
/// Longest file of records, in bytes: the largest of both data sets has 154 MB.
const MAX_FILE: u64 = 1 << 30;
/// Longest file of class names, in bytes.
const MAX_NAMES: u64 = 1 << 20;

/// Which of the two data sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CifarKind {
    /// 10 classes; a record is a label byte and 3072 pixel bytes.
    Cifar10,
    /// 100 classes in 20 groups; a record is a coarse and a fine label byte and 3072 pixel bytes.
    Cifar100,
}

impl CifarKind {
    /// The number of classes: 10, or the fine classes of CIFAR-100.
    pub fn classes(self) -> usize {
        match self {
            CifarKind::Cifar10 => 10,
            CifarKind::Cifar100 => 100,
        }
    }

    /// Bytes of one record.
    pub fn record_len(self) -> usize {
        self.label_len() + 3 * PLANE
    }

    fn label_len(self) -> usize {
        match self {
            CifarKind::Cifar10 => 1,
            CifarKind::Cifar100 => 2,
        }
    }

    /// The folder the official archive unpacks to.
    pub fn folder(self) -> &'static str {
        match self {
            CifarKind::Cifar10 => "cifar-10-batches-bin",
            CifarKind::Cifar100 => "cifar-100-binary",
        }
    }

    fn files(self, split: Split) -> &'static [&'static str] {
        match (self, split) {
            (CifarKind::Cifar10, Split::Train) => {
                &["data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin", "data_batch_4.bin", "data_batch_5.bin"]
            }
            (CifarKind::Cifar10, Split::Validation | Split::Test) => &["test_batch.bin"],
            (CifarKind::Cifar100, Split::Train) => &["train.bin"],
            (CifarKind::Cifar100, Split::Validation | Split::Test) => &["test.bin"],
        }
    }

    fn names_file(self) -> &'static str {
        match self {
            CifarKind::Cifar10 => "batches.meta.txt",
            CifarKind::Cifar100 => "fine_label_names.txt",
        }
    }

    /// Whether `dir` holds any file of this kind.
    fn is_in(self, dir: &Path) -> bool {
        [Split::Train, Split::Test].iter().flat_map(|split| self.files(*split)).any(|f| dir.join(f).is_file())
    }
}

/// CIFAR's binary files, held in memory: 32 x 32 RGB.
#[derive(Debug)]
pub struct Cifar {
    kind: CifarKind,
    dir: PathBuf,
    classes: Vec<String>,
    files: Vec<CifarFile>,
}

/// One file of records, checked.
#[derive(Debug)]
pub struct CifarFile {
    kind: CifarKind,
    path: PathBuf,
    bytes: Vec<u8>,
}

impl CifarFile {
    /// Checks the records of one file; `path` is what errors and pictures call it.
    ///
    /// # Errors
    /// [`DataError::RecordLength`] or [`DataError::Label`].
    pub fn new(kind: CifarKind, path: impl Into<PathBuf>, bytes: Vec<u8>) -> Result<Self, DataError> {
        let path = path.into();
        let record = kind.record_len();
        if bytes.is_empty() || !bytes.len().is_multiple_of(record) {
            return Err(DataError::RecordLength { path, len: bytes.len() as u64, record });
        }
        let labels: &[(&'static str, usize)] = match kind {
            CifarKind::Cifar10 => &[("label", 10)],
            CifarKind::Cifar100 => &[("coarse label", 20), ("fine label", 100)],
        };
        for (index, bytes) in bytes.chunks_exact(record).enumerate() {
            for (&label, &(kind, classes)) in bytes.iter().zip(labels) {
                if usize::from(label) >= classes {
                    return Err(DataError::Label { path, record: index, kind, label, classes });
                }
            }
        }
        Ok(CifarFile { kind, path, bytes })
    }

    /// The number of records, at least 1.
    #[expect(clippy::len_without_is_empty, reason = "never empty")]
    pub fn len(&self) -> usize {
        self.bytes.len() / self.kind.record_len()
    }

    fn record(&self, index: usize) -> Option<&[u8]> {
        self.bytes.chunks_exact(self.kind.record_len()).nth(index)
    }

    /// The (fine) label of a record.
    pub fn label(&self, index: usize) -> Option<usize> {
        self.record(index).map(|r| usize::from(r[self.kind.label_len() - 1]))
    }

    /// The picture of a record: three planes to HWC.
    pub fn image(&self, index: usize) -> Option<Image> {
        let planes = self.record(index)?.get(self.kind.label_len()..)?;
        let (r, rest) = planes.split_at_checked(PLANE)?;
        let (g, b) = rest.split_at_checked(PLANE)?;
        let mut pixels = Vec::with_capacity(3 * PLANE);
        for ((&r, &g), &b) in r.iter().zip(g).zip(b) {
            pixels.extend([r, g, b]);
        }
        Some(Image::from_parts(SIDE, SIDE, pixels))
    }
}

impl Cifar {
    /// Which kind `dir` holds and where: its files lie in `dir` itself or in the folder the
    /// official archive unpacks to.
    ///
    /// # Errors
    /// [`DataError::Ambiguous`] if both kinds are there.
    pub fn find(dir: &Path) -> Result<Option<(CifarKind, PathBuf)>, DataError> {
        let mut found = [CifarKind::Cifar10, CifarKind::Cifar100]
            .into_iter()
            .flat_map(|kind| [(kind, dir.to_path_buf()), (kind, dir.join(kind.folder()))])
            .filter(|(kind, dir)| kind.is_in(dir));
        match (found.next(), found.next()) {
            (Some(first), Some(second)) if first.0 != second.0 => {
                let shown = |(kind, dir): (CifarKind, PathBuf)| {
                    let inner = dir.file_name().filter(|name| *name == kind.folder());
                    inner.map_or_else(|| kind.files(Split::Test)[0].to_owned(), |n| n.to_string_lossy().into())
                };
                Err(DataError::Ambiguous { path: dir.into(), first: shown(first), second: shown(second) })
            }
            (first, _) => Ok(first),
        }
    }

    /// Reads all files of one part from `dir`, which holds them directly.
    ///
    /// Class names are those of `batches.meta.txt` or `fine_label_names.txt`; without that file,
    /// the label numbers.
    ///
    /// # Errors
    /// [`DataError::Io`] for a missing file, [`DataError::RecordLength`], [`DataError::Label`] or
    /// [`DataError::ClassNames`].
    pub fn open(dir: impl AsRef<Path>, kind: CifarKind, split: Split) -> Result<Self, DataError> {
        let dir = dir.as_ref();
        let read = |name: &&str| {
            let path = dir.join(name);
            let bytes = read_regular(&path, MAX_FILE).map_err(|source| DataError::Io { path: path.clone(), source })?;
            CifarFile::new(kind, path, bytes)
        };
        let files = kind.files(split).iter().map(read).collect::<Result<_, _>>()?;
        Ok(Cifar { kind, dir: dir.into(), classes: class_names(dir, kind)?, files })
    }

    /// Which data set this is.
    pub fn kind(&self) -> CifarKind {
        self.kind
    }

    /// The file and the record in it of picture `index`.
    fn locate(&self, index: usize) -> Option<(&CifarFile, usize)> {
        let mut record = index;
        for file in &self.files {
            match record.checked_sub(file.len()) {
                Some(later) => record = later,
                None => return Some((file, record)),
            }
        }
        None
    }
}

impl Dataset for Cifar {
    fn len(&self) -> usize {
        self.files.iter().map(CifarFile::len).sum()
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn label(&self, index: usize) -> usize {
        let label = self.locate(index).and_then(|(file, record)| file.label(record));
        label.unwrap_or_else(|| panic!("picture {index} of a data set of {}", self.len()))
    }

    fn image(&self, index: usize) -> Result<Image, DataError> {
        let image = self.locate(index).and_then(|(file, record)| file.image(record));
        image.ok_or_else(|| DataError::Index { index, len: self.len() })
    }

    fn name(&self, index: usize) -> String {
        let shown = |(file, record): (&CifarFile, usize)| format!("{} record {record}", file.path.display());
        self.locate(index).map_or_else(String::new, shown)
    }

    fn place(&self) -> String {
        self.dir.display().to_string()
    }
}

/// Refuses CIFAR in files for Python and Matlab, in `dir` or in the folder that their archives unpack to.
pub(super) fn refuse_other_versions(dir: &Path) -> Result<(), DataError> {
    const TEN: &str = "cifar-10-binary.tar.gz";
    const HUNDRED: &str = "cifar-100-binary.tar.gz";
    for (folder, file, version, archive) in [
        ("cifar-10-batches-py", "data_batch_1", "Python", TEN),
        ("cifar-10-batches-py", "test_batch", "Python", TEN),
        ("cifar-10-batches-mat", "data_batch_1.mat", "Matlab", TEN),
        ("cifar-10-batches-mat", "test_batch.mat", "Matlab", TEN),
        ("cifar-100-python", "train", "Python", HUNDRED),
        ("cifar-100-python", "test", "Python", HUNDRED),
        ("cifar-100-matlab", "train.mat", "Matlab", HUNDRED),
        ("cifar-100-matlab", "test.mat", "Matlab", HUNDRED),
        // What was downloaded and not unpacked.
        ("", "cifar-10-python.tar.gz", "Python", TEN),
        ("", "cifar-10-matlab.tar.gz", "Matlab", TEN),
        ("", "cifar-100-python.tar.gz", "Python", HUNDRED),
        ("", "cifar-100-matlab.tar.gz", "Matlab", HUNDRED),
    ] {
        if let Some(path) = [dir.to_path_buf(), dir.join(folder)].into_iter().find(|d| d.join(file).is_file()) {
            return Err(DataError::CifarVersion { path, file, version, archive });
        }
    }
    Ok(())
}

fn class_names(dir: &Path, kind: CifarKind) -> Result<Vec<String>, DataError> {
    let path = dir.join(kind.names_file());
    let text = match read_regular(&path, MAX_NAMES) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            return Ok((0..kind.classes()).map(|label| label.to_string()).collect());
        }
        Err(source) => return Err(DataError::Io { path, source }),
    };
    let names: Vec<String> = text.lines().map(str::trim).filter(|n| !n.is_empty()).map(str::to_owned).collect();
    match names.len() == kind.classes() {
        true => Ok(names),
        false => Err(DataError::ClassNames { path, names: names.len(), classes: kind.classes() }),
    }
}
