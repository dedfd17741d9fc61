//! Training a network from a data set to a file of weights.
//!
//! ```no_run
//! use std::{path::Path, sync::atomic::AtomicBool};
//!
//! use residual_train::trainer::{Config, Event, Limits, Resources, RunFolder, Source, Trainer};
//!
//! let source = Source::open(Path::new("cifar-10-batches-bin"), 32, false)?;
//! let config = Config::paper(&"resnet20-cifar".parse()?, 164);
//! let folder = RunFolder::create(Path::new("run"))?;
//! let mut trainer = Trainer::new(config, source, Resources::default(), folder)?;
//! trainer.run(&Limits::default(), &AtomicBool::new(false), |event| {
//!     if let Event::Epoch(row) = event {
//!         println!("{}: {:.2}%", row.epoch, row.val_top1);
//!     }
//! })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Its [`Config`] and its pictures decide a run: threads, interruptions and resuming do not change a bit of its result.
//! Every random number follows from the seed and what it is for ([`crate::random`]), and a step sums in fixed orders
//! ([`crate::engine`]).

mod checkpoint;
mod config;
mod error;
mod folder;
mod holdout;
mod identity;
pub mod metrics;
pub mod report;
mod run;
mod source;
mod start;
mod tensorboard;
#[cfg(test)]
mod tests;
mod validate;

use std::{path::Path, sync::Arc, time::Duration};

use residual_core::{Isa, resnet::ResNet};

pub use self::{
    checkpoint::Position, config::Config, error::TrainError, folder::RunFolder, holdout::Holdout, metrics::Row,
    source::Source, start::Start,
};
use self::{
    checkpoint::{Checkpoint, Run, State},
    identity::{Identity, Pictures},
};
use crate::{
    data::{Batch, Dataset, Loader},
    engine::{CpuEngine, Int8Engine, Loss, Options, StepError},
    layer::softmax::Score,
    optim::{Pace, Sgd},
    parameters::Parameters,
};

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// all epochs are done
    Finished,
    /// the limit of steps was reached
    Limited,
    /// it was asked to stop
    Interrupted,
}

/// What does not change the result.
#[derive(Clone, Copy, Debug)]
pub struct Resources {
    /// threads that compute
    pub threads: usize,
    /// threads that prepare pictures
    pub workers: usize,
    /// instruction set; another one rounds differently
    pub isa: Isa,
}

impl Default for Resources {
    /// All threads there are, for both.
    fn default() -> Self {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        Resources { threads, workers: threads, isa: Isa::best() }
    }
}

/// When a run stops early and how often it saves.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// stop when this many steps are done in all
    pub max_steps: Option<u64>,
    /// save at the latest after this long; at the end of every epoch in any case
    pub save_every: Duration,
}

impl Default for Limits {
    /// No limit; save every five minutes.
    fn default() -> Self {
        Limits { max_steps: None, save_every: Duration::from_secs(300) }
    }
}

/// What an observer is told.
#[derive(Clone, Copy, Debug)]
pub enum Event<'e> {
    /// after each step
    Step(&'e Progress),
    /// after each epoch, and when a run stops within one
    Epoch(&'e Row),
}

/// Where a run is and how fast.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// where the run is
    pub position: Position,
    /// steps of the whole run
    pub total: u64,
    /// learning rate of the step
    pub rate: f64,
    /// training pictures a second, since the epoch began
    pub images_per_second: f64,
}

/// A run: the network, its pictures, and how far it has come. The [module](self) has an example.
pub struct Trainer {
    config: Config,
    spec: ResNet,
    resources: Resources,
    folder: RunFolder,
    source: Source,
    identity: Identity,
    train: Loader,
    validation: Option<Loader>,
    engine: Engine,
    parameters: Parameters,
    optimiser: Sgd,
    average: Option<Vec<f32>>,
    pace: Pace,
    position: Position,
    rows: Vec<Row>,
    gradients: Vec<f32>,
}

/// What computes a run's steps.
enum Engine {
    F32(Box<CpuEngine>),
    Int8(Box<Int8Engine>),
}

impl Engine {
    fn new(config: &Config, parameters: &Parameters, resources: &Resources) -> Result<Self, TrainError> {
        let options = Options {
            batch: config.batch_size,
            threads: resources.threads,
            isa: resources.isa,
            winograd: config.winograd,
        };
        Ok(match config.qat {
            true => Engine::Int8(Int8Engine::new(parameters, &options)?.into()),
            false => Engine::F32(CpuEngine::new(parameters, &options)?.into()),
        })
    }

    fn step(
        &mut self,
        parameters: &mut Parameters,
        batch: &Batch,
        loss: Loss,
        gradients: &mut [f32],
    ) -> Result<Score, StepError> {
        let Batch { images, labels } = batch;
        match self {
            Engine::F32(engine) => engine.step(parameters, images, labels, loss, gradients),
            Engine::Int8(engine) => engine.step(parameters, images, labels, loss, gradients),
        }
    }
}

/// The data sets of a run, shared with the threads that read them.
type Shared = Arc<dyn Dataset>;

impl Trainer {
    /// Prepares a run whose files will lie in `folder`. Nothing is written yet.
    ///
    /// # Errors
    /// A setting out of range; a data set too small or without pictures to validate on; batches that batch norm cannot
    /// be trained on.
    pub fn new(config: Config, source: Source, resources: Resources, folder: RunFolder) -> Result<Self, TrainError> {
        if config.qat {
            let reason = "fine-tunes trained weights, and there are none to start from";
            return Err(TrainError::Setting { name: "qat", value: "true".into(), reason });
        }
        Trainer::prepare(config, None, source, resources, folder)
    }

    /// Prepares a run of quantization-aware training: the int8 network of trained weights is fine-tuned, as
    /// [`Int8Engine`] says. Beside what other runs leave, `folder` receives the int8 model, `model.rsd`.
    ///
    /// # Errors
    /// As [`Trainer::new`]; [`TrainError::Setting`] for a configuration of another network than that of `start`.
    pub fn fine_tune(
        config: Config,
        start: Start,
        source: Source,
        resources: Resources,
        folder: RunFolder,
    ) -> Result<Self, TrainError> {
        Trainer::prepare(Config { qat: true, ..config }, Some(start), source, resources, folder)
    }

    fn prepare(
        config: Config,
        start: Option<Start>,
        source: Source,
        resources: Resources,
        folder: RunFolder,
    ) -> Result<Self, TrainError> {
        config.check()?;
        let spec = config.spec()?;
        if start.as_ref().is_some_and(|start| *start.parameters.spec() != spec) {
            let reason = "is not the network of the weights to start from";
            return Err(TrainError::Setting { name: "arch", value: spec.to_string(), reason });
        }
        if source.classes().len() != spec.classes() {
            let (need, got) = (spec.classes(), source.classes().len());
            return Err(TrainError::Data { what: "classes", need, got });
        }
        let division = source.divide(&config)?;
        let identity = Identity {
            classes: source.classes().to_vec(),
            train: Pictures::of(&*source.train, &division.train),
            validation: division.validation_pictures(),
        };
        let source::Division { train, validation } = division;
        if train.len() < config.batch_size {
            let (need, got) = (config.batch_size, train.len());
            return Err(TrainError::Data { what: "training pictures for a batch", need, got });
        }
        if !crate::data::Image::serves(spec.input().c) {
            let reason = "pictures have 1 input channel (grey) or 3 (RGB), so there is nothing to train it on";
            return Err(TrainError::Setting { name: "arch", value: config.arch, reason });
        }
        let (parameters, preprocessing) = match start {
            Some(Start { parameters, preprocessing }) => (parameters, preprocessing),
            None => {
                refuse_lone_pictures(&config, &spec, train.len())?;
                let preprocessing = source.preprocessing(&spec, &train, config.pixel_mean)?;
                (Parameters::init(spec, config.seed), preprocessing)
            }
        };
        let loader = |data, indices: Vec<u32>| Loader {
            data,
            indices: indices.into(),
            batch: config.batch_size,
            drop_last: false,
            size: config.input,
            preprocessing: preprocessing.clone(),
            training: None,
            threads: resources.workers,
        };
        let train = Loader { drop_last: config.drop_last, ..loader(source.train.clone(), train) };
        let validation = validation.map(|(data, indices)| loader(data, indices));

        let engine = Engine::new(&config, &parameters, &resources)?;
        let steps = train.batches().div_ceil(config.accumulate) as u64;
        let pace = config.pace(steps)?;
        let position = Position { pictures: train.indices.len() as u64, ..Position::default() };
        let optimiser = Sgd::new(&parameters, config.momentum as f32, config.nesterov, config.decay());
        Ok(Trainer {
            spec,
            resources,
            folder,
            source,
            identity,
            train,
            validation,
            engine,
            gradients: vec![0.0; parameters.values().len()],
            average: config.model_ema.then(|| parameters.values().to_vec()),
            parameters,
            optimiser,
            pace,
            position,
            rows: Vec::new(),
            config,
        })
    }

    /// The configuration of the checkpoint in `folder`.
    ///
    /// # Errors
    /// A checkpoint that cannot be read.
    pub fn stored_config(folder: &Path) -> Result<Config, TrainError> {
        Ok(Checkpoint::open(&folder.join(CHECKPOINT))?.config)
    }

    /// Continues from the checkpoint in `folder`, to the same bits as if the run had not stopped. The configuration
    /// may ask for more epochs than the run's: then a course of the learning rate that stretches over the run
    /// ([`Config::stretches`]) is that of the longer run from here on.
    ///
    /// # Errors
    /// A checkpoint that cannot be read, or [`TrainError::Checkpoint`] naming what is wrong or what differs: a setting,
    /// the classes, the pictures.
    pub fn resume(&mut self, folder: &Path) -> Result<(), TrainError> {
        let path = folder.join(CHECKPOINT);
        let file = Checkpoint::open(&path)?;
        let (mut state, run, _) = self.state();
        let position = state.load(&file, &run)?;
        if position.epoch > self.config.epochs || position.batch > self.train.batches() as u64 {
            let reason = format!("is at batch {} of epoch {}, beyond the run", position.batch, position.epoch);
            return Err(TrainError::Checkpoint { file: path.display().to_string(), reason });
        }
        self.position = position;
        self.rows = metrics::read(&folder.join("metrics.csv"), position.step);
        // The row of an epoch that was not finished is written again when it is.
        self.rows.retain(|row| row.epoch <= position.epoch);
        self.folder.adopt(folder);
        Ok(())
    }

    /// Whether all epochs are done.
    pub fn is_finished(&self) -> bool {
        self.position.epoch >= self.config.epochs
    }

    /// Where the run is.
    pub fn position(&self) -> &Position {
        &self.position
    }

    /// The rows of `metrics.csv` so far.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// Weights and running statistics.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// How pictures are prepared.
    pub fn preprocessing(&self) -> &crate::data::Preprocessing {
        &self.train.preprocessing
    }

    fn state(&mut self) -> (State<'_>, Run<'_>, &Position) {
        let Trainer { parameters, optimiser, average, config, identity, position, train, .. } = self;
        let preprocessing = config.qat.then_some(&train.preprocessing);
        let state = State { parameters, optimiser, average: average.as_mut() };
        (state, Run { config, identity, preprocessing }, position)
    }
}

/// The name of the checkpoint in a run's folder.
const CHECKPOINT: &str = "checkpoint";

/// Refuses batches of one picture where a layer's maps are single pixels.
fn refuse_lone_pictures(config: &Config, spec: &ResNet, pictures: usize) -> Result<(), TrainError> {
    let pixel = spec.convs().find(|conv| conv.geom.output().h * conv.geom.output().w == 1);
    let Some(layer) = pixel.map(|conv| conv.name.to_string()) else { return Ok(()) };
    if config.batch_size == 1 {
        let remedy = "take at least --batch-size 2, or larger pictures";
        return Err(TrainError::Lone { which: "--batch-size 1: a batch".into(), layer, remedy });
    }
    if pictures % config.batch_size == 1 && !config.drop_last {
        let which = format!("{pictures} training pictures, {} a batch: the last", config.batch_size);
        let remedy = "--drop-last leaves it out, or take another --batch-size";
        return Err(TrainError::Lone { which, layer, remedy });
    }
    Ok(())
}
