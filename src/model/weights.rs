//! A weights file together with its network, its preprocessing and its class names.

use std::path::Path;

use residual_core::{
    graph::Net,
    resnet::{ResNet, Stem, fold_batch_norm},
};
use residual_io::{
    Preprocessing, Size,
    weights::{WeightFile, check, spec_from},
};

use crate::Error;

/// What the caller knows about a weights file; each overrides what the file says, except for the network, where
/// the two must agree.
#[derive(Clone, Debug, Default)]
pub struct Given {
    /// the network; needed for files without metadata
    pub arch: Option<ResNet>,
    /// rows and columns of the input; what pictures are resized to changes in proportion
    pub input: Option<Size>,
    /// mean and standard deviation of every input channel, of pixels in `[0, 1]`: R, G, B, or grey alone
    pub normalisation: Option<(Vec<f32>, Vec<f32>)>,
    /// class names in the order of the outputs
    pub class_names: Option<Vec<String>>,
}

/// Trained weights and everything needed to classify pictures with them.
///
/// The preprocessing is, in this order: what the caller gives, what the file's metadata says, and for ImageNet
/// networks on RGB torchvision's ([`Preprocessing::imagenet`]). Other networks have no convention; somebody must say.
#[derive(Debug)]
pub struct Pretrained {
    weights: WeightFile,
    spec: ResNet,
    preprocessing: Preprocessing,
    assumed: bool,
    class_names: Option<Vec<String>>,
    kernels: Vec<(String, String)>,
}

impl Pretrained {
    /// Opens a safetensors or PyTorch file and checks it against its network.
    ///
    /// # Errors
    /// [`Error::Import`] for the file and its tensors; [`Error::Preprocessing`] (also for another number of means than input
    /// channels), [`Error::NoNormalisation`] or
    /// [`Error::ClassNames`] for what should come with them.
    pub fn open(path: impl AsRef<Path>, given: &Given) -> Result<Self, Error> {
        Pretrained::new(WeightFile::open(path)?, given)
    }

    /// From a file that is open already.
    ///
    /// # Errors
    /// As [`Pretrained::open`].
    pub fn new(weights: WeightFile, given: &Given) -> Result<Self, Error> {
        let spec = spec_from(&weights, given.arch.map(|arch| arch.to_string()).as_deref())?;
        check(&spec, &weights)?;
        let file = || weights.path().display().to_string();
        let refuse = |source| Error::Preprocessing { file: file(), source };

        let stored = Preprocessing::from_metadata(weights.metadata()).map_err(refuse)?;
        let (mut preprocessing, assumed) = match (given.normalisation.clone(), stored, spec.stem_kind()) {
            (Some((mean, std)), Some(stored), _) => (Preprocessing { mean, std, mean_picture: None, ..stored }, false),
            (Some((mean, std)), None, _) => (Preprocessing { mean, std, ..sizes(&spec) }, false),
            (None, Some(stored), _) => (stored, false),
            (None, None, Stem::ImageNet) if spec.input().c == 3 => (Preprocessing::imagenet(), true),
            (None, None, _) => {
                return Err(Error::NoNormalisation { file: file(), network: spec.to_string() });
            }
        };
        // Without a crop pictures would come out in different sizes.
        if preprocessing.crop.is_none() {
            let Preprocessing { resize, crop, .. } = sizes(&spec);
            preprocessing.resize = preprocessing.resize.or(resize);
            preprocessing.crop = crop;
        }
        if let Some(size) = given.input {
            preprocessing = preprocessing.with_input_size(size);
        }
        preprocessing.check().and_then(|()| preprocessing.check_channels(spec.input().c)).map_err(refuse)?;
        let input = preprocessing.crop.unwrap_or(spec.input().into());
        let spec = spec.with_input(input.height, input.width)?;

        let class_names = match &given.class_names {
            Some(names) => Some(names.clone()),
            None => weights.class_names()?,
        };
        if let Some(names) = class_names.as_ref().filter(|names| names.len() != spec.classes()) {
            return Err(Error::ClassNames { names: names.len(), classes: spec.classes() });
        }
        Ok(Pretrained { weights, spec, preprocessing, assumed, class_names, kernels: Vec::new() })
    }

    /// The weights.
    pub fn weights(&self) -> &WeightFile {
        &self.weights
    }

    /// The network, for inputs of the size the preprocessing makes.
    pub fn spec(&self) -> &ResNet {
        &self.spec
    }

    /// What happens to a picture first.
    pub fn preprocessing(&self) -> &Preprocessing {
        &self.preprocessing
    }

    /// Whether the preprocessing is ImageNet's convention and nobody said so.
    pub fn preprocessing_assumed(&self) -> bool {
        self.assumed
    }

    /// Class names in the order of the outputs, if they are known.
    pub fn class_names(&self) -> Option<&[String]> {
        self.class_names.as_deref()
    }

    /// The name of a class, or its number.
    pub fn class_name(&self, class: usize) -> String {
        self.class_names.as_ref().and_then(|names| names.get(class)).map_or_else(|| class.to_string(), String::clone)
    }

    /// Asks for kernels, by layer and name, instead of those that planning would choose; see
    /// [`Graph::prefer`](residual_core::graph::Graph::prefer).
    pub fn prefer_kernels(&mut self, kernels: Vec<(String, String)>) {
        self.kernels = kernels;
    }

    /// The network with batch norm folded in. The weights of its convolutions stay in the file until they are packed.
    ///
    /// # Errors
    /// [`Error::Network`] when folding gives a value that is not finite; [`Error::Import`] when the file can no longer be
    /// read.
    pub fn net(&self) -> Result<Net<'_>, Error> {
        let mut net = fold_batch_norm(&self.spec, &self.weights).map_err(|error| self.explain(error))?;
        for (layer, kernel) in &self.kernels {
            net.prefer(layer, kernel);
        }
        Ok(net)
    }

    /// An error of the network, with the file and the cause where its weights could not be read.
    pub fn explain(&self, error: residual_core::Error) -> Error {
        self.weights.explain(&error).map_or(Error::Network(error), Error::Import)
    }
}

/// The network's own sizes; mean and standard deviation are to be replaced.
fn sizes(spec: &ResNet) -> Preprocessing {
    match spec.stem_kind() {
        Stem::ImageNet => Preprocessing::imagenet(),
        Stem::Cifar => Preprocessing::cifar([], []),
    }
}
