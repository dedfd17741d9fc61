//! `residual train --qat`: trained weights, fine-tuned for int8.

use std::path::PathBuf;

use anyhow::anyhow;
use residual::{
    Error, Image, Pretrained,
    quantize::Encodings,
    resnet::ResNet,
    trainer::{Config, Resources, Source, Start, TrainError},
    weights::{WeightFile, keys},
};

use super::{
    super::{args, input::Input, note},
    Recipe,
};

/// What fine-tuning begins with.
#[derive(clap::Args)]
#[command(next_help_heading = "Quantization-aware training")]
pub struct FineTune {
    /// Fine-tune trained weights as an int8 network: OUT receives model.rsd too, and `residual quantize` keeps the ranges in
    /// its model.safetensors
    #[arg(long, requires = "weights", conflicts_with_all = ["resume", "pixel_mean"])]
    qat: bool,
    /// The trained weights: safetensors or PyTorch file (.pth, .pt, .th); --arch says their network where the file does not
    #[arg(long, value_name = "FILE", requires = "qat")]
    weights: Option<PathBuf>,
    /// Mean of red, green and blue, or of grey alone, in [0, 1]; overrides the metadata of --weights
    #[arg(long, value_name = "R,G,B", value_parser = args::mean, requires_all = ["std", "qat"], allow_hyphen_values = true)]
    mean: Option<args::Numbers>,
    /// Standard deviation of red, green and blue, or of grey alone, in [0, 1]
    #[arg(long, value_name = "R,G,B", value_parser = args::deviation, requires_all = ["mean", "qat"])]
    std: Option<args::Numbers>,
}

/// Trained weights to begin with.
pub struct Weights {
    file: PathBuf,
    model: Pretrained,
}

impl FineTune {
    /// The weights, if the run begins with any; `arch` and `input` are what the command was given.
    pub fn open(&self, arch: Option<ResNet>, input: Option<Input>) -> anyhow::Result<Option<Weights>> {
        let Some(file) = &self.weights else { return Ok(None) };
        let (mean, std) = (self.mean.clone(), self.std.clone());
        let model = args::Known { arch, input, mean, std, class_names: None }.open_noting(file)?;
        let p = model.preprocessing();
        if p.mean_picture.is_some() {
            return Err(args::pixel_mean(file));
        }
        if !Image::serves(p.channels()) {
            return Err(Error::NoPictures { network: model.spec().to_string(), channels: p.channels() }.into());
        }
        Ok(Some(Weights { file: file.clone(), model }))
    }
}

impl Weights {
    /// The configuration of a run that begins with these weights, but for what the command was given.
    pub fn config(&self, recipe: &Recipe) -> Config {
        Config::fine_tuning(self.model.spec(), recipe.epochs.unwrap_or(2))
    }

    /// Finds encodings, unless the weights carry some, and says which.
    pub fn start(&self, source: &Source, config: &Config, resources: &Resources) -> anyhow::Result<Start> {
        let (spec, weights, p) = (self.model.spec(), self.model.weights(), self.model.preprocessing());
        let file = self.file.display();
        if weights.metadata().get(keys::FOLDED).is_some_and(|folded| folded == "true") {
            return Err(anyhow!(
                "{file}: its batch norms are folded into the convolutions, and --qat trains them: pass the \
                                weights from before"
            ));
        }
        self.check_classes(source)?;
        let start = match encodings(weights)? {
            Some(known) => {
                note(&format!("{file}: keeps the int8 ranges that it holds and learns on"));
                Start::new(spec, weights, p, &known)
            }
            None => {
                note("calibrating: int8 ranges begin with those of 512 training pictures");
                Start::calibrated(spec, weights, p, source, config, resources)
            }
        };
        start.map_err(|error| match error {
            TrainError::Picture(error) => args::unreadable(&error),
            error => anyhow!("{file}: {error}"),
        })
    }

    /// The classes must be the file's, in its order: outputs are not moved about.
    fn check_classes(&self, source: &Source) -> anyhow::Result<()> {
        let (file, found, classes) = (self.file.display(), source.classes(), self.model.spec().classes());
        if found.len() != classes {
            return Err(anyhow!("{file}: the network has {classes} classes, the data set {}", found.len()));
        }
        let names = self.model.class_names().unwrap_or(found);
        match names.iter().zip(found).position(|(name, found)| name != found) {
            Some(at) => Err(anyhow!(
                "{file}: class {at} is `{}`, that of the data set `{}`: fine-tuning needs the same classes in the same order",
                names[at].escape_debug(),
                found[at].escape_debug()
            )),
            None => Ok(()),
        }
    }
}

/// The encodings that a file of weights carries.
pub fn encodings(weights: &WeightFile) -> anyhow::Result<Option<Encodings>> {
    let key = keys::INT8_ENCODINGS;
    let Some(text) = weights.metadata().get(key) else { return Ok(None) };
    let known = Encodings::from_json(text);
    known.map(Some).map_err(|reason| anyhow!("{}: metadata `{key}` {reason}", weights.path().display()))
}
