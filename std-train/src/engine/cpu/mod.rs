//! One training step of a network: forward, loss, backward.
//!
//! # What is kept
//! Of every convolution only the output *before* batch norm is kept, and of every block its output. What
//! lies between (`max(0, scale * y + shift)`) is one multiply-add away and computed again where it is
//! read, into scratch that stays in the cache. So a layer moves three maps through memory forward (reads one,
//! writes one, reads a shortcut) and four backward, and the tape is half of what keeping every map would need.
//!
//! # Phases
//! Batch norm needs sums over the whole batch, so each convolution is a phase: all images pass, in any
//! order on any thread; the sums of each are combined in their order afterwards. The weight gradient is summed
//! over fixed groups of images, then over the groups. Hence the same bits for any number of threads.

mod backward;
mod forward;
#[cfg(test)]
mod tests;
mod weight_part;
mod workers;

use residual_core::{
    Error, Isa, Name,
    geom::{PoolGeom, Shape},
    memory::Buffer,
    resnet::{ResNet, ShortcutSpec},
};

use self::workers::{Workers, for_each, padded};
use crate::{
    layer::{
        conv::{Conv, ConvTape},
        linear::Linear,
        softmax::{Score, cross_entropy},
    },
    parameters::Parameters,
};

/// Groups of images whose weight gradients are summed apart; threads beyond this many would idle.
const TASKS: usize = 16;

pub use crate::layer::Options;

/// A network together with the memory and threads to train it.
pub struct Network {
    layers: Layers,
    tape: Tape,
    workers: Workers,
    batch: usize,
    spec: ResNet,
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

struct Layers {
    isa: Isa,
    input: Shape,
    /// the stem's, then those of the blocks, each with its projection last
    convs: Vec<Conv>,
    pool: Option<PoolGeom>,
    blocks: Vec<Block>,
    head_input: Shape,
    linear: Linear,
    /// elements of the largest map: of an image's gradient
    slot: usize,
}

struct Block {
    /// numbers of the convolutions on the main path
    first: usize,
    last: usize,
    projection: Option<usize>,
    shortcut: ShortcutSpec,
    input: Shape,
    output: Shape,
}

/// Where a convolution reads.
#[derive(Clone, Copy, Debug)]
enum Source {
    /// the batch
    Images,
    /// a kept map: 0 is the stem's output, `b + 1` block `b`'s
    Value(usize),
    /// another convolution's output, behind batch norm and ReLU
    Normalised(usize),
}

/// What a step leaves behind, and buffers it uses.
struct Tape {
    convs: Vec<ConvTape>,
    values: Vec<Buffer>,
    features: Vec<f32>,
    logits: Vec<f32>,
    /// of the kept map at hand, behind its ReLU's backward
    gradient: Buffer,
    /// of the maps inside a block
    inner: Buffer,
    /// weight gradients per task, of a convolution and a projection
    partials: [Buffer; 2],
    /// gradients and strips of all images, for layers with many weights, of a convolution and a projection
    wide: [(Buffer, Buffer); 2],
}

impl Network {
    /// Plans training the network of `parameters`.
    ///
    /// # Errors
    /// [`Error::Threads`], [`Error::Unsupported`], [`Error::OutOfMemory`], or [`Error::InvalidNetwork`] for an empty batch.
    pub fn new(parameters: &Parameters, options: &Options) -> Result<Self, Error> {
        let &Options { batch, threads, .. } = options;
        let spec = *parameters.spec();
        if batch == 0 {
            return Err(Error::InvalidNetwork { reason: "a batch needs at least one image" });
        }
        let layers = Layers::new(&spec, parameters, options)?;
        if layers.slot.checked_mul(batch).is_none_or(|n| n > isize::MAX as usize / 64) {
            return Err(Error::InvalidNetwork { reason: "a batch's activations do not fit the address space" });
        }
        let workers = Workers::new(threads, layers.scratch_len(batch))?;
        let tape = layers.tape(batch)?;
        Ok(Network { layers, tape, workers, batch, spec })
    }

    /// The network.
    pub fn spec(&self) -> &ResNet {
        &self.spec
    }

    /// The most images a step can take.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// Forward and backward of one batch: adds the gradients of `parameters` to `gradients`, updates the
    /// running statistics, and scores the outputs. `images` are NHWC.
    ///
    /// # Errors
    /// [`StepError::Output`] naming the first layer whose output is no number; then `gradients` is of no use.
    pub fn step(
        &mut self,
        parameters: &mut Parameters,
        images: &[f32],
        labels: &[u32],
        loss: Loss,
        gradients: &mut [f32],
    ) -> Result<Score, StepError> {
        let n = labels.len();
        for (what, need, got) in [
            ("batch", n * self.layers.input.elements(), images.len()),
            ("gradient buffer", parameters.values().len(), gradients.len()),
        ] {
            if need != got {
                return Err(Error::BufferLength { what, need, got }.into());
            }
        }
        if n == 0 || n > self.batch {
            return Err(Error::BufferLength { what: "batch of images", need: self.batch, got: n }.into());
        }
        let classes = self.layers.linear.geom.c_out;
        if labels.iter().any(|&label| label as usize >= classes) {
            return Err(Error::InvalidNetwork { reason: "a label is not below the number of classes" }.into());
        }
        let Network { layers, tape, workers, .. } = self;
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

impl Layers {
    fn new(spec: &ResNet, parameters: &Parameters, options: &Options) -> Result<Self, Error> {
        let stem = spec.stem();
        let mut convs = vec![Conv::new(stem.conv, parameters, options, true)?];
        let mut blocks = Vec::new();
        for block in spec.blocks() {
            let first = convs.len();
            for conv in block.convs() {
                convs.push(Conv::new(*conv, parameters, options, false)?);
            }
            let last = convs.len() - 1;
            let projection = match block.shortcut {
                ShortcutSpec::Project(conv) => {
                    convs.push(Conv::new(conv, parameters, options, false)?);
                    Some(convs.len() - 1)
                }
                _ => None,
            };
            let (input, output) = (block.input(), block.output());
            blocks.push(Block { first, last, projection, shortcut: block.shortcut, input, output });
        }
        let head = spec.head();
        let maps = convs.iter().flat_map(|c| [c.geom().input, c.geom().output()]);
        let slot = padded(maps.map(Shape::elements).max().unwrap_or(0));
        let linear = Linear::new(&head, parameters, options.isa)?;
        Ok(Layers {
            isa: options.isa,
            input: spec.input(),
            convs,
            pool: stem.pool,
            blocks,
            head_input: head.input,
            linear,
            slot,
        })
    }

    /// The largest buffers come first: a batch that is too large is refused by them.
    fn tape(&self, batch: usize) -> Result<Tape, Error> {
        let images = |elements: usize| Buffer::try_new(batch.saturating_mul(elements));
        let values = (0..=self.blocks.len()).map(|v| images(self.value_shape(v).elements()));
        let (values, gradient, inner) =
            (values.collect::<Result<Vec<_>, _>>()?, images(self.slot)?, images(self.slot)?);
        let tasks = tasks(batch).1;
        let sizes = |projection: bool, len: &dyn Fn(&Conv) -> usize| {
            let of_kind = self.convs.iter().enumerate().filter(|(k, _)| projection == self.is_projection(*k));
            Buffer::try_new(of_kind.map(|(_, conv)| len(conv)).max().unwrap_or(0))
        };
        let partials = |c: &Conv| if c.by_channels() { 0 } else { tasks * c.weight.len() };
        let strips = |c: &Conv| if c.by_channels() { batch.saturating_mul(c.gradient.wide_lens().0) } else { 0 };
        let gradients = |c: &Conv| if c.by_channels() { batch.saturating_mul(c.gradient.wide_lens().1) } else { 0 };
        Ok(Tape {
            convs: self.convs.iter().map(|conv| conv.tape(batch)).collect::<Result<_, _>>()?,
            values,
            features: vec![0.0; batch * self.head_input.c],
            logits: vec![0.0; batch * self.linear.geom.c_out],
            gradient,
            inner,
            partials: [sizes(false, &partials)?, sizes(true, &partials)?],
            wide: [
                (sizes(false, &gradients)?, sizes(false, &strips)?),
                (sizes(true, &gradients)?, sizes(true, &strips)?),
            ],
        })
    }

    fn is_projection(&self, k: usize) -> bool {
        self.blocks.iter().any(|b| b.projection == Some(k))
    }

    fn value_shape(&self, v: usize) -> Shape {
        match v.checked_sub(1) {
            Some(b) => self.blocks[b].output,
            None => self.pool.map_or(self.convs[0].geom().output(), |p| p.output()),
        }
    }

    /// The convolutions whose batch norms a kept map is the sum of; none behind a max pool.
    fn producers(&self, v: usize) -> [Option<usize>; 2] {
        match v.checked_sub(1) {
            Some(b) => [Some(self.blocks[b].last), self.blocks[b].projection],
            None if self.pool.is_none() => [Some(0), None],
            None => [None, None],
        }
    }

    /// What the largest phase needs.
    fn scratch_len(&self, batch: usize) -> usize {
        let per_task = tasks(batch).0;
        let forward = |conv: &Conv| padded(conv.geom().input.elements()) + conv.scratch_len();
        let own = |conv: &Conv| {
            let winograd = conv.gradient.is_winograd();
            if conv.by_channels() && !winograd {
                return 0;
            }
            let at_once = conv.images_at_once(per_task);
            let sum = if winograd && !conv.by_channels() { padded(conv.gradient.sum_len()) } else { 0 };
            padded(at_once * conv.geom().output().elements()) + padded(at_once * conv.gradient.strip_len()) + sum
        };
        let backward = |(k, conv): (usize, &Conv)| {
            let projection = self.blocks.iter().find(|b| b.first == k).and_then(|b| b.projection);
            let projection = projection.map_or(0, |p| own(&self.convs[p]) + self.convs[p].scratch_len());
            let rows = if conv.by_channels() {
                let rows = backward::wide_rows(conv);
                padded(rows * conv.weight.len() / conv.geom().c_out) + conv.gradient.wide_sum_len(rows)
            } else {
                0
            };
            (own(conv) + projection + conv.scratch_len()).max(rows)
        };
        let forward = self.convs.iter().map(forward).max().unwrap_or(0);
        let backward = self.convs.iter().enumerate().map(backward).max().unwrap_or(0);
        let stem = padded(self.convs[0].geom().output().elements());
        forward.max(backward) + stem
    }

    /// Packs all weights.
    fn pack(
        &self,
        executor: &dyn residual_core::threads::Executor,
        tape: &mut Tape,
        parameters: &Parameters,
    ) -> Result<(), Error> {
        let failed = std::sync::Mutex::new(Ok(()));
        for_each(executor, tape.convs.iter_mut().collect(), |k, tape, scratch| {
            if let (Err(e), Ok(mut failed)) = (self.convs[k].pack(parameters, tape, scratch), failed.lock()) {
                *failed = Err(e);
            }
        });
        failed.into_inner().unwrap_or(Ok(()))
    }
}

/// Images per task and number of tasks of a batch of `n`.
fn tasks(n: usize) -> (usize, usize) {
    let per_task = n.div_ceil(TASKS).max(1);
    (per_task, n.div_ceil(per_task))
}

/// Image `i` of a map.
fn image(map: &Buffer, i: usize, elements: usize) -> &[f32] {
    &map.as_slice()[i * elements..(i + 1) * elements]
}
