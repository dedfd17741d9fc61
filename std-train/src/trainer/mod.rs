//! Training a network from a data set to a file of weights.
//!
//! ```no_run
//! use std::{path::Path, sync::atomic::AtomicBool};
//!
//! use residual_train::trainer::{Config, Event, Limits, Resources, Source, Trainer};
//!
//! let source = Source::open(Path::new("cifar-10-batches-bin"), 32, false)?;
//! let config = Config::paper(&"resnet20-cifar".parse()?, 164);
//! let mut trainer = Trainer::new(config, source, Resources::default(), Path::new("run"))?;
//! trainer.run(&Limits::default(), &AtomicBool::new(false), |event| {
//!     if let Event::Epoch(row) = event {
//!         println!("{}: {:.2}%", row.epoch, row.val_top1);
//!     }
//! })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A run is decided by its [`Config`] and its pictures: threads, interruptions and resuming do not change a bit of
//! its result. Every random number follows from the seed and what it is for ([`crate::random`]), and the step sums
//! in fixed orders ([`crate::network`]).

mod checkpoint;
mod config;
mod error;
pub mod metrics;
pub mod report;
mod run;
mod source;
mod tensorboard;
#[cfg(test)]
mod tests;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use residual_core::{Isa, resnet::ResNet};

use self::checkpoint::{Checkpoint, State};
pub use self::{checkpoint::Position, config::Config, error::TrainError, metrics::Row, source::Source};
use crate::{
    data::{Dataset, Loader},
    network::{Network, Options},
    optim::{Pace, Sgd},
    parameters::Parameters,
    random::{Purpose, Stream},
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

/// A run.
pub struct Trainer {
    config: Config,
    spec: ResNet,
    resources: Resources,
    out: PathBuf,
    source: Source,
    train: Loader,
    validation: Loader,
    network: Network,
    parameters: Parameters,
    optimiser: Sgd,
    average: Option<Vec<f32>>,
    pace: Pace,
    position: Position,
    rows: Vec<Row>,
    gradients: Vec<f32>,
    /// a checkpoint that lies in `out` is not ours
    foreign: bool,
}

/// The data sets of a run, shared with the threads that read them.
type Shared = Arc<dyn Dataset>;

impl Trainer {
    /// Prepares a run whose files will lie in `out`, which is created.
    ///
    /// # Errors
    /// A setting out of range, a data set too small, or a folder that cannot be written.
    pub fn new(config: Config, source: Source, resources: Resources, out: &Path) -> Result<Self, TrainError> {
        config.check()?;
        let spec = config.spec()?;
        if source.classes().len() != spec.classes() {
            let (need, got) = (spec.classes(), source.classes().len());
            return Err(TrainError::Data { what: "classes", need, got });
        }
        let (train, validation) = indices(&config, &source)?;
        if train.len() < config.batch_size {
            let (need, got) = (config.batch_size, train.len());
            return Err(TrainError::Data { what: "training pictures for a batch", need, got });
        }
        let preprocessing = source.preprocessing(&spec, &train, config.pixel_mean)?;
        let loader = |data, indices: Vec<u32>| Loader {
            data,
            indices: indices.into(),
            batch: config.batch_size,
            side: config.side,
            preprocessing: preprocessing.clone(),
            training: None,
            threads: resources.workers,
        };
        let validation_data = if config.holdout > 0 { source.train.clone() } else { source.test.clone() };
        let (train, validation) = (loader(source.train.clone(), train), loader(validation_data, validation));

        let parameters = Parameters::init(spec, config.seed);
        let options = Options {
            batch: config.batch_size,
            threads: resources.threads,
            isa: resources.isa,
            winograd: config.winograd,
        };
        let network = Network::new(&parameters, &options)?;
        let steps = train.batches().div_ceil(config.accumulate) as u64;
        let pace = config.pace(steps)?;
        let position = Position { pictures: train.indices.len() as u64, ..Position::default() };
        let optimiser = Sgd::new(&parameters, config.momentum as f32, config.nesterov, config.decay());
        fs::create_dir_all(out).map_err(|source| TrainError::io(out, source))?;
        Ok(Trainer {
            spec,
            resources,
            out: out.into(),
            source,
            train,
            validation,
            network,
            gradients: vec![0.0; parameters.values().len()],
            average: config.model_ema.then(|| parameters.values().to_vec()),
            parameters,
            optimiser,
            pace,
            position,
            foreign: true,
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

    /// Continues from the checkpoint in `folder`, to the same bits as if the run had not stopped.
    ///
    /// # Errors
    /// A checkpoint that cannot be read, or [`TrainError::Checkpoint`] naming what is wrong or what differs.
    pub fn resume(&mut self, folder: &Path) -> Result<(), TrainError> {
        let path = folder.join(CHECKPOINT);
        let file = Checkpoint::open(&path)?;
        let (config, pictures) = (self.config.clone(), self.position.pictures);
        let position = self.state().0.load(&file, &config, pictures)?;
        if position.epoch > config.epochs || position.batch > self.train.batches() as u64 {
            let reason = format!("is at batch {} of epoch {}, beyond the run", position.batch, position.epoch);
            return Err(TrainError::Checkpoint { file: path.display().to_string(), reason });
        }
        self.position = position;
        self.rows = metrics::read(&folder.join("metrics.csv"), position.step);
        // The row of an epoch that was not finished is written again when it is.
        self.rows.retain(|row| row.epoch <= position.epoch);
        self.foreign = folder != self.out;
        Ok(())
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

    fn state(&mut self) -> (State<'_>, &Config, &Position) {
        let Trainer { parameters, optimiser, average, config, position, .. } = self;
        (State { parameters, optimiser, average: average.as_mut() }, config, position)
    }
}

/// The name of the checkpoint in a run's folder.
const CHECKPOINT: &str = "checkpoint";

/// Training and validation pictures.
fn indices(config: &Config, source: &Source) -> Result<(Vec<u32>, Vec<u32>), TrainError> {
    let n = source.train.len();
    if config.holdout == 0 {
        return Ok(((0..n as u32).collect(), (0..source.test.len() as u32).collect()));
    }
    if config.holdout >= n {
        return Err(TrainError::Data { what: "training pictures", need: config.holdout + 1, got: n });
    }
    let order = Stream::new(config.seed, Purpose::Holdout, [0, 0]).permutation(n);
    let (mut train, mut held) = (order[config.holdout..].to_vec(), order[..config.holdout].to_vec());
    train.sort_unstable();
    held.sort_unstable();
    Ok((train, held))
}
