//! Pictures, what is done to them before a network sees them, and labelled sets of them.
//!
//! [`Image::open`] decodes a file; [`Preprocessing`] turns it into a network's input; [`open`]
//! finds out which kind of data set a folder holds.

mod augment;
mod cached;
mod cifar;
mod decode;
mod error;
mod image;
mod image_folder;
mod jpeg;
mod loader;
mod preprocessing;
mod resize;
mod synthetic;
pub mod transform;

use std::path::Path;

pub use self::{
    augment::Augmentation,
    cached::Cached,
    cifar::{Cifar, CifarFile, CifarKind},
    decode::DecodeLimits,
    error::DataError,
    image::Image,
    image_folder::{ImageFolder, pictures_below},
    loader::{Batch, Batches, Loader, Training, channel_statistics, mean_picture},
    preprocessing::{Interpolation, Preprocessing, check_normalisation},
    synthetic::Synthetic,
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

/// Opens the data set in `path`, as [`open`] does; `synthetic`, where no folder is called that, stands for
/// [`Synthetic::standard`] with pictures of `side x side` pixels.
///
/// # Errors
/// What [`open`] reports.
pub fn open_or_generate(path: impl AsRef<Path>, side: usize, split: Split) -> Result<Box<dyn Dataset>, DataError> {
    let path = path.as_ref();
    if path == Path::new("synthetic") && !path.is_dir() {
        return Ok(Box::new(Synthetic::standard(side, split)));
    }
    open(path, split)
}
