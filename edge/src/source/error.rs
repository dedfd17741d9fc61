use core::fmt;

/// Why a picture does not become an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum FrameError {
    /// The model does not say how pixels become inputs.
    NoPreprocessing,
    /// The picture's format has another number of channels than the network's input.
    Channels {
        /// of the network
        need: usize,
        /// of the picture
        got: usize,
    },
    /// A side of the picture is shorter than the network's input.
    TooSmall {
        /// width and height of the network's input
        need: [usize; 2],
        /// width and height of the picture
        got: [usize; 2],
    },
    /// Another number of bytes than the picture has.
    Length {
        /// bytes of the picture
        need: usize,
        /// bytes that came or were announced
        got: usize,
    },
    /// A header names a format that does not exist.
    Format {
        /// the number in the header
        found: u8,
    },
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FrameError::NoPreprocessing => f.write_str("the model does not say how pixels become inputs"),
            FrameError::Channels { need, got } => {
                write!(f, "the picture has {got} channels, the network's input {need}")
            }
            FrameError::TooSmall { need: [w, h], got: [width, height] } => {
                write!(f, "the picture has {width}x{height} pixels, the network's input {w}x{h}")
            }
            FrameError::Length { need, got } => write!(f, "the picture has {need} bytes, got {got}"),
            FrameError::Format { found } => write!(f, "unknown picture format {found}"),
        }
    }
}

impl core::error::Error for FrameError {}
