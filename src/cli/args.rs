//! Arguments that several commands take.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::anyhow;
use clap::error::ErrorKind;
use residual::{
    Error, Given, Preprocessing, Pretrained,
    import::{WeightFile, check, spec_from},
    net::ResNet,
    plan::Options,
    testing::Generated,
    weights::{Tensor, Weights},
};

/// More is a slip of the finger.
const MOST_THREADS: usize = 1024;
const MOST_BATCH: usize = 65_536;

/// Weights and what is known about them.
#[derive(clap::Args)]
pub struct Model {
    /// safetensors or PyTorch file (.pth, .pt, .th)
    #[arg(long, value_name = "FILE")]
    pub weights: PathBuf,
    #[command(flatten)]
    pub known: Known,
}

/// A network without its preprocessing: by name, or that of a weights file.
#[derive(clap::Args)]
pub struct Network {
    /// Architecture; enough without weights
    #[arg(long, value_name = "NAME")]
    pub arch: Option<ResNet>,
    /// safetensors or PyTorch file (.pth, .pt, .th)
    #[arg(long, value_name = "FILE")]
    pub weights: Option<PathBuf>,
}

impl Network {
    /// The network, and the weights if a file was given; they fit each other.
    pub fn open(&self) -> anyhow::Result<(ResNet, Option<WeightFile>)> {
        let Some(file) = &self.weights else {
            let missing = "pass --arch NAME or --weights FILE";
            return match self.arch {
                Some(arch) => Ok((arch, None)),
                None => Err(clap::Error::raw(ErrorKind::MissingRequiredArgument, missing).into()),
            };
        };
        let weights = WeightFile::open(file)?;
        let mut spec = spec_from(&weights, self.arch.map(|arch| arch.to_string()).as_deref())?;
        check(&spec, &weights)?;
        let stored = Preprocessing::from_metadata(weights.metadata());
        let stored = stored.map_err(|error| anyhow!("{}: {error}", file.display()))?;
        if let Some(side) = stored.and_then(|p| p.crop) {
            spec = spec.with_input(side, side)?;
        }
        Ok((spec, Some(weights)))
    }
}

/// Weights to measure with: a file's, or generated ones, which take the same time.
pub enum Source {
    File(WeightFile),
    Generated(Generated),
}

impl Source {
    pub fn new(spec: ResNet, file: Option<WeightFile>) -> Self {
        file.map_or_else(|| Source::Generated(Generated::new(spec)), Source::File)
    }
}

impl Weights for Source {
    fn tensor(&self, name: &str) -> Option<Tensor<'_>> {
        match self {
            Source::File(file) => file.tensor(name),
            Source::Generated(generated) => generated.tensor(name),
        }
    }
}

/// What the caller knows about a weights file.
#[derive(clap::Args)]
pub struct Known {
    /// Architecture, where the file's metadata does not say it
    #[arg(long, value_name = "NAME")]
    pub arch: Option<ResNet>,
    /// Mean of red, green and blue in [0, 1]; overrides the metadata
    #[arg(long, value_name = "R,G,B", value_parser = triple, requires = "std", allow_hyphen_values = true)]
    pub mean: Option<[f32; 3]>,
    /// Standard deviation of red, green and blue in [0, 1]
    #[arg(long, value_name = "R,G,B", value_parser = deviation, requires = "mean")]
    pub std: Option<[f32; 3]>,
    /// Text file with a class name on each line, in the order of the outputs
    #[arg(long, value_name = "FILE")]
    pub class_names: Option<PathBuf>,
}

impl Model {
    /// Loads and checks the weights; says so where the preprocessing had to be assumed.
    pub fn open(&self) -> anyhow::Result<Pretrained> {
        let model = self.known.open(&self.weights)?;
        if model.preprocessing_assumed() {
            super::note(&format!(
                "{} does not say its preprocessing: ImageNet's (shorter side 256, centre 224, its mean and std) is \
                 assumed; --mean and --std say otherwise",
                self.weights.display()
            ));
        }
        Ok(model)
    }
}

impl Known {
    pub fn open(&self, weights: &Path) -> anyhow::Result<Pretrained> {
        let class_names = self.class_names.as_deref().map(read_names).transpose()?;
        let given = Given { arch: self.arch, normalisation: self.mean.zip(self.std), class_names };
        Pretrained::open(weights, &given).map_err(|error| match (error, &self.class_names) {
            (error @ Error::ClassNames { .. }, Some(file)) => anyhow!("{}: {error}", file.display()),
            (error, _) => error.into(),
        })
    }
}

fn read_names(file: &Path) -> anyhow::Result<Vec<String>> {
    let text = fs::read_to_string(file).map_err(|error| anyhow!("{}: {error}", file.display()))?;
    Ok(text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect())
}

/// Threads.
#[derive(clap::Args)]
pub struct Threads {
    /// Threads to use [default: all this process may use]
    #[arg(long, value_name = "N", value_parser = threads)]
    threads: Option<usize>,
}

impl Threads {
    pub fn get(&self) -> usize {
        self.threads.unwrap_or_else(|| residual::available_threads().min(MOST_THREADS))
    }
}

/// Plan options with the instruction set the environment asks for.
pub fn options(batch: usize, threads: usize, winograd: bool) -> Result<Options, Error> {
    Ok(Options { batch, threads, isa: residual::isa()?, winograd })
}

/// `--threads`: at least 1.
fn threads(text: &str) -> Result<usize, String> {
    count(text, MOST_THREADS)
}

/// `--batch`: at least 1.
pub fn batch(text: &str) -> Result<usize, String> {
    count(text, MOST_BATCH)
}

fn count(text: &str, most: usize) -> Result<usize, String> {
    match text.parse() {
        Ok(n) if (1..=most).contains(&n) => Ok(n),
        _ => Err(format!("must be a whole number from 1 to {most}")),
    }
}

/// `--seconds`: above 0, at most a day.
pub fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(s) if s > 0.0 && s <= 86_400.0 => Ok(s),
        _ => Err("must be a number of seconds above 0, at most 86400".into()),
    }
}

fn triple(text: &str) -> Result<[f32; 3], String> {
    let numbers: Option<Vec<f32>> =
        text.split(',').map(|n| n.trim().parse().ok().filter(|v: &f32| v.is_finite())).collect();
    numbers.and_then(|n| n.try_into().ok()).ok_or_else(|| "must be three numbers with commas between".into())
}

fn deviation(text: &str) -> Result<[f32; 3], String> {
    let std = triple(text)?;
    if std.iter().all(|v| v.is_normal() && *v > 0.0) { Ok(std) } else { Err("must be above 0".into()) }
}
