//! Where a run's pictures come from.

use std::{path::Path, sync::Arc};

use residual_core::resnet::{ResNet, Stem};
use residual_io::listed;

use super::{Config, Holdout, Shared, TrainError, identity::Pictures};
use crate::data::{
    self, Augmentation, Cached, DataError, Dataset, Layout, Preprocessing, Readable, Size, Split, Synthetic,
    channel_statistics, mean_picture,
};

/// Pictures to train on and, where there are any apart from them, pictures to validate on, of the same classes.
#[derive(Clone)]
pub struct Source {
    pub(super) train: Shared,
    validation: Option<Shared>,
    name: String,
}

/// Which pictures a run uses, and for what.
pub(super) struct Division {
    pub train: Vec<u32>,
    pub validation: Option<(Shared, Vec<u32>)>,
}

impl Division {
    pub fn validation_pictures(&self) -> Pictures {
        self.validation.as_ref().map_or_else(Pictures::default, |(data, indices)| Pictures::of(&**data, indices))
    }
}

/// Pictures that statistics are taken over.
const SAMPLED: usize = 50_000;

impl Source {
    /// The data set in a folder, found as [`Layout`] says, or `synthetic`: generated pictures of `size`.
    /// With `cache`, pictures are decoded once and kept in memory.
    ///
    /// # Errors
    /// What opening it reports; [`TrainError::Data`] for fewer than two classes.
    pub fn open(path: &Path, size: impl Into<Size>, cache: bool) -> Result<Self, TrainError> {
        let size = size.into();
        let name = path.file_name().map_or_else(|| path.display().to_string(), |n| n.to_string_lossy().into_owned());
        let part = |data: Box<dyn Dataset>| -> Shared {
            let data: Shared = data.into();
            if cache { Arc::new(Cached::new(data)) } else { data }
        };
        if data::is_generated(path) {
            let part = |split| part(Box::new(Synthetic::standard(size, split)));
            return Source { train: part(Split::Train), validation: Some(part(Split::Validation)), name }.check();
        }
        let layout = Layout::find(path)?;
        let train = part(layout.open(Split::Train)?);
        let validation = if layout.has_parts() { Some(part(layout.open(Split::Validation)?)) } else { None };
        Source { train, validation, name }.check()
    }

    /// Generated pictures.
    pub fn synthetic(train: usize, validation: usize, size: impl Into<Size>) -> Self {
        let size = size.into();
        Source {
            train: Arc::new(Synthetic::new(train, size, 0, Split::Train)),
            validation: Some(Arc::new(Synthetic::new(validation, size, 0, Split::Validation))),
            name: "synthetic".into(),
        }
    }

    /// These two data sets.
    ///
    /// # Errors
    /// [`TrainError::Data`] for fewer than two classes, or different ones.
    pub fn new(train: Shared, validation: Shared, name: &str) -> Result<Self, TrainError> {
        Source { train, validation: Some(validation), name: name.into() }.check()
    }

    /// The same without pictures that cannot be read: all of them are read once, on up to `threads` threads. The lines
    /// of [`Source::summary`] name those left out.
    ///
    /// # Errors
    /// [`TrainError::Data`] where a class to train on has no picture left, or no picture to validate on is.
    pub fn without_unreadable(self, threads: usize) -> Result<Self, TrainError> {
        let counts = |data: &Shared| Pictures::of(&**data, &(0..data.len() as u32).collect::<Vec<_>>());
        let classes = self.train.classes().len() - counts(&self.train).absent().count();
        let readable = |data| -> Shared { Arc::new(Readable::new(data, threads)) };
        let source = Source { train: readable(self.train), validation: self.validation.map(readable), ..self };
        let left = source.train.classes().len() - counts(&source.train).absent().count();
        if left < classes {
            return Err(TrainError::Data { what: "classes with readable pictures", need: classes, got: left });
        }
        source.check()
    }

    fn check(self) -> Result<Self, TrainError> {
        let got = self.train.classes().len();
        if got < 2 {
            return Err(TrainError::Data { what: "classes", need: 2, got });
        }
        let Some(validation) = &self.validation else { return Ok(self) };
        if validation.classes() != self.train.classes() {
            let (need, got) = (got, validation.classes().len());
            return Err(TrainError::Data { what: "validation classes like those to train on", need, got });
        }
        if validation.is_empty() {
            return Err(TrainError::Data { what: "validation pictures", need: 1, got: 0 });
        }
        Ok(self)
    }

    /// Which pictures a run of this configuration uses.
    pub(super) fn divide(&self, config: &Config) -> Result<Division, TrainError> {
        let all = |data: &Shared| (0..data.len() as u32).collect::<Vec<_>>();
        if config.no_validation {
            return Ok(Division { train: all(&self.train), validation: None });
        }
        if config.holdout != Holdout::None {
            let (train, held) = config.holdout.divide(&*self.train, config.holdout_seed)?;
            return Ok(Division { train, validation: Some((self.train.clone(), held)) });
        }
        let Some(validation) = &self.validation else {
            return Err(TrainError::NoValidation { place: self.train.place() });
        };
        let indices = all(validation);
        Ok(Division { train: all(&self.train), validation: Some((validation.clone(), indices)) })
    }

    /// What was found, for a user to read before a run begins: the classes, the pictures of each part and where they
    /// lie, and then what was left out, a line each.
    ///
    /// # Errors
    /// As [`super::Trainer::new`] for a data set that cannot be divided.
    pub fn summary(&self, config: &Config) -> Result<Vec<String>, TrainError> {
        let division = self.divide(config)?;
        let (classes, pictures, place) = (self.classes(), division.train.len(), self.train.place());
        let found = format!("{} classes ({}): {pictures} training pictures in {place}", classes.len(), listed(classes));
        let mut remarks = self.train.remarks().to_vec();
        let validation = match &division.validation {
            None => "no validation".to_owned(),
            Some((data, held)) if config.holdout != Holdout::None => {
                let counts = Pictures::of(&**data, held);
                let without: Vec<_> = counts.absent().map(|class| &classes[class]).collect();
                if !without.is_empty() {
                    remarks.push(format!("{place}: no validation pictures of {}", listed(&without)));
                }
                format!("{} validation pictures held out of them", held.len())
            }
            Some((data, indices)) => {
                remarks.extend_from_slice(data.remarks());
                format!("{} validation pictures in {}", indices.len(), data.place())
            }
        };
        Ok([vec![format!("{found}, {validation}")], remarks].concat())
    }

    /// The class names.
    pub fn classes(&self) -> &[String] {
        self.train.classes()
    }

    /// What to call it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How pictures are normalised: by ImageNet's constants for its networks on RGB, else by the mean and deviation of
    /// these pictures; and with a mean for every pixel if asked for.
    pub(super) fn preprocessing(
        &self,
        spec: &ResNet,
        indices: &[u32],
        pixel_mean: bool,
    ) -> Result<Preprocessing, DataError> {
        let (size, channels) = (Size::from(spec.input()), spec.input().c);
        let imagenet = spec.stem_kind() == Stem::ImageNet;
        let resize = if imagenet { size.scaled((256, 224)) } else { size };
        let mut preprocessing = Preprocessing { resize: Some(resize), crop: Some(size), ..Preprocessing::imagenet() };
        if !imagenet || channels != preprocessing.channels() {
            (preprocessing.mean, preprocessing.std) = channel_statistics(&*self.train, indices, SAMPLED, channels)?;
        }
        if pixel_mean {
            preprocessing.mean_picture = Some(mean_picture(&*self.train, indices, SAMPLED, &preprocessing)?);
        }
        Ok(preprocessing)
    }

    /// The paper's augmentation for a network's input.
    pub(super) fn augmentation(&self, spec: &ResNet) -> Augmentation {
        match spec.stem_kind() {
            Stem::ImageNet => Augmentation::imagenet(spec.input()),
            Stem::Cifar => Augmentation::PadCrop { pad: Size::from(spec.input()).shorter().div_ceil(8) },
        }
    }
}
