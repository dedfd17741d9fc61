//! The one error type of this crate.

use core::fmt;

use crate::{elem::Dtype, geom::ConvGeom, name::Name};

/// Why a network could not be described, planned or run.
///
/// `Copy` and free of allocation, so it is the same type on a microcontroller and on a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// A buffer has the wrong length; both sizes are in elements.
    BufferLength {
        /// what the buffer is for
        what: &'static str,
        /// elements required
        need: usize,
        /// elements supplied
        got: usize,
    },
    /// A map has elements of another type.
    ElementType {
        /// what the map is
        what: &'static str,
        /// the type it has
        need: Dtype,
        /// the type that was asked for or supplied
        got: Dtype,
    },
    /// The weights were packed for another kernel or geometry.
    PackedForOtherKernel,
    /// No kernel accepts this geometry.
    Unsupported(ConvGeom),
    /// The kernel asked for by name is none of this layer's candidates.
    NoSuchKernel(Name),
    /// An architecture name that does not follow the grammar of [`crate::resnet::ResNet`].
    UnknownArchitecture {
        /// what is wrong with it
        reason: &'static str,
    },
    /// A network that cannot be built, such as one with no classes.
    InvalidNetwork {
        /// what is wrong with it
        reason: &'static str,
    },
    /// A tensor the network needs is not among the weights.
    MissingTensor(Name),
    /// A tensor has another number of elements than the network needs.
    TensorLength {
        /// the tensor
        name: Name,
        /// elements required
        need: usize,
        /// elements found
        got: usize,
    },
    /// A tensor can no longer be read from where it lies; whoever holds it knows why.
    Unreadable(Name),
    /// A tensor holds a NaN or an infinity, or a batch norm a negative variance.
    NotFinite(Name),
    /// An output was asked for before anything was run.
    NotRun,
    /// There is too little memory.
    OutOfMemory {
        /// what was asked for
        bytes: usize,
    },
    /// Zero threads, or more than the platform can start.
    Threads {
        /// the number asked for
        asked: usize,
    },
    /// The instruction set asked for does not exist or this CPU lacks it.
    UnavailableIsa,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Error::BufferLength { what, need, got } => {
                write!(f, "{what} holds {got} elements, {need} needed")
            }
            Error::ElementType { what, need, got } => write!(f, "{what} consists of {need}, not of {got}"),
            Error::PackedForOtherKernel => f.write_str("weights were packed for another kernel; call prepack again"),
            Error::Unsupported(g) => write!(f, "no kernel for convolution {g}"),
            Error::NoSuchKernel(layer) => {
                write!(f, "layer `{layer}`: the kernel asked for is unknown, unfit for its shape, or forbidden")
            }
            Error::UnknownArchitecture { reason } => write!(f, "unknown architecture: {reason}"),
            Error::InvalidNetwork { reason } => write!(f, "invalid network: {reason}"),
            Error::MissingTensor(name) => write!(f, "tensor `{name}` is missing"),
            Error::TensorLength { name, need, got } => {
                write!(f, "tensor `{name}` has {got} elements, {need} needed")
            }
            Error::Unreadable(name) => write!(f, "tensor `{name}` cannot be read from where it lies"),
            Error::NotFinite(name) => {
                write!(f, "tensor `{name}` holds a value that is not usable (NaN, infinity or a negative variance)")
            }
            Error::NotRun => f.write_str("there is no output before a run"),
            Error::OutOfMemory { bytes } => write!(
                f,
                "{bytes} bytes of memory were asked for and are not there; ask for a smaller batch or fewer threads"
            ),
            Error::Threads { asked } => write!(f, "cannot run on {asked} threads; ask for at least 1"),
            Error::UnavailableIsa => f.write_str("this CPU does not offer the instruction set asked for"),
        }
    }
}

impl core::error::Error for Error {}
