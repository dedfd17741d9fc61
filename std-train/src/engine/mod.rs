//! Training steps: a batch goes forward, its loss is computed, the gradients come back.
//!
//! An engine computes a step of the network that a [`Topology`](crate::topology::Topology) describes. What engines are
//! asked and what they answer is here; [`CpuEngine`] is the one for CPUs.

mod cpu;
#[cfg(test)]
mod reference;

use residual_core::{Error, Isa, Name};

pub use self::cpu::CpuEngine;

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
    /// What the kernels report.
    #[error(transparent)]
    Core(#[from] Error),
}
