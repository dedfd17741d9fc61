//! Labelled sets of pictures.
//!
//! [`open`] finds out which kind of data set a folder holds.

mod cifar;
mod image_folder;

use std::path::Path;

use crate::{DataError, Image};

pub use self::{
    cifar::{Cifar, CifarFile, CifarKind},
    image_folder::{ImageFolder, pictures_below},
};

/// A part of a data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split {
    /// what is learned from
    Train,
    /// what is measured on
    Test,
}

/// Labelled pictures, addressed by index from several threads.
pub trait Dataset: Send + Sync {
    /// The number of pictures.
    fn len(&self) -> usize;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The class names; a label is an index into them.
    fn classes(&self) -> &[String];

    /// The class of picture `index`.
    ///
    /// # Panics
    /// If `index` is not below [`Dataset::len`].
    fn label(&self, index: usize) -> usize;

    /// Picture `index`, decoded.
    ///
    /// # Errors
    /// What [`Image::open`] reports, naming the file: the caller decides whether one damaged
    /// picture ends the run or is counted and left out.
    fn image(&self, index: usize) -> Result<Image, DataError>;

    /// What to call picture `index` in messages: its file, and its record where a file holds many.
    fn name(&self, index: usize) -> String;
}

/// Opens the data set in `dir`: CIFAR binary files if there are any, else a tree of class folders.
///
/// # Errors
/// What [`Cifar::open`] and [`ImageFolder::open`] report.
pub fn open(dir: impl AsRef<Path>, split: Split) -> Result<Box<dyn Dataset>, DataError> {
    let dir = dir.as_ref();
    if !dir.is_dir() {
        return Err(DataError::NoFolder(dir.into()));
    }
    Ok(match Cifar::find(dir)? {
        Some((kind, dir)) => Box::new(Cifar::open(dir, kind, split)?),
        None => Box::new(ImageFolder::open(dir, split)?),
    })
}
