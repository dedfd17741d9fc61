//! Arguments that several commands take.

use std::path::{Path, PathBuf};

use anyhow::anyhow;
use clap::error::ErrorKind;
use residual::{
    DataError, Error, Given, Pictures, Preprocessing, Pretrained, QuantizedModel, Size,
    plan::Options,
    preprocessing::check_normalisation,
    resnet::ResNet,
    testing::Generated,
    weights::{Tensor, Weights},
    weights::{WeightFile, check, spec_from},
};

use super::{
    input::{Input, input},
    plan_file::PlanFile,
};

/// More is a slip of the finger.
const MOST_THREADS: usize = 1024;
const MOST_BATCH: usize = 65_536;

/// Weights and what is known about them.
#[derive(clap::Args)]
pub struct Model {
    /// safetensors or PyTorch file (.pth, .pt, .th); to predict, eval, inspect and convert also an int8 model (.rsd, .tflite)
    #[arg(long, value_name = "FILE")]
    pub weights: PathBuf,
    #[command(flatten)]
    pub known: Known,
}

/// A network without its preprocessing: by name, or that of a weights file.
#[derive(clap::Args)]
pub struct Network {
    /// Architecture; enough without weights
    #[arg(long, value_name = "NAME", value_parser = architecture)]
    pub arch: Option<ResNet>,
    /// safetensors or PyTorch file (.pth, .pt, .th)
    #[arg(long, value_name = "FILE")]
    pub weights: Option<PathBuf>,
    /// Input other than the network's usual one, such as 224, 224x160 or 224x160x1
    #[arg(long, value_name = "SIDE|HxW|HxWxC", value_parser = input)]
    pub input: Option<Input>,
}

impl Network {
    /// The int8 model in the file, if it holds one.
    pub fn int8(&self) -> anyhow::Result<Option<QuantizedModel>> {
        let Some(file) = self.weights.as_ref().filter(|file| QuantizedModel::is_one(file)) else { return Ok(None) };
        let model = QuantizedModel::open(file, &Given { arch: self.arch, input: self.size(), ..Given::default() })?;
        self.input.map_or(Ok(()), |input| input.check(file, model.input()?.0.c))?;
        Ok(Some(model))
    }

    fn size(&self) -> Option<Size> {
        self.input.map(|input| input.size)
    }

    /// The network, where its name is enough.
    pub fn named(&self) -> anyhow::Result<Option<ResNet>> {
        self.arch.map(|arch| self.input.map_or(Ok(arch), |input| input.of(arch))).transpose()
    }

    /// The network, and the weights if a file was given; they fit each other.
    pub fn open(&self) -> anyhow::Result<(ResNet, Option<WeightFile>)> {
        let Some(file) = &self.weights else {
            let missing = "pass --arch NAME or --weights FILE";
            return match self.named()? {
                Some(arch) => Ok((arch, None)),
                None => Err(clap::Error::raw(ErrorKind::MissingRequiredArgument, missing).into()),
            };
        };
        let weights = WeightFile::open(file)?;
        let mut spec = spec_from(&weights, self.arch.map(|arch| arch.to_string()).as_deref())?;
        check(&spec, &weights)?;
        let stored = Preprocessing::from_metadata(weights.metadata());
        let stored = stored.map_err(|error| anyhow!("{}: {error}", file.display()))?;
        self.input.map_or(Ok(()), |input| input.check(file, spec.input().c))?;
        if let Some(size) = self.size().or(stored.and_then(|p| p.crop)) {
            spec = spec.with_input(size.height, size.width)?;
        }
        note_taken(&weights);
        Ok((spec, Some(weights)))
    }
}

/// An error of a network made from `weights`, with the file and the cause where they could not be read.
pub fn explain(weights: &WeightFile, error: anyhow::Error) -> anyhow::Error {
    let explained = error.downcast_ref().and_then(|of_network| weights.explain(of_network));
    explained.map_or(error, Into::into)
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

    /// An error of a network made from them, with the file and the cause where they could not be read.
    pub fn explain(&self, error: anyhow::Error) -> anyhow::Error {
        match self {
            Source::File(file) => explain(file, error),
            Source::Generated(_) => error,
        }
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
    #[arg(long, value_name = "NAME", value_parser = architecture)]
    pub arch: Option<ResNet>,
    /// Input other than the file says, such as 224, 224x160 or 224x160x1; pictures are resized in proportion
    #[arg(long, value_name = "SIDE|HxW|HxWxC", value_parser = input)]
    pub input: Option<Input>,
    /// Mean of red, green and blue, or of grey alone, in [0, 1]; overrides the metadata
    #[arg(long, value_name = "R,G,B", value_parser = mean, requires = "std", allow_hyphen_values = true)]
    pub mean: Option<Numbers>,
    /// Standard deviation of red, green and blue, or of grey alone, in [0, 1]
    #[arg(long, value_name = "R,G,B", value_parser = deviation, requires = "mean")]
    pub std: Option<Numbers>,
    /// Text file with a class name on each line, in the order of the outputs
    #[arg(long, value_name = "FILE")]
    pub class_names: Option<PathBuf>,
}

impl Model {
    /// Loads and checks the weights; says so where the preprocessing had to be assumed.
    pub fn open(&self) -> anyhow::Result<Pretrained> {
        self.known.open_noting(&self.weights)
    }

    /// Loads and checks the file, whatever it holds.
    pub fn open_any(&self) -> anyhow::Result<residual::Model> {
        self.known.open_any(&self.weights)
    }
}

/// Takes the kernels of a file that `residual tune` wrote, if there is one.
pub fn use_plan(model: &mut residual::Model, file: Option<&Path>, how: &Pictures) -> anyhow::Result<()> {
    let Some(file) = file else { return Ok(()) };
    let options = options(how.batch, how.threads, true)?;
    let kernels = PlanFile::open(file, &*model.net()?, &options)?.kernels;
    model.prefer_kernels(kernels);
    Ok(())
}

/// Says of an error that a picture caused how to go on without it.
fn or_skip(error: Error) -> anyhow::Error {
    match error {
        Error::Data(error) => unreadable(&error),
        error => error.into(),
    }
}

/// Says of a picture that cannot be read how to go on without it.
pub fn unreadable(error: &DataError) -> anyhow::Error {
    anyhow!("{error}; --skip-unreadable goes on without it")
}

impl Known {
    /// Loads and checks the weights; says so where the preprocessing had to be assumed.
    pub fn open_noting(&self, weights: &Path) -> anyhow::Result<Pretrained> {
        let model = self.open(weights)?;
        if model.preprocessing_assumed() {
            super::note(&format!(
                "{} does not say its preprocessing: ImageNet's (shorter side 256, centre 224, its mean and std) is \
                 assumed; --mean and --std say otherwise",
                weights.display()
            ));
        }
        Ok(model)
    }

    pub fn open(&self, weights: &Path) -> anyhow::Result<Pretrained> {
        let model = Pretrained::open(weights, &self.given()?).map_err(|error| match (error, &self.class_names) {
            (error @ Error::ClassNames { .. }, Some(file)) => anyhow!("{}: {error}", file.display()),
            (error, _) => error.into(),
        })?;
        self.check_input(weights, model.spec().input().c)?;
        note_taken(model.weights());
        Ok(model)
    }

    /// An int8 model, or weights as [`Known::open_noting`] opens them.
    pub fn open_any(&self, file: &Path) -> anyhow::Result<residual::Model> {
        Ok(match QuantizedModel::is_one(file) {
            true => {
                let model = QuantizedModel::open(file, &self.given()?)?;
                self.check_input(file, model.input()?.0.c)?;
                model.into()
            }
            false => self.open_noting(file)?.into(),
        })
    }

    fn check_input(&self, file: &Path, channels: usize) -> anyhow::Result<()> {
        self.input.map_or(Ok(()), |input| input.check(file, channels))
    }

    pub fn given(&self) -> anyhow::Result<Given> {
        let class_names = self.class_names.as_deref().map(read_names).transpose()?;
        if let (Some(Numbers(mean)), Some(Numbers(std))) = (&self.mean, &self.std)
            && mean.len() != std.len()
        {
            let (means, stds) = (mean.len(), std.len());
            let text = format!("--mean has {means} numbers and --std {stds}: give one for every input channel to both");
            return Err(super::wrong_usage(text));
        }
        let normalisation = self.mean.clone().zip(self.std.clone()).map(|(mean, std)| (mean.0, std.0));
        Ok(Given { arch: self.arch, input: self.input.map(|input| input.size), normalisation, class_names })
    }
}

/// Says that a network cannot be had in int8 because of its means.
pub fn pixel_mean(weights: &Path) -> anyhow::Error {
    anyhow!("{}: a mean for every pixel is subtracted, and int8 files hold means of channels only", weights.display())
}

/// An error of running a network, with the file of weights that is to blame.
pub fn naming(weights: &Path, error: Error) -> anyhow::Error {
    match error {
        Error::NotFinite { .. } => anyhow!("{}: {error}", weights.display()),
        error => or_skip(error),
    }
}

/// Says what was taken of a file that holds more than a network's tensors.
fn note_taken(weights: &WeightFile) {
    if !weights.notes().is_empty() {
        super::note(&format!("{}: {}", weights.path().display(), weights.notes().join("; ")));
    }
}

fn read_names(file: &Path) -> anyhow::Result<Vec<String>> {
    /// Longest file of class names, in bytes.
    const MAX_FILE: u64 = 16 << 20;
    let text = residual::read_text(file, MAX_FILE).map_err(|error| anyhow!("{}: {error}", file.display()))?;
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

/// `--arch`: a name of the grammar, or the one that was meant.
pub fn architecture(text: &str) -> Result<ResNet, String> {
    text.parse().map_err(|error: residual::CoreError| match meant(text) {
        Some(spec) => format!("{error}; did you mean `{spec}`?"),
        None => error.to_string(),
    })
}

/// The network that a name in another spelling means, such as `ResNet-50` or `resnet20_cifar10`.
fn meant(text: &str) -> Option<ResNet> {
    let lower = text.to_lowercase();
    let mut parts = lower.split(|c: char| !c.is_alphanumeric()).filter(|part| !part.is_empty());
    let mut name = parts.next()?.to_owned();
    if !name.ends_with(|c: char| c.is_ascii_digit()) {
        name += parts.next()?;
    }
    for part in parts {
        name.push('-');
        name += match part {
            "a" => "A",
            "ac" => "Ac",
            "b" => "B",
            "c" => "C",
            "cifar10" | "cifar100" => "cifar",
            other => other,
        };
    }
    name.parse().ok()
}

/// `--threads`: at least 1.
pub fn threads(text: &str) -> Result<usize, String> {
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

/// A number of steps or epochs: at least 1.
pub fn at_least_one(text: &str) -> Result<u64, String> {
    match text.parse() {
        Ok(n) if n > 0 => Ok(n),
        _ => Err("must be a whole number, at least 1".into()),
    }
}

/// `--seconds`: above 0, at most a day.
pub fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(s) if s > 0.0 && s <= 86_400.0 => Ok(s),
        _ => Err("must be a number of seconds above 0, at most 86400".into()),
    }
}

/// A number for every input channel.
#[derive(Clone, Debug)]
pub struct Numbers(Vec<f32>);

fn numbers(text: &str) -> Result<Vec<f32>, String> {
    let numbers: Option<Vec<f32>> =
        text.split(',').map(|n| n.trim().parse().ok().filter(|v: &f32| v.is_finite())).collect();
    numbers.ok_or_else(|| "must be numbers with commas between, one for every input channel".into())
}

/// `--mean`.
pub fn mean(text: &str) -> Result<Numbers, String> {
    let mean = numbers(text)?;
    usable(&mean, &[]).map(|()| Numbers(mean))
}

/// `--std`.
pub fn deviation(text: &str) -> Result<Numbers, String> {
    let std = numbers(text)?;
    usable(&[], &std).map(|()| Numbers(std))
}

fn usable(mean: &[f32], std: &[f32]) -> Result<(), String> {
    check_normalisation(mean, std).map_err(|error| match error {
        DataError::Preprocessing { reason, .. } => reason,
        error => error.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::architecture;

    #[test]
    fn other_spellings_of_an_architecture_are_recognised() {
        for (text, name) in [
            ("ResNet50", "resnet50"),
            ("resnet-50", "resnet50"),
            ("resnet_50", "resnet50"),
            ("ResNet-50", "resnet50"),
            ("RESNET 152", "resnet152"),
            ("Plain-34", "plain34"),
            ("resnet20_cifar", "resnet20-cifar"),
            ("ResNet-20-CIFAR10-ac", "resnet20-cifar-Ac"),
            ("resnet50-V1-W32", "resnet50-v1-w32"),
        ] {
            let error = architecture(text).unwrap_err();
            assert!(error.starts_with("unknown architecture: "), "{error}");
            assert!(error.ends_with(&format!("; did you mean `{name}`?")), "{text}: {error}");
        }
        for (text, reason) in [
            ("vgg16", "a name begins with `resnet` or `plain`, for example resnet50 or plain20-cifar"),
            ("resnet51", "the ImageNet networks have 18, 34, 50, 101 or 152 layers"),
            ("", "a name begins with `resnet` or `plain`, for example resnet50 or plain20-cifar"),
        ] {
            assert_eq!(architecture(text).unwrap_err(), format!("unknown architecture: {reason}"));
        }
        assert_eq!(architecture("resnet50").unwrap().to_string(), "resnet50");
    }
}
