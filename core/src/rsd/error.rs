use core::fmt;

/// Why bytes are not a model file. `Copy`, without allocation; one line each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FormatError {
    /// Fewer bytes than the header, or than the header announces.
    Length {
        /// bytes needed
        need: usize,
        /// bytes present
        got: usize,
    },
    /// The first byte is not at a multiple of [`super::ALIGN`].
    Misaligned {
        /// address modulo the alignment
        by: usize,
    },
    /// Another kind of file.
    Magic,
    /// A version this library does not read.
    Version {
        /// the version in the file
        found: u32,
    },
    /// The bytes were damaged.
    Checksum {
        /// the checksum in the file
        stored: u32,
        /// the checksum of its bytes
        computed: u32,
    },
    /// A section is missing, misplaced or has the wrong size.
    Section {
        /// its four-letter tag
        tag: [u8; 4],
        /// what is wrong
        reason: &'static str,
    },
    /// A field of an op does not make sense.
    Op {
        /// which op, from 0
        index: usize,
        /// what is wrong
        reason: &'static str,
    },
    /// A field of a value does not make sense.
    Value {
        /// which value, from 0
        index: usize,
        /// what is wrong
        reason: &'static str,
    },
    /// The file is little-endian and this machine is not.
    BigEndian,
}

impl fmt::Display for FormatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            FormatError::Length { need, got } => write!(f, "model has {got} bytes, {need} needed"),
            FormatError::Misaligned { by } => {
                write!(f, "model must start at a multiple of {} bytes, it is {by} past one", super::ALIGN)
            }
            FormatError::Magic => f.write_str("not a model file: it does not begin with `residual`"),
            FormatError::Version { found } => {
                write!(f, "model format version {found} is not supported, only {}", super::VERSION)
            }
            FormatError::Checksum { stored, computed } => {
                write!(f, "model is damaged: checksum {computed:08x}, file says {stored:08x}")
            }
            FormatError::Section { tag, reason } => {
                write!(f, "section `{}`: {reason}", core::str::from_utf8(&tag).unwrap_or("????"))
            }
            FormatError::Op { index, reason } => write!(f, "op {index}: {reason}"),
            FormatError::Value { index, reason } => write!(f, "value {index}: {reason}"),
            FormatError::BigEndian => f.write_str("model files are read in place by little-endian machines only"),
        }
    }
}

impl core::error::Error for FormatError {}
