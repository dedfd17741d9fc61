//! The error of training.

use std::{io, path::Path};

use residual_core::rsd::FormatError;
use residual_io::{DataError, ImportError};

use crate::{engine::StepError, quantize::QuantizeError};

/// Why training could not begin or go on. Checkpoints written before stay as they are.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// A setting out of its range.
    #[error("setting {name} = {value}: {reason}")]
    Setting {
        /// its name, a field of [`Config`](super::Config)
        name: &'static str,
        /// what was asked for
        value: String,
        /// what is wrong
        reason: &'static str,
    },
    /// A data set that cannot be trained on.
    #[error("the data set has {got} {what}, {need} needed")]
    Data {
        /// of what there are too few
        what: &'static str,
        /// how many are needed
        need: usize,
        /// how many there are
        got: usize,
    },
    /// There is nothing to validate on.
    #[error(
        "{place}: no pictures to validate on (no val, valid, validation or test beside train); --holdout 0.1 holds \
         some training pictures out, --no-validation does without"
    )]
    NoValidation {
        /// the data set
        place: String,
    },
    /// Batch norm would see a single value.
    #[error(
        "{which} would hold one picture, of which `{layer}` makes a 1 x 1 map: batch norm has a single value a channel, \
         and its variance is 0; {remedy}"
    )]
    Lone {
        /// which batch
        which: String,
        /// the first layer of such maps
        layer: String,
        /// what helps
        remedy: &'static str,
    },
    /// A folder that a new run would write over.
    #[error(
        "{folder} holds a run already (`{file}`): choose another folder, or pass --resume to go on with it, or \
         --overwrite to begin anew"
    )]
    HoldsRun {
        /// the folder
        folder: String,
        /// a file of the run
        file: String,
    },
    /// A folder where another process trains.
    #[error("{folder}: another run is at work in this folder; wait for its end, or choose another folder")]
    InUse {
        /// the folder
        folder: String,
    },
    /// A checkpoint that is damaged or belongs to another run.
    #[error("{file}: {reason}")]
    Checkpoint {
        /// the file
        file: String,
        /// what is wrong
        reason: String,
    },
    /// The numbers left what can be computed with.
    #[error("training diverged at step {step}: {source}; a lower learning rate or a longer warm-up may help")]
    Diverged {
        /// the step
        step: u64,
        /// where
        source: StepError,
    },
    /// A weight left what can be computed with, and no layer's output showed it yet.
    #[error("training diverged at step {step}: tensor `{tensor}` holds {value}; a lower learning rate may help")]
    Weight {
        /// the step
        step: u64,
        /// the tensor
        tensor: String,
        /// NaN or an infinity
        value: f32,
    },
    /// The operating system refused a file.
    #[error("{file}: {source}")]
    Io {
        /// the file
        file: String,
        /// what the operating system said
        source: io::Error,
    },
    /// A picture or the data set cannot be read.
    #[error(transparent)]
    Picture(#[from] DataError),
    /// A file of weights cannot be written.
    #[error(transparent)]
    Weights(#[from] ImportError),
    /// The network cannot be quantized.
    #[error(transparent)]
    Quantize(#[from] QuantizeError),
    /// An int8 model file cannot be built.
    #[error(transparent)]
    Model(#[from] FormatError),
    /// The network cannot be built.
    #[error(transparent)]
    Network(#[from] residual_core::Error),
}

impl TrainError {
    pub(super) fn io(path: &Path, source: io::Error) -> Self {
        TrainError::Io { file: path.display().to_string(), source }
    }
}
