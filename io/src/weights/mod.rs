//! Trained weights from safetensors and PyTorch files.
//!
//! [`WeightFile`] is a collection of named f32 tensors; [`spec_from`] finds out which network it holds and
//! [`check`] compares the two, reporting everything that disagrees at once. [`save`] writes safetensors.
//!
//! PyTorch files are read without Python and without running anything: a small interpreter understands
//! what rebuilding tensors needs and refuses every other object by name.

mod check;
mod entry;
mod error;
mod header;
pub mod keys;
mod place;
mod safetensors;
mod source;
mod store;
mod torch;

#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use residual_core::Error;
pub use residual_core::weights::{Tensor, Weights};

pub(crate) use self::error::clean;
pub use self::{
    check::{Mismatch, check, describe, spec_from, with_classes},
    error::ImportError,
    safetensors::save,
};
use self::{
    entry::{Entry, Open},
    source::Source,
    store::Collector,
};

/// The format of a weights file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// safetensors
    SafeTensors,
    /// `torch.save` since PyTorch 1.6
    TorchZip,
    /// `torch.save` before PyTorch 1.6
    TorchLegacy,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Format::SafeTensors => "safetensors",
            Format::TorchZip => "PyTorch",
            Format::TorchLegacy => "legacy PyTorch",
        })
    }
}

/// Named f32 tensors from a file.
///
/// Opening a file reads what says where its tensors lie, and where the file holds checksums, all of it once. The values
/// stay in the file: they are read, and half, bfloat16 and double precision and views with strides are converted, when they
/// are needed. Converted tensors together take at most 4 times the length of the file.
///
/// Names are torchvision's: the prefixes `module.` (`DataParallel`) and `_orig_mod.` (`torch.compile`) are
/// dropped, and so is any prefix that the whole network has, such as `model.` or `backbone.`; `linear.*` is called
/// `fc.*` and `.shortcut.` is called `.downsample.`. Counters such as `num_batches_tracked` are left out.
///
/// Of a training checkpoint the state dict is taken: the entry `state_dict`, `model_state_dict`, `model_state`,
/// `model`, `net`, `network` or `module`, in this order; without any of them averaged weights (`state_dict_ema`,
/// `model_ema`, `ema_state_dict`, `ema`); then the file itself; then the only entry that holds tensors. Whatever else
/// is in the file is stepped over, and none of it is run. [`WeightFile::notes`] says what was taken.
#[derive(Debug)]
pub struct WeightFile {
    open: Arc<Open>,
    format: Format,
    tensors: BTreeMap<String, Entry>,
    metadata: BTreeMap<String, String>,
    state_dict_key: Option<String>,
    notes: Vec<String>,
    verified: bool,
}

impl WeightFile {
    /// Opens a safetensors or PyTorch file; its content tells which, not its extension.
    ///
    /// The file stays open. It may be replaced by renaming another over it, as [`save`] does. Cutting it short makes an error
    /// of whatever is read afterwards; values that are written into it are read as they are then.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, ImportError> {
        let path = path.as_ref();
        match Source::open(path) {
            Ok(source) => Self::read(path.into(), source),
            Err(source) => Err(ImportError::Io { file: path.display().to_string(), source }),
        }
    }

    /// Reads a file that is in memory; `name` is what errors call it.
    pub fn from_bytes(name: impl Into<PathBuf>, bytes: Vec<u8>) -> Result<Self, ImportError> {
        Self::read(name.into(), Source::Memory(bytes))
    }

    fn read(path: PathBuf, source: Source) -> Result<Self, ImportError> {
        let file = path.display().to_string();
        let format = match source.part(0..source.len().min(BEGINNING)).map(|start| detect(&start)) {
            Ok(Ok(format)) => format,
            Ok(Err(reason)) => return Err(ImportError::UnknownFormat { file, reason }),
            Err(source) => return Err(ImportError::Io { file, source }),
        };
        let mut out = Collector::new(&source);
        let (mut metadata, mut state_dict_key, mut notes, mut verified) = Default::default();
        let result = match format {
            Format::SafeTensors => safetensors::read(&source, &mut out).map(|found| (metadata, verified) = found),
            Format::TorchZip => torch::read_zip(&source, &mut out, &mut notes).map(|key| state_dict_key = key),
            Format::TorchLegacy => torch::read_legacy(&source, &mut out, &mut notes).map(|key| state_dict_key = key),
        };
        let tensors = match result.and_then(|()| out.finish(&mut notes)) {
            Ok(tensors) => tensors,
            Err(fault) => return Err(fault.at(file, format)),
        };
        let open = Arc::new(Open { path, source });
        let entry = |(name, place)| (String::clone(&name), Entry::new(name, place, Arc::clone(&open)));
        let tensors = tensors.into_iter().map(entry).collect();
        Ok(WeightFile { open, format, tensors, metadata, state_dict_key, notes, verified })
    }

    /// The path it was opened by, or the name it was given.
    pub fn path(&self) -> &Path {
        &self.open.path
    }

    /// Its format.
    pub fn format(&self) -> Format {
        self.format
    }

    /// The string-to-string metadata of a safetensors file, see [`keys`]; empty for PyTorch files.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// For a PyTorch checkpoint, the entry the tensors were found in; `None` if the file itself is a state dict.
    pub fn state_dict_key(&self) -> Option<&str> {
        self.state_dict_key.as_deref()
    }

    /// Whether it holds a checksum, which its content was compared with; [`save`] writes one.
    pub fn is_verified(&self) -> bool {
        self.verified
    }

    /// What was taken of the file and what was not, where that is not simply all of it; for people to read.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Names of all tensors, sorted.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Extents of the tensor called `name`, outermost first.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.tensors.get(name).map(Entry::shape)
    }

    /// Names and tensors, sorted by name, as [`save`] takes them.
    pub fn tensors(&self) -> impl Iterator<Item = (&str, Tensor<'_>)> {
        self.tensors.iter().map(|(name, entry)| (name.as_str(), entry.tensor()))
    }

    /// What a network made from this file could not read, with the file and the cause: of that, [`Error::Unreadable`] only
    /// knows the tensor. `None` for other errors.
    pub fn explain(&self, error: &Error) -> Option<ImportError> {
        let Error::Unreadable(tensor) = error else { return None };
        let again = self.tensors.get(tensor.as_str()).map(Entry::trial);
        let changed = || ImportError::Tensor {
            file: self.file(),
            tensor: clean(tensor),
            reason: "could not be read a moment ago: is the file being written to?".into(),
        };
        Some(again.and_then(Result::err).unwrap_or_else(changed))
    }

    /// The class names in its metadata, if there are any.
    ///
    /// # Errors
    /// The entry is not a JSON array of strings, or their number is not that of the outputs.
    pub fn class_names(&self) -> Result<Option<Vec<String>>, ImportError> {
        let Some(value) = self.metadata.get(keys::CLASS_NAMES) else { return Ok(None) };
        let refuse = |reason: String| self.bad_metadata(keys::CLASS_NAMES, value, reason);
        let names: Vec<String> = serde_json::from_str(value)
            .map_err(|e| refuse(format!("is not a JSON array of strings: {}", clean(&e.to_string()))))?;
        match self.classes() {
            Some(classes) if classes != names.len() => {
                Err(refuse(format!("holds {} names, but fc.weight has {classes} outputs", names.len())))
            }
            _ => Ok(Some(names)),
        }
    }

    /// Outputs of the classifier, from the shape of `fc.weight`.
    fn classes(&self) -> Option<usize> {
        match self.shape("fc.weight") {
            Some(&[classes, _]) => Some(classes),
            _ => None,
        }
    }

    fn file(&self) -> String {
        self.open.name()
    }

    fn bad_metadata(&self, key: &'static str, value: &str, reason: String) -> ImportError {
        ImportError::Metadata { file: self.file(), key, value: clean(value), reason }
    }
}

impl Weights for WeightFile {
    fn tensor(&self, name: &str) -> Option<Tensor<'_>> {
        self.tensors.get(name).map(Entry::tensor)
    }
}

/// Bytes that tell the format.
const BEGINNING: usize = 32;

/// The format, or how the file begins instead.
fn detect(bytes: &[u8]) -> Result<Format, String> {
    if bytes.starts_with(b"PK\x03\x04") || bytes.starts_with(b"PK\x05\x06") {
        Ok(Format::TorchZip)
    } else if torch::is_legacy(bytes) {
        Ok(Format::TorchLegacy)
    } else if bytes.get(8) == Some(&b'{') {
        Ok(Format::SafeTensors)
    } else if bytes.is_empty() {
        Err("it is empty".into())
    } else {
        let start = &bytes[..bytes.len().min(8)];
        Err(format!("it begins with the bytes {start:02x?}"))
    }
}
