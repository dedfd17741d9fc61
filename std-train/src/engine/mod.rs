//! Training steps: a batch goes forward, its loss is computed, the gradients come back.
//!
//! An engine computes a step of a network. What engines are asked and what they answer is here. [`CpuEngine`] computes the
//! one that a [`Topology`](crate::topology::Topology) describes, in f32; [`Int8Engine`] the int8 network of the same
//! parameters, so that they learn to bear its rounding.

mod cpu;
mod int8;
#[cfg(test)]
mod reference;
#[cfg(test)]
mod testing;
mod workers;

use residual_core::{Error, Isa, Name, resnet::ResNet};

pub use self::{
    cpu::CpuEngine,
    int8::{Int8Engine, encodings, network, with_encodings, with_room},
};
use crate::parameters::Parameters;

/// What an engine is made for.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// the most images of a step
    pub batch: usize,
    /// threads that share the work; results do not depend on it
    pub threads: usize,
    /// instruction set
    pub isa: Isa,
    /// allow Winograd's convolutions: faster, and they round more
    pub winograd: bool,
}

/// How the loss is computed.
#[derive(Clone, Copy, Debug)]
pub struct Loss {
    /// label smoothing
    pub smoothing: f64,
    /// pictures the gradient is the mean over: the batch, or all batches that are accumulated
    pub count: usize,
}

/// Why a step failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StepError {
    /// A layer's output is no number any more.
    #[error("the output of layer `{0}` is NaN or infinite")]
    Output(Name),
    /// The loss is no number any more, though all layers' outputs are.
    #[error("the loss is NaN or infinite")]
    Loss,
    /// A parameter is no number any more.
    #[error("tensor `{0}` holds a value that is not usable (NaN, infinity or a negative variance)")]
    Tensor(Name),
    /// The scales of an int8 network are of no use any more.
    #[error("the int8 scales of `{0}` are no positive numbers with a usable quotient")]
    Scale(Name),
    /// What the kernels report.
    #[error(transparent)]
    Core(#[from] Error),
}

/// Groups of images whose weight gradients are summed apart; threads beyond this many would idle.
const TASKS: usize = 16;

/// Images per task and number of tasks of a batch of `n`.
fn tasks(n: usize) -> (usize, usize) {
    let per_task = n.div_ceil(TASKS).max(1);
    (per_task, n.div_ceil(per_task))
}

/// Checks what an engine for `most` images is given for a step.
fn check_batch(
    spec: &ResNet,
    most: usize,
    parameters: &Parameters,
    images: &[f32],
    labels: &[u32],
    gradients: &[f32],
) -> Result<(), Error> {
    let n = labels.len();
    for (what, need, got) in [
        ("batch", n * spec.input().elements(), images.len()),
        ("gradient buffer", parameters.values().len(), gradients.len()),
    ] {
        if need != got {
            return Err(Error::BufferLength { what, need, got });
        }
    }
    if n == 0 || n > most {
        return Err(Error::BufferLength { what: "batch of images", need: most, got: n });
    }
    if labels.iter().any(|&label| label as usize >= spec.classes()) {
        return Err(Error::InvalidNetwork { reason: "a label is not below the number of classes" });
    }
    Ok(())
}
