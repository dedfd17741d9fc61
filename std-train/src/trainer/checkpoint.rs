//! `checkpoint`: everything a run needs to continue as if it had never stopped.
//!
//! A safetensors file: tensors `model.*`, `velocity.*` and, with averaging, `average.*`; the position, the sums of
//! the epoch so far, the schedule's memory and the configuration as string metadata, numbers in hexadecimal bits
//! where rounding would lose something. There is no random state: every random number follows from the seed and
//! what it is for. Two checkpoints of the same run at the same step are the same bytes, but for one that was written
//! between an epoch's last step and its row, which holds how long the epoch took. A checksum of the whole file lies in
//! the metadata.

use std::{collections::BTreeMap, path::Path};

use residual_core::memory::Buffer;
use residual_io::{
    ImportError,
    weights::{self, Tensor, WeightFile, Weights},
};

use super::{Config, Identity, TrainError};
use crate::{
    data::Preprocessing,
    layer::softmax::Score,
    optim::{ScheduleState, Sgd},
    parameters::Parameters,
};

/// Where a run is.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Position {
    /// training pictures of an epoch
    pub pictures: u64,
    /// epochs done
    pub epoch: u64,
    /// batches of the current one done
    pub batch: u64,
    /// steps done in all
    pub step: u64,
    /// sums of the current epoch
    pub score: Score,
    /// learning rate of the last step
    pub rate: f64,
    /// training pictures a second, in the current epoch
    pub images_per_second: f64,
    /// the schedule's memory
    pub schedule: ScheduleState,
}

/// What a checkpoint holds.
pub struct State<'s> {
    /// weights and running statistics
    pub parameters: &'s mut Parameters,
    /// velocity
    pub optimiser: &'s mut Sgd,
    /// averaged weights
    pub average: Option<&'s mut Vec<f32>>,
}

/// What decides a run.
pub struct Run<'r> {
    pub config: &'r Config,
    pub identity: &'r Identity,
    /// how pictures are prepared, where the pictures at hand do not decide it
    pub preprocessing: Option<&'r Preprocessing>,
}

const VERSION: &str = "2";

fn bits(v: f64) -> String {
    format!("{:016x}", v.to_bits())
}

impl State<'_> {
    fn parts(&self) -> Vec<(&'static str, &[f32])> {
        let mut parts = vec![("model", self.parameters.values()), ("velocity", self.optimiser.velocity())];
        parts.extend(self.average.as_ref().map(|average| ("average", &average[..])));
        parts
    }

    /// Writes the checkpoint, atomically: on any error the one before is untouched.
    ///
    /// # Errors
    /// What the operating system reports.
    pub fn save(&self, path: &Path, run: &Run<'_>, at: &Position) -> Result<(), TrainError> {
        let entries = self.parameters.entries();
        let parts = self.parts();
        let named: Vec<(String, Tensor<'_>)> = parts
            .iter()
            .flat_map(|(part, values)| {
                entries.iter().map(move |e| {
                    let tensor = Tensor::new(e.tensor.shape(), &values[e.range.clone()]);
                    (format!("{part}.{}", e.tensor.name), tensor)
                })
            })
            .collect();
        let mut metadata = BTreeMap::from(
            [
                ("residual_checkpoint", VERSION.to_owned()),
                ("config", serde_json::to_string(run.config).unwrap_or_default()),
                ("data", serde_json::to_string(run.identity).unwrap_or_default()),
                ("pictures", at.pictures.to_string()),
                ("epoch", at.epoch.to_string()),
                ("batch", at.batch.to_string()),
                ("step", at.step.to_string()),
                ("score_loss", bits(at.score.loss)),
                ("score_correct", at.score.correct.to_string()),
                ("score_count", at.score.count.to_string()),
                ("rate", bits(at.rate)),
                ("images_per_second", bits(at.images_per_second)),
                ("schedule_best", bits(at.schedule.best)),
                ("schedule_waited", at.schedule.waited.to_string()),
                ("schedule_factor", bits(at.schedule.factor)),
                ("schedule_warm", u8::from(at.schedule.warm).to_string()),
            ]
            .map(|(key, value)| (key.to_owned(), value)),
        );
        metadata.extend(run.preprocessing.map(Preprocessing::to_metadata).unwrap_or_default());
        let tensors = named.iter().map(|(name, tensor)| (name.as_str(), *tensor));
        Ok(weights::save(path, tensors, &metadata)?)
    }

    /// Reads a checkpoint of the same run into this state; the run may now have more epochs.
    ///
    /// # Errors
    /// [`TrainError::Checkpoint`] when it is damaged or of another run, naming what differs.
    pub fn load(&mut self, file: &Checkpoint, run: &Run<'_>) -> Result<Position, TrainError> {
        let epochs = run.config.epochs.max(file.config.epochs);
        if let Some((name, here, there)) = run.config.difference(&Config { epochs, ..file.config.clone() }) {
            return Err(file.wrong(format!("is of a run with {name} {there}, this one has {here}")));
        }
        if let Some(reason) = file.identity.difference(run.identity) {
            return Err(file.wrong(reason));
        }
        let at = file.position()?;
        if at.pictures != run.identity.train.total() {
            return Err(file.wrong(format!("has a damaged `pictures`: {}", at.pictures)));
        }
        let entries = self.parameters.entries().to_vec();
        let mut targets = vec![("model", self.parameters.values_mut()), ("velocity", self.optimiser.velocity_mut())];
        targets.extend(self.average.as_mut().map(|average| ("average", &mut average[..])));
        let mut room = Buffer::new(0);
        for (part, values) in targets {
            for entry in &entries {
                let (name, need) = (format!("{part}.{}", entry.tensor.name), entry.tensor.shape());
                let tensor = file.weights.tensor(&name);
                let tensor = tensor.ok_or_else(|| file.wrong(format!("has no tensor `{name}`")))?;
                if tensor.shape != need {
                    let reason = format!("tensor `{name}` has shape {:?}, {need:?} needed", tensor.shape);
                    return Err(file.wrong(reason));
                }
                let data = tensor.data.read(&mut room).map_err(ImportError::from)?;
                if let Some(value) = data.iter().find(|v| !v.is_finite()) {
                    return Err(file.wrong(format!("is damaged: tensor `{name}` holds {value}; {MEND}")));
                }
                values[entry.range.clone()].copy_from_slice(data);
            }
        }
        Ok(at)
    }
}

/// A checkpoint file whose tensors are not read yet.
pub struct Checkpoint {
    weights: WeightFile,
    /// of its run
    pub config: Config,
    identity: Identity,
}

/// What to do about a damaged checkpoint.
const MEND: &str = "take a copy of it from elsewhere, or begin anew with --overwrite";

impl Checkpoint {
    /// Opens a checkpoint.
    ///
    /// # Errors
    /// A file that cannot be read, or is no checkpoint.
    pub fn open(path: &Path) -> Result<Self, TrainError> {
        let weights = WeightFile::open(path)?;
        let wrong = |reason: String| TrainError::Checkpoint { file: path.display().to_string(), reason };
        let text = |key: &str| {
            let value = weights.metadata().get(key);
            value.ok_or_else(|| wrong(format!("is no checkpoint: no `{key}` in it")))
        };
        match text("residual_checkpoint")?.as_str() {
            VERSION => {}
            other => {
                let other = other.escape_debug();
                return Err(wrong(format!("has version {other}; this program reads version {VERSION}")));
            }
        }
        if !weights.is_verified() {
            return Err(wrong(format!("is damaged: it has no checksum; {MEND}")));
        }
        let config: Config =
            serde_json::from_str(text("config")?).map_err(|e| wrong(format!("has a damaged configuration: {e}")))?;
        let identity =
            serde_json::from_str(text("data")?).map_err(|e| wrong(format!("has damaged facts about its data: {e}")))?;
        Ok(Checkpoint { weights, config, identity })
    }

    fn wrong(&self, reason: String) -> TrainError {
        TrainError::Checkpoint { file: self.weights.path().display().to_string(), reason }
    }

    /// How the run prepares pictures.
    ///
    /// # Errors
    /// [`TrainError::Checkpoint`] for a checkpoint that does not say it in a usable way.
    pub fn preprocessing(&self) -> Result<Preprocessing, TrainError> {
        let found = Preprocessing::from_metadata(self.weights.metadata()).map_err(|e| self.wrong(e.to_string()))?;
        found.ok_or_else(|| self.wrong("does not say how pictures are prepared".into()))
    }

    fn position(&self) -> Result<Position, TrainError> {
        let field = |key: &str| self.weights.metadata().get(key).map_or("", String::as_str);
        let damaged = |key: &str| self.wrong(format!("has a damaged `{key}`: `{}`", field(key).escape_debug()));
        let number = |key: &str| field(key).parse::<u64>().map_err(|_| damaged(key));
        let small = |key: &str| u32::try_from(number(key)?).map_err(|_| damaged(key));
        let count = |key: &str| usize::try_from(number(key)?).map_err(|_| damaged(key));
        let real = |key: &str| u64::from_str_radix(field(key), 16).map(f64::from_bits).map_err(|_| damaged(key));
        Ok(Position {
            pictures: number("pictures")?,
            epoch: number("epoch")?,
            batch: number("batch")?,
            step: number("step")?,
            score: Score { loss: real("score_loss")?, correct: count("score_correct")?, count: count("score_count")? },
            rate: real("rate")?,
            images_per_second: real("images_per_second")?,
            schedule: ScheduleState {
                best: real("schedule_best")?,
                waited: small("schedule_waited")?,
                factor: real("schedule_factor")?,
                warm: number("schedule_warm")? != 0,
            },
        })
    }
}
