use core::fmt;

use residual_core::rsd::FormatError;

/// Why a model cannot run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// The model's bytes were refused.
    Model(FormatError),
    /// The arena is too small; sizes in bytes.
    ArenaTooSmall {
        /// bytes needed
        need: usize,
        /// bytes given
        got: usize,
    },
    /// The arena does not start at a multiple of [`crate::ARENA_ALIGN`].
    ArenaMisaligned {
        /// address modulo the alignment
        by: usize,
    },
    /// The engine met something its checks had excluded: a defect of this library.
    Defect {
        /// the op
        op: usize,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Model(e) => e.fmt(f),
            Error::ArenaTooSmall { need, got } => write!(f, "arena has {got} bytes, {need} needed"),
            Error::ArenaMisaligned { by } => {
                write!(f, "arena must start at a multiple of {} bytes, it is {by} past one", crate::ARENA_ALIGN)
            }
            Error::Defect { op } => write!(f, "op {op} could not run: a defect of residual-edge"),
        }
    }
}

impl core::error::Error for Error {}

impl From<FormatError> for Error {
    fn from(e: FormatError) -> Self {
        Error::Model(e)
    }
}

#[cfg(feature = "defmt")]
impl defmt::Format for Error {
    fn format(&self, f: defmt::Formatter<'_>) {
        match self {
            Error::Model(e) => defmt::write!(f, "model refused: {}", defmt::Display2Format(e)),
            Error::ArenaTooSmall { need, got } => defmt::write!(f, "arena has {} bytes, {} needed", got, need),
            Error::ArenaMisaligned { by } => defmt::write!(f, "arena misaligned by {}", by),
            Error::Defect { op } => defmt::write!(f, "op {} could not run", op),
        }
    }
}
