//! Labelled sets of pictures.
//!
//! [`Layout`] finds out which kind of data set a folder holds, [`open`] opens a part of it.

mod cifar;
mod image_folder;
mod layout;

use std::path::Path;

use crate::{DataError, Image};

pub use self::{
    cifar::{Cifar, CifarFile, CifarKind},
    image_folder::{ImageFolder, pictures_below},
    layout::Layout,
};

/// A part of a data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split {
    /// what is learned from
    Train,
    /// what a run is watched by while it learns; where there is no such part, [`Split::Test`]
    Validation,
    /// what is measured on at the end; where there is no such part, [`Split::Validation`]
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

    /// Where the pictures come from: a folder, or what else to call it.
    fn place(&self) -> String {
        "the data set".into()
    }

    /// What a user should know about how the pictures were found, a line each: files that were left out, classes
    /// without pictures, folders that were passed over.
    fn remarks(&self) -> &[String] {
        &[]
    }
}

/// Opens a part of the data set in `dir`, found as [`Layout`] says.
///
/// # Errors
/// What [`Layout::find`] and [`Layout::open`] report.
pub fn open(dir: impl AsRef<Path>, split: Split) -> Result<Box<dyn Dataset>, DataError> {
    Layout::find(dir.as_ref())?.open(split)
}
