//! Pictures for training: [`Augmentation`] changes them, a [`Loader`] makes batches of them, [`Synthetic`] generates them.
//!
//! What is read from files is described in [`residual_io`], whose [`dataset`](residual_io::dataset) and
//! [`image`](residual_io::image) are reached from here, too.

mod augment;
mod cached;
mod loader;
mod readable;
mod synthetic;

use std::path::Path;

pub use residual_io::{
    DataError, Size,
    dataset::{Cifar, CifarFile, CifarKind, Dataset, ImageFolder, Layout, Split, open, pictures_below},
    image::{DecodeLimits, Image, transform},
    preprocessing::{Interpolation, Preprocessing},
};

pub use self::{
    augment::Augmentation,
    cached::Cached,
    loader::{Batch, Batches, Loader, Training, channel_statistics, mean_picture},
    readable::Readable,
    synthetic::Synthetic,
};

/// Opens the data set in `path`, as [`open`] does; `synthetic`, where no folder is called that, stands for
/// [`Synthetic::standard`] with pictures of `size`.
///
/// # Errors
/// What [`open`] reports.
pub fn open_or_generate(
    path: impl AsRef<Path>,
    size: impl Into<Size>,
    split: Split,
) -> Result<Box<dyn Dataset>, DataError> {
    let path = path.as_ref();
    if is_generated(path) {
        return Ok(Box::new(Synthetic::standard(size, split)));
    }
    open(path, split)
}

/// Whether `path` stands for generated pictures.
pub(crate) fn is_generated(path: &Path) -> bool {
    path == Path::new("synthetic") && !path.is_dir()
}
