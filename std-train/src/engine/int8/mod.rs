//! One training step of an int8 network: quantization-aware training (Jacob et al., CVPR 2018).
//!
//! # Forward
//! The int8 network itself runs. Every step rounds the weights anew, exactly as [`quantize`](mod@crate::quantize) does;
//! maps hold the integers that int8 inference computes, less their zero points, so sums of products are exact in f32 up to
//! 2^24 and the definition's own functions rescale them. Batch norm is folded with its running statistics, which stay as
//! they are: the network that is trained is the one that will run, and gammas and betas still learn.
//!
//! # Backward
//! Rounding passes gradients on as if it were not there, clipping passes none (the straight-through estimator). Scales
//! learn, too (Esser et al., ICLR 2020, "Learned Step Size Quantization"): with `v = real / scale`, a value
//! `scale * clamp(round(v))` has the derivative `round(v) - v` where nothing is clipped, else the bound. Zero points stay.
//! The scale of weights follows from the largest of a channel, so no weight is ever clipped.
//!
//! # Order
//! Frozen statistics leave nothing that couples the images of a batch, so a task takes its images through the whole
//! network and back, a few at a time. Tasks are fixed shares of a batch, and their sums are added in order: the same bits
//! for any number of threads.

mod backward;
mod forward;
mod gradients;
mod layers;
mod scales;
mod step;
#[cfg(test)]
mod tests;

use std::ops::Range;

use residual_core::{
    Error, Name,
    memory::Buffer,
    resnet::{ResNet, fold_batch_norm},
    rsd::View,
};

#[cfg(test)]
use self::forward::Maps;
pub use self::scales::{encodings, with_encodings, with_room};
use self::{
    layers::Layers,
    step::{Packed, Step},
};
use super::{Loss, Options, StepError, check_batch, tasks, workers::Workers};
use crate::{
    layer::softmax::Score,
    parameters::Parameters,
    quantize::{Network, QuantizeError, encoded},
};

/// A network with the memory and the threads to train it for int8.
///
/// ```
/// use residual_core::{Isa, resnet::{ResNet, fold_batch_norm}};
/// use residual_train::{
///     engine::{Int8Engine, Loss, Options, with_encodings},
///     parameters::Parameters,
///     quantize::{self, Encodings},
/// };
///
/// let spec = "resnet8-cifar-w4".parse::<ResNet>()?.with_input(8, 8)?;
/// let images: Vec<f32> = (0..2 * spec.input().elements()).map(|i| (i % 7) as f32 / 7.0).collect();
/// let parameters = Parameters::init(spec, 1);
/// let pictures: Vec<Vec<f32>> = images.chunks(spec.input().elements()).map(<[f32]>::to_vec).collect();
/// let start = quantize::quantize(&fold_batch_norm(&spec, &parameters)?, &pictures, &quantize::Options::default())?;
///
/// let parameters = with_encodings(parameters, &Encodings::of(&start.network))?;
/// let options = Options { batch: 2, threads: 1, isa: Isa::best(), winograd: true };
/// let mut engine = Int8Engine::new(&parameters, &options)?;
/// let mut gradients = vec![0.0; parameters.values().len()];
/// let score = engine.step(&parameters, &images, &[0, 1], Loss { smoothing: 0.0, count: 2 }, &mut gradients)?;
/// assert!(score.mean_loss() > 0.0 && gradients.iter().any(|&g| g != 0.0));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Int8Engine {
    layers: Layers,
    packed: Vec<Packed>,
    tasks: Vec<Sums>,
    workers: Workers,
    batch: usize,
}

/// What a task sums over its images.
pub(super) struct Sums {
    /// of every convolution's weights, as its kernel sums them
    weights: Buffer,
    /// of the biases of all convolutions
    bias: Vec<f64>,
    /// of the scales
    scales: Vec<f64>,
    score: Score,
}

/// One task's images.
struct Part<'a> {
    images: Range<usize>,
    sums: &'a mut Sums,
}

impl Int8Engine {
    /// Chooses kernels for the network of `parameters`, takes the memory and starts the threads. The parameters hold
    /// encodings: see [`with_encodings`].
    ///
    /// # Errors
    /// [`QuantizeError`] for a network that int8 cannot express, or without encodings; its [`QuantizeError::Network`] as
    /// of [`CpuEngine::new`](super::CpuEngine::new).
    pub fn new(parameters: &Parameters, options: &Options) -> Result<Self, QuantizeError> {
        let &Options { batch, threads, .. } = options;
        if batch == 0 {
            return Err(Error::InvalidNetwork { reason: "a batch needs at least one image" }.into());
        }
        let network = network(parameters)?;
        let layers = Layers::new(parameters, &network, options)?;
        let (per_task, count) = tasks(batch);
        let workers = Workers::new(threads, layers.scratch_len(per_task))?;
        let tasks = (0..count).map(|_| layers.sums()).collect::<Result<_, _>>()?;
        let packed = layers.packed()?;
        Ok(Int8Engine { layers, packed, tasks, workers, batch })
    }

    /// The network.
    pub fn spec(&self) -> &ResNet {
        &self.layers.spec
    }

    /// Takes one batch forward and backward as [`CpuEngine::step`](super::CpuEngine::step) does, but in int8: adds the
    /// gradients of `parameters`, scales among them, to `gradients`, and scores the outputs.
    ///
    /// # Errors
    /// [`StepError::Tensor`] naming a tensor that is no number any more, [`StepError::Scale`] a layer whose scales are of no
    /// use; then `gradients` is of no use. [`StepError::Core`] for lengths that do not fit, and a label that is no class.
    pub fn step(
        &mut self,
        parameters: &Parameters,
        images: &[f32],
        labels: &[u32],
        loss: Loss,
        gradients: &mut [f32],
    ) -> Result<Score, StepError> {
        let Int8Engine { layers, packed, tasks: all, workers, batch } = self;
        check_batch(&layers.spec, *batch, parameters, images, labels, gradients)?;
        // Rounding would make a zero of it.
        if let Some(at) = parameters.values().iter().position(|v| !v.is_finite()) {
            let name = parameters.owner(at).map_or_else(|| Name::new("weight"), |entry| entry.tensor.name);
            return Err(StepError::Tensor(name));
        }
        let network = network(parameters).map_err(diverged)?;
        let model = network.to_model().map_err(|e| diverged(e.into()))?;
        let view = View::new_checked(&model).map_err(|e| diverged(e.into()))?;
        let (per_task, count) = tasks(labels.len());
        workers.run(|executor| {
            layers.pack(executor, &network, packed)?;
            let step = Step::new(layers, &network, &view, packed)?;
            let parts = all.iter_mut().take(count).enumerate().map(|(t, sums)| {
                let images = t * per_task..((t + 1) * per_task).min(labels.len());
                Part { images, sums }
            });
            super::workers::for_each(executor, parts.collect(), |_, part, scratch| {
                layers.task(&step, images, labels, loss, part, scratch);
            });
            let done = &all[..count];
            let mut score = Score::default();
            done.iter().for_each(|sums| score.add(sums.score));
            if !score.loss.is_finite() {
                return Err(StepError::Loss);
            }
            layers.gradients(executor, &step, parameters, done, gradients);
            Ok(score)
        })
    }
}

/// The int8 network of these parameters: what inference runs.
///
/// # Errors
/// [`QuantizeError`] for a network that int8 cannot express, for parameters without encodings, and for any that are not
/// finite.
pub fn network(parameters: &Parameters) -> Result<Network, QuantizeError> {
    let net = fold_batch_norm(parameters.spec(), parameters)?;
    encoded(&net, &encodings(parameters)?)
}

/// Why the int8 network of parameters that were one cannot be built any more.
fn diverged(error: QuantizeError) -> StepError {
    match error {
        QuantizeError::Network(Error::NotFinite(name)) => StepError::Tensor(name),
        QuantizeError::Network(error) => StepError::Core(error),
        QuantizeError::NoEncoding { value } => StepError::Scale(Name::new(value)),
        QuantizeError::Unsupported { layer } | QuantizeError::Unobserved { layer } => {
            StepError::Scale(Name::new(layer))
        }
        _ => StepError::Scale(Name::new("a layer")),
    }
}
