//! The one door: a file of any kind that holds a residual network, ready for pictures.

mod int8;
mod runner;
mod weights;

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use residual_core::{
    Dtype,
    graph::{Net, Value},
    plan::Options,
    session::PackedNet,
};
use residual_io::{Preprocessing, weights::WeightFile};

pub use self::{
    int8::QuantizedModel,
    weights::{Given, Pretrained},
};
pub(crate) use runner::check_finite;
pub use runner::{Prepared, Runner};

use crate::Error;

/// A network with its preprocessing and class names, from any file this library reads: trained weights (safetensors,
/// PyTorch) or int8 models (`.rsd`, `.tflite`). What kind of file it was and which type it computes in are properties of
/// the value, not of the functions that take it.
///
/// Weights are packed once and shared: every [`Classifier`](crate::Classifier) and every run over many pictures made from
/// one model reads the same memory.
///
/// ```no_run
/// use residual::{Classifier, Image, Model};
///
/// let model = Model::open("resnet50.rsd")?;
/// println!("{} in {}, {} classes", model.name(), model.dtype()?, model.classes());
/// let mut classifier = Classifier::builder().threads(1).build(&model)?;
/// classifier.classify(&Image::open("photo.jpg")?, 5)?;
/// # Ok::<(), residual::Error>(())
/// ```
pub struct Model {
    source: Source,
    packed: Mutex<Option<Arc<PackedNet>>>,
}

/// What the network is read from.
enum Source {
    Weights(Box<Pretrained>),
    Flat(Box<QuantizedModel>),
}

impl From<Pretrained> for Model {
    fn from(weights: Pretrained) -> Self {
        Model { source: Source::Weights(Box::new(weights)), packed: Mutex::default() }
    }
}

impl From<QuantizedModel> for Model {
    fn from(model: QuantizedModel) -> Self {
        Model { source: Source::Flat(Box::new(model)), packed: Mutex::default() }
    }
}

impl Model {
    /// Opens a file that says everything about itself.
    ///
    /// # Errors
    /// As [`Pretrained::open`] and [`QuantizedModel::open`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        Model::open_with(path, &Given::default())
    }

    /// Opens a file of which the caller knows more than it says.
    ///
    /// # Errors
    /// As [`Model::open`].
    pub fn open_with(path: impl AsRef<Path>, given: &Given) -> Result<Self, Error> {
        let path = path.as_ref();
        Ok(match QuantizedModel::is_one(path) {
            true => QuantizedModel::open(path, given)?.into(),
            false => Pretrained::open(path, given)?.into(),
        })
    }

    /// A file's bytes, of any kind; `name` is what errors call it.
    ///
    /// # Errors
    /// As [`Model::open`].
    pub fn from_bytes(name: &str, bytes: Vec<u8>, given: &Given) -> Result<Self, Error> {
        Ok(match QuantizedModel::begins(&bytes) {
            true => QuantizedModel::from_bytes(name, &bytes, given)?.into(),
            false => Pretrained::new(WeightFile::from_bytes(name, bytes)?, given)?.into(),
        })
    }

    /// The trained weights, if it was made from a file of them.
    pub fn weights(&self) -> Option<&Pretrained> {
        match &self.source {
            Source::Weights(weights) => Some(weights),
            Source::Flat(_) => None,
        }
    }

    /// The int8 model, if it was made from a file of one.
    pub fn int8(&self) -> Option<&QuantizedModel> {
        match &self.source {
            Source::Flat(model) => Some(model),
            Source::Weights(_) => None,
        }
    }

    /// What to call the network: its architecture, or else the file's name.
    pub fn name(&self) -> String {
        match &self.source {
            Source::Weights(weights) => weights.spec().to_string(),
            Source::Flat(model) => model.name(),
        }
    }

    /// What it computes on and what for: the shape and the encoding of its input.
    ///
    /// # Errors
    /// As [`Model::net`].
    pub fn input(&self) -> Result<Value, Error> {
        match &self.source {
            Source::Weights(weights) => Ok(Value::f32(weights.spec().input())),
            Source::Flat(model) => model.input().map(|(shape, quantization)| Value::int8(shape, quantization)),
        }
    }

    /// The type it computes in.
    ///
    /// # Errors
    /// As [`Model::net`].
    pub fn dtype(&self) -> Result<Dtype, Error> {
        Ok(self.input()?.dtype())
    }

    /// Outputs.
    pub fn classes(&self) -> usize {
        match &self.source {
            Source::Weights(weights) => weights.spec().classes(),
            Source::Flat(model) => model.classes(),
        }
    }

    /// Class names in the order of the outputs, if they are known.
    pub fn class_names(&self) -> Option<&[String]> {
        match &self.source {
            Source::Weights(weights) => weights.class_names(),
            Source::Flat(model) => model.class_names(),
        }
    }

    /// The name of a class, or its number.
    pub fn class_name(&self, class: usize) -> String {
        self.class_names().and_then(|names| names.get(class)).map_or_else(|| class.to_string(), String::clone)
    }

    /// What happens to a picture first: what the caller said, what the file says, or the network's convention.
    ///
    /// # Errors
    /// [`Error::NoNormalisation`] where nobody says; as [`QuantizedModel::preprocessing`].
    pub fn preprocessing(&self) -> Result<Preprocessing, Error> {
        match &self.source {
            Source::Weights(weights) => Ok(weights.preprocessing().clone()),
            Source::Flat(model) => model.preprocessing(),
        }
    }

    /// The network, borrowing its weights.
    ///
    /// # Errors
    /// As [`Pretrained::net`]; [`Error::Network`] for an op that is not known here.
    pub fn net(&self) -> Result<Net<'_>, Error> {
        match &self.source {
            Source::Weights(weights) => weights.net(),
            Source::Flat(model) => Ok(model.view()?.net()?),
        }
    }

    /// The network planned for `options`, on packed weights that all of this model's plans for one instruction set share.
    ///
    /// # Errors
    /// As [`Pretrained::net`] and [`PackedNet::new`].
    pub fn packed(&self, options: &Options) -> Result<Arc<PackedNet>, Error> {
        let mut shared = self.packed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(packed) = shared.as_ref() {
            let made_for = packed.plan().options();
            if (made_for.isa, made_for.winograd) == (options.isa, options.winograd) {
                return Ok(Arc::new(packed.replanned(packed.plan().graph(), options)?));
            }
        }
        let packed = PackedNet::new(&self.net()?, options);
        let packed = Arc::new(packed.map_err(|error| match &self.source {
            Source::Weights(weights) => weights.explain(error),
            Source::Flat(_) => error.into(),
        })?);
        *shared = Some(Arc::clone(&packed));
        Ok(packed)
    }

    /// Asks for kernels, by layer and name, instead of those that planning would choose; weights packed before are packed
    /// again. An int8 network has one kernel a layer.
    pub fn prefer_kernels(&mut self, kernels: Vec<(String, String)>) {
        if let Source::Weights(weights) = &mut self.source {
            weights.prefer_kernels(kernels);
        }
        *self.packed.get_mut().unwrap_or_else(PoisonError::into_inner) = None;
    }
}
