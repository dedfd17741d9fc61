//! One training step on a CPU.
//!
//! # What is kept
//! A step keeps, of every convolution, the output *before* batch norm, and of every block the output. What lies between
//! (`max(0, scale * y + shift)`) is one multiply-add away. It is computed again where it is read, into scratch that
//! stays in the cache. So a layer moves three maps through memory forward (it reads one, writes one, reads a shortcut)
//! and four backward, and the tape is half of what keeping every map would need.
//!
//! # Phases
//! Batch norm needs sums over the whole batch. So each convolution is a phase: all images pass, in any order, on any
//! thread, and the sums of the images are combined in the order of the images afterwards. The weight gradient is summed
//! over fixed groups of images, then over the groups. Hence the same bits for any number of threads.

mod backward;
mod forward;
mod layers;
#[cfg(test)]
mod tests;
mod weight_part;

use residual_core::{Error, resnet::ResNet};

use self::layers::{Layers, Tape};
use super::{Loss, Options, StepError, check_batch, workers::Workers};
use crate::{
    layer::softmax::{Score, cross_entropy},
    parameters::Parameters,
};

/// A network on a CPU, with the memory and the threads to train it.
///
/// ```
/// use residual_core::{Isa, resnet::ResNet};
/// use residual_train::{
///     engine::{CpuEngine, Loss, Options},
///     parameters::Parameters,
/// };
///
/// let spec = "resnet8-cifar-w4".parse::<ResNet>()?.with_input(8, 8)?;
/// let mut parameters = Parameters::init(spec, 1);
/// let options = Options { batch: 4, threads: 1, isa: Isa::best(), winograd: true };
/// let mut engine = CpuEngine::new(&parameters, &options)?;
///
/// let images = vec![0.5; 4 * spec.input().elements()];
/// let mut gradients = vec![0.0; parameters.values().len()];
/// let loss = Loss { smoothing: 0.0, count: 4 };
/// let score = engine.step(&mut parameters, &images, &[0, 1, 2, 3], loss, &mut gradients)?;
/// assert!(score.mean_loss() > 0.0 && gradients.iter().any(|&g| g != 0.0));
/// # Ok::<(), residual_train::engine::StepError>(())
/// ```
pub struct CpuEngine {
    layers: Layers,
    tape: Tape,
    workers: Workers,
    batch: usize,
}

impl CpuEngine {
    /// Chooses kernels for the network of `parameters`, takes the memory and starts the threads.
    ///
    /// # Errors
    /// [`Error::Threads`], [`Error::Unsupported`], [`Error::OutOfMemory`], or [`Error::InvalidNetwork`] for an empty batch.
    pub fn new(parameters: &Parameters, options: &Options) -> Result<Self, Error> {
        let &Options { batch, threads, .. } = options;
        if batch == 0 {
            return Err(Error::InvalidNetwork { reason: "a batch needs at least one image" });
        }
        let layers = Layers::new(parameters, options)?;
        if layers.slot.checked_mul(batch).is_none_or(|n| n > isize::MAX as usize / 64) {
            return Err(Error::InvalidNetwork { reason: "a batch's activations do not fit the address space" });
        }
        let workers = Workers::new(threads, layers.scratch_len(batch))?;
        let tape = layers.tape(batch)?;
        Ok(CpuEngine { layers, tape, workers, batch })
    }

    /// The network.
    pub fn spec(&self) -> &ResNet {
        self.layers.topology.spec()
    }

    /// The most images a step can take.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// Takes one batch forward and backward: adds the gradients of `parameters` to `gradients`, updates the running
    /// statistics, and scores the outputs. `images` are NHWC, one for each of `labels`; `gradients` has an element for
    /// each of `parameters`.
    ///
    /// # Errors
    /// [`StepError::Output`] naming the first layer whose output is no number; then `gradients` is of no use.
    /// [`StepError::Core`] for lengths that do not fit, and a label that is no class.
    pub fn step(
        &mut self,
        parameters: &mut Parameters,
        images: &[f32],
        labels: &[u32],
        loss: Loss,
        gradients: &mut [f32],
    ) -> Result<Score, StepError> {
        check_batch(self.spec(), self.batch, parameters, images, labels, gradients)?;
        let (n, classes) = (labels.len(), self.spec().classes());
        let CpuEngine { layers, tape, workers, .. } = self;
        workers.run(|executor| {
            layers.pack(executor, tape, parameters)?;
            layers.forward(executor, tape, parameters, images, n)?;
            let mut d_logits = vec![0.0; n * classes];
            let gradient = Some((&mut d_logits[..], 1.0 / loss.count as f64));
            let score = cross_entropy(&tape.logits[..n * classes], labels, loss.smoothing, gradient);
            if !score.loss.is_finite() {
                return Err(StepError::Loss);
            }
            layers.backward(executor, tape, parameters, images, &d_logits, gradients)?;
            Ok(score)
        })
    }

    /// The logits of the last step, a row per image.
    pub fn logits(&self) -> &[f32] {
        &self.tape.logits
    }
}
