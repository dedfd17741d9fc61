//! Why weights could not be imported.

use std::{fmt::Write, io};

use residual_core::{resnet::ResNet, weights::ReadError};

use super::{Format, check::Mismatch};
use crate::text::push_printable;

/// Why a weights file could not be read, written or used. Each message is one line that names the
/// file and, where there is one, the tensor and the values that disagree.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImportError {
    /// The file could not be opened, read or written.
    #[error("{file}: {source}")]
    Io {
        /// the file
        file: String,
        /// what the system said
        source: io::Error,
    },
    /// The content is of no format this crate reads.
    #[error("{file} is neither safetensors nor a file of torch.save: {reason}")]
    UnknownFormat {
        /// the file
        file: String,
        /// how it begins
        reason: String,
    },
    /// The file is damaged or uses a feature that weights do not need.
    #[error("{file} is not a readable {format} file: {reason}")]
    Malformed {
        /// the file
        file: String,
        /// what it claims to be
        format: Format,
        /// what is wrong
        reason: String,
    },
    /// The pickle names a Python object that rebuilding tensors does not need. Nothing was run.
    #[error(
        "{file} refuses to load: its pickle asks for {global}, which weights do not need; save only the state dict"
    )]
    Global {
        /// the file
        file: String,
        /// `module.name`
        global: String,
    },
    /// One tensor is unusable, or cannot be read.
    #[error("{file}: tensor {tensor} {reason}")]
    Tensor {
        /// the file
        file: String,
        /// its name
        tensor: String,
        /// what is wrong, with the values
        reason: String,
    },
    /// A metadata entry does not parse or contradicts the tensors.
    #[error("{file}: metadata {key} = \"{value}\" {reason}")]
    Metadata {
        /// the file
        file: String,
        /// the entry
        key: &'static str,
        /// its value
        value: String,
        /// what is wrong
        reason: String,
    },
    /// The tensors are not those of the network.
    #[error("{0}")]
    Mismatch(Box<Mismatch>),
    /// The architecture asked for is not one.
    #[error("\"{name}\": {source}")]
    UnknownArchitecture {
        /// the name asked for
        name: String,
        /// what is wrong with it
        source: residual_core::Error,
    },
    /// The file says it holds another network than the one asked for.
    #[error("{file} holds {found}, but {asked} was asked for")]
    ArchitectureConflict {
        /// the file
        file: String,
        /// from its metadata
        found: ResNet,
        /// from the caller
        asked: ResNet,
    },
    /// Neither the file nor the caller names the network.
    #[error("{file} does not say which network it holds{}", suggest(.fits))]
    NoArchitecture {
        /// the file
        file: String,
        /// networks whose tensors have exactly these names and shapes
        fits: Vec<ResNet>,
    },
}

impl From<ReadError> for ImportError {
    fn from(ReadError { tensor, cause }: ReadError) -> Self {
        let elsewhere = |cause| ImportError::Io { file: format!("tensor {tensor}"), source: io::Error::other(cause) };
        cause.downcast().map_or_else(elsewhere, |own| *own)
    }
}

fn suggest(fits: &[ResNet]) -> String {
    let mut text = String::new();
    for (i, net) in fits.iter().enumerate() {
        let before = match i {
            0 => " (the shapes fit ",
            _ if i + 1 == fits.len() => " or ",
            _ => ", ",
        };
        // Writing to a string cannot fail.
        let _ = write!(text, "{before}{net}");
    }
    if !fits.is_empty() {
        text.push(')');
    }
    text
}

/// What a reader found wrong; [`Fault::at`] adds the file.
#[derive(Debug)]
pub(super) enum Fault {
    Format(String),
    Global(String),
    Tensor { tensor: String, reason: String },
    Io(io::Error),
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Fault::Io(error)
    }
}

impl Fault {
    pub fn format(reason: impl Into<String>) -> Self {
        Fault::Format(reason.into())
    }

    pub fn tensor(tensor: &str, reason: impl Into<String>) -> Self {
        Fault::Tensor { tensor: clean(tensor), reason: reason.into() }
    }

    pub fn at(self, file: String, format: Format) -> ImportError {
        match self {
            Fault::Format(reason) => ImportError::Malformed { file, format, reason },
            Fault::Global(global) => ImportError::Global { file, global },
            Fault::Tensor { tensor, reason } => ImportError::Tensor { file, tensor, reason },
            Fault::Io(source) => ImportError::Io { file, source },
        }
    }
}

/// Text from a file, fit for a one-line message: control characters escaped, long text cut.
pub(crate) fn clean(text: &str) -> String {
    const LONGEST: usize = 80;
    let mut out = String::new();
    for (i, c) in text.chars().enumerate() {
        if i == LONGEST {
            out.push_str("...");
            break;
        }
        push_printable(&mut out, c);
    }
    out
}
