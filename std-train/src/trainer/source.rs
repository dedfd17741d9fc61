//! Where a run's pictures come from.

use std::{path::Path, sync::Arc};

use residual_core::resnet::{ResNet, Stem};

use super::{Shared, TrainError};
use crate::data::{
    self, Augmentation, Cached, DataError, Preprocessing, Split, Synthetic, channel_statistics, mean_picture,
};

/// Training and test pictures of the same classes.
#[derive(Clone)]
pub struct Source {
    pub(super) train: Shared,
    pub(super) test: Shared,
    name: String,
}

/// Pictures that statistics are taken over.
const SAMPLED: usize = 50_000;

impl Source {
    /// The data set in a folder, or `synthetic`: generated pictures of `side x side` pixels. With `cache`, pictures
    /// are decoded once and kept in memory.
    ///
    /// # Errors
    /// What opening it reports; [`TrainError::Data`] for fewer than two classes or no test pictures.
    pub fn open(path: &Path, side: usize, cache: bool) -> Result<Self, TrainError> {
        let name = path.file_name().map_or_else(|| path.display().to_string(), |n| n.to_string_lossy().into_owned());
        let part = |split| -> Result<Shared, TrainError> {
            let data: Shared = data::open_or_generate(path, side, split)?.into();
            Ok(if cache { Arc::new(Cached::new(data)) } else { data })
        };
        Source { train: part(Split::Train)?, test: part(Split::Test)?, name }.check()
    }

    /// Generated pictures.
    pub fn synthetic(train: usize, test: usize, side: usize) -> Self {
        Source {
            train: Arc::new(Synthetic::new(train, side, 0, Split::Train)),
            test: Arc::new(Synthetic::new(test, side, 0, Split::Test)),
            name: "synthetic".into(),
        }
    }

    /// These two data sets.
    ///
    /// # Errors
    /// [`TrainError::Data`] for fewer than two classes, or different ones.
    pub fn new(train: Shared, test: Shared, name: &str) -> Result<Self, TrainError> {
        Source { train, test, name: name.into() }.check()
    }

    fn check(self) -> Result<Self, TrainError> {
        let got = self.train.classes().len();
        if got < 2 {
            return Err(TrainError::Data { what: "classes", need: 2, got });
        }
        if self.test.classes() != self.train.classes() {
            let (need, got) = (got, self.test.classes().len());
            return Err(TrainError::Data { what: "test classes like those to train on", need, got });
        }
        if self.test.is_empty() {
            return Err(TrainError::Data { what: "test pictures", need: 1, got: 0 });
        }
        Ok(self)
    }

    /// The class names.
    pub fn classes(&self) -> &[String] {
        self.train.classes()
    }

    /// What to call it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How pictures are normalised: by ImageNet's constants for its networks, else by the mean and deviation of
    /// these pictures; and with a mean for every pixel if asked for.
    pub(super) fn preprocessing(
        &self,
        spec: &ResNet,
        indices: &[u32],
        pixel_mean: bool,
    ) -> Result<Preprocessing, DataError> {
        let side = spec.input().h;
        let mut preprocessing = if spec.stem_kind() == Stem::ImageNet {
            Preprocessing { resize: Some(side * 256 / 224), crop: Some(side), ..Preprocessing::imagenet() }
        } else {
            let (mean, std) = channel_statistics(&*self.train, indices, SAMPLED)?;
            Preprocessing { resize: Some(side), crop: Some(side), ..Preprocessing::cifar(mean, std) }
        };
        if pixel_mean {
            preprocessing.mean_picture = Some(mean_picture(&*self.train, indices, SAMPLED, &preprocessing)?);
        }
        Ok(preprocessing)
    }

    /// The paper's augmentation for a network's input.
    pub(super) fn augmentation(&self, spec: &ResNet) -> Augmentation {
        match spec.stem_kind() {
            Stem::ImageNet => Augmentation::imagenet(spec.input().h),
            Stem::Cifar => Augmentation::PadCrop { pad: spec.input().h.div_ceil(8) },
        }
    }
}
