//! Where a network's tensors come from.

use alloc::{boxed::Box, vec::Vec};
use core::fmt;

use crate::{Error, Name, memory::Buffer};

/// A named f32 tensor in PyTorch's layout (C order; convolutions OIHW).
#[derive(Clone, Copy, Debug)]
pub struct Tensor<'w> {
    /// extents, outermost first
    pub shape: &'w [usize],
    /// elements in C order
    pub data: Elements<'w>,
}

impl<'w> Tensor<'w> {
    /// A tensor in memory.
    pub fn new(shape: &'w [usize], data: &'w [f32]) -> Self {
        Tensor { shape, data: data.into() }
    }
}

/// A collection of named tensors: a file, flash, or a trainer's parameters.
pub trait Weights: Sync {
    /// The tensor called `name` (torchvision's names), if there is one.
    fn tensor(&self, name: &str) -> Option<Tensor<'_>>;
}

/// The elements of a tensor, in C order.
///
/// ```
/// use residual_core::{memory::Buffer, weights::Elements};
///
/// let elements = Elements::from(&[1.0, 2.0][..]);
/// // What lies in memory is lent; the room is for what has to be read.
/// let mut room = Buffer::new(0);
/// assert_eq!(elements.read(&mut room)?, [1.0, 2.0]);
/// assert!(room.as_slice().is_empty());
/// # Ok::<(), residual_core::weights::ReadError>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub enum Elements<'w> {
    /// in memory
    Memory(&'w [f32]),
    /// elsewhere, to be read when they are needed
    Stored(&'w dyn Stored),
}

impl<'w> Elements<'w> {
    /// Their number.
    pub fn len(&self) -> usize {
        match self {
            Elements::Memory(data) => data.len(),
            Elements::Stored(stored) => stored.elements(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The elements: lent, or read into `room`, which is made anew where it is too short and may be used again.
    ///
    /// The room is a [`Buffer`] for where it begins: processors copy from a file several times slower to a place a few bytes
    /// behind a multiple of a page, where allocators put what is large.
    ///
    /// # Errors
    /// They cannot be read, or there is too little memory for them.
    pub fn read<'r>(&self, room: &'r mut Buffer) -> Result<&'r [f32], ReadError>
    where
        'w: 'r,
    {
        match *self {
            Elements::Memory(data) => Ok(data),
            Elements::Stored(stored) => {
                let refuse =
                    |cause: Box<dyn core::error::Error + Send + Sync>| ReadError { tensor: stored.name(), cause };
                let len = stored.elements();
                if room.as_slice().len() < len {
                    *room = Buffer::try_new(len).map_err(|error| refuse(Box::new(error)))?;
                }
                let room = &mut room.as_mut_slice()[..len];
                stored.read(room).map_err(refuse)?;
                Ok(room)
            }
        }
    }
}

impl Elements<'_> {
    /// A copy of the elements.
    ///
    /// # Errors
    /// As [`Elements::read`].
    pub fn to_vec(&self) -> Result<Vec<f32>, ReadError> {
        Ok(self.read(&mut Buffer::new(0))?.to_vec())
    }
}

impl<'w> From<&'w [f32]> for Elements<'w> {
    fn from(data: &'w [f32]) -> Self {
        Elements::Memory(data)
    }
}

/// A tensor that is not in memory.
pub trait Stored: fmt::Debug + Sync {
    /// What errors call it.
    fn name(&self) -> Name;

    /// The number of its elements.
    fn elements(&self) -> usize;

    /// Reads its elements, in C order, into `into`, which has their number.
    ///
    /// # Errors
    /// What went wrong, in one line.
    fn read(&self, into: &mut [f32]) -> Result<(), Box<dyn core::error::Error + Send + Sync>>;
}

/// A tensor that cannot be read, and why: it displays as its cause.
///
/// As an [`Error`] it becomes [`Error::Unreadable`], which says less and is free of allocation.
#[derive(Debug)]
pub struct ReadError {
    /// the tensor
    pub tensor: Name,
    /// what went wrong, in one line
    pub cause: Box<dyn core::error::Error + Send + Sync>,
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.cause, f)
    }
}

impl core::error::Error for ReadError {}

impl From<ReadError> for Error {
    fn from(ReadError { tensor, cause }: ReadError) -> Self {
        cause.downcast().map_or(Error::Unreadable(tensor), |own| *own)
    }
}
