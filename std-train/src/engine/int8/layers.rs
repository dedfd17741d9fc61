//! The int8 network's layers: which map each reads, its kernels, and where its tensors lie among the parameters.

use std::ops::Range;

use residual_core::{
    Error, Isa, Name,
    conv::{DataGradient, Kernel, WeightGradient},
    geom::{ConvGeom, PoolGeom, Shape},
    memory::Buffer,
    plan::fastest,
    resnet::ResNet,
};

use super::{Sums, scales};
use crate::{
    engine::{Options, workers::padded},
    layer::{batch_norm::BatchNorm, softmax::Score},
    parameters::Parameters,
    quantize::{Kind, Network, QuantizeError},
};

/// Pixels a weight gradient should sum over at a time, so that reading and writing it costs little.
const PIXELS_AT_ONCE: usize = 256;

/// The network, with kernels for every layer.
pub(super) struct Layers {
    pub isa: Isa,
    pub spec: ResNet,
    pub ops: Vec<Op>,
    /// of every value: the input's, then every layer's
    pub shapes: Vec<Shape>,
    /// where the scales lie among the parameters
    pub scales: Range<usize>,
}

/// A layer; its result is the value after its own number.
pub(super) struct Op {
    pub source: usize,
    pub kind: OpKind,
}

pub(super) enum OpKind {
    Conv(Box<Conv>),
    MaxPool(PoolGeom),
    AveragePool,
}

/// A convolution or the classifier.
pub(super) struct Conv {
    pub geom: ConvGeom,
    pub shortcut: Option<usize>,
    /// the numbers of its scales: what is stored, and with a shortcut what it has alone
    pub scale: usize,
    pub alone: Option<usize>,
    pub weight: Range<usize>,
    pub after: After,
    pub forward: Kernel,
    /// none where nobody asks for the gradient of what it reads
    pub data: Option<DataGradient>,
    pub gradient: WeightGradient,
    /// where its sums lie among those of a task
    pub sums: Range<usize>,
    pub biases: Range<usize>,
}

/// What becomes a convolution's bias.
pub(super) enum After {
    Norm(BatchNorm),
    Bias(Range<usize>),
}

impl Layers {
    pub(super) fn new(parameters: &Parameters, network: &Network, options: &Options) -> Result<Self, QuantizeError> {
        let spec = *parameters.spec();
        let names = scales::names(parameters)?;
        let scales = parameters.entry(scales::SCALES).map_or(0..0, |entry| entry.range.clone());
        let mut shapes = vec![network.input];
        let (mut ops, mut sums, mut biases) = (Vec::new(), 0, 0);
        for (index, layer) in network.layers.iter().enumerate() {
            let unsupported = || QuantizeError::Unsupported { layer: layer.name.clone() };
            let kind = match &layer.kind {
                Kind::Conv(conv) => {
                    let scale =
                        |name: &str| names.binary_search_by(|n| n.as_str().cmp(name)).map_err(|_| unsupported());
                    let alone = conv.shortcut.map(|_| scale(&format!("{}.alone", layer.name))).transpose()?;
                    let tensors = tensors(parameters, &layer.name)?;
                    let conv = Conv {
                        shortcut: conv.shortcut.map(|shortcut| shortcut.value),
                        scale: scale(&layer.name)?,
                        alone,
                        ..Conv::new(tensors, layer.source > 0, options)?
                    };
                    let sum_len = padded(conv.gradient.sum_len());
                    let conv = Conv { sums: sums..sums + sum_len, biases: biases..biases + conv.geom.c_out, ..conv };
                    (sums, biases) = (conv.sums.end, conv.biases.end);
                    OpKind::Conv(Box::new(conv))
                }
                Kind::MaxPool(_) => OpKind::MaxPool(spec.stem().pool.ok_or_else(unsupported)?),
                Kind::GlobalAveragePool => OpKind::AveragePool,
                Kind::Mean(_) => return Err(unsupported()),
            };
            ops.push(Op { source: layer.source, kind });
            shapes.push(network.value(index + 1).ok_or_else(unsupported)?.0);
        }
        Ok(Layers { isa: options.isa, spec, ops, shapes, scales })
    }

    /// Every convolution, with the number of its layer.
    pub(super) fn convs(&self) -> impl Iterator<Item = (usize, &Conv)> {
        self.ops.iter().enumerate().filter_map(|(index, op)| match &op.kind {
            OpKind::Conv(conv) => Some((index, &**conv)),
            _ => None,
        })
    }

    /// What one task sums.
    pub(super) fn sums(&self) -> Result<Sums, Error> {
        let (weights, biases) = self.convs().last().map_or((0, 0), |(_, conv)| (conv.sums.end, conv.biases.end));
        Ok(Sums {
            weights: Buffer::try_new(weights)?,
            bias: vec![0.0; biases],
            scales: vec![0.0; self.scales.len()],
            score: Score::default(),
        })
    }

    /// Images of a task that pass together.
    pub(super) fn at_once(&self, per_task: usize) -> usize {
        let least = self.convs().map(|(_, conv)| conv.geom.output()).map(|out| out.h * out.w).filter(|n| *n > 1).min();
        PIXELS_AT_ONCE.div_ceil(least.unwrap_or(1)).clamp(1, per_task.max(1))
    }

    /// What a task needs: the maps of the images that pass together, and the largest layer's scratch.
    pub(super) fn scratch_len(&self, per_task: usize) -> usize {
        let n = self.at_once(per_task);
        let maps = self.shapes.iter().map(|shape| 2 * padded(n * shape.elements())).sum::<usize>();
        let convs = self.convs().map(|(_, conv)| {
            let own = if conv.alone.is_some() { 3 } else { 1 };
            own * padded(n * conv.geom.output().elements())
        });
        maps + convs.sum::<usize>() + self.convs().map(|(_, conv)| conv.scratch_len(n)).max().unwrap_or(0)
    }
}

/// A layer's geometry and the places of its tensors.
struct Tensors {
    geom: ConvGeom,
    weight: Range<usize>,
    after: After,
}

fn tensors(parameters: &Parameters, layer: &str) -> Result<Tensors, Error> {
    let range = |name: Name| parameters.entry(&name).map(|e| e.range.clone()).ok_or(Error::MissingTensor(name));
    let spec = parameters.spec();
    if let Some(conv) = spec.convs().find(|conv| conv.name.as_str() == layer) {
        let [weight, gamma, beta, mean, var] = conv.tensors().map(|tensor| range(tensor.name));
        let norm = BatchNorm { gamma: gamma?, beta: beta?, mean: mean?, var: var? };
        return Ok(Tensors { geom: conv.geom, weight: weight?, after: After::Norm(norm) });
    }
    let head = spec.head();
    let [weight, bias] = head.tensors().map(|tensor| range(tensor.name));
    let input = Shape::new(1, 1, head.input.c);
    let geom = ConvGeom { input, c_out: head.classes, kernel: 1, stride: 1, pad: 0 };
    Ok(Tensors { geom, weight: weight?, after: After::Bias(bias?) })
}

impl Conv {
    /// With `data`, it computes the gradient of what it reads, too.
    fn new(tensors: Tensors, data: bool, options: &Options) -> Result<Self, Error> {
        let Tensors { geom, weight, after } = tensors;
        let &Options { isa, winograd, .. } = options;
        Ok(Conv {
            geom,
            shortcut: None,
            scale: 0,
            alone: None,
            weight,
            after,
            // Winograd's filters divide, and what they round is no integer any more.
            forward: fastest(&geom, isa, false)?,
            data: data.then(|| DataGradient::new(isa, geom, |g| fastest(g, isa, winograd))).transpose()?,
            gradient: WeightGradient::new(isa, geom, winograd).ok_or(Error::Unsupported(geom))?,
            sums: 0..0,
            biases: 0..0,
        })
    }

    /// Scratch elements for `n` images in one direction.
    pub(super) fn scratch_len(&self, n: usize) -> usize {
        let forward = padded(self.geom.output().elements()) + self.forward.scratch_len(&self.geom);
        let kernels = self.data.map_or(0, |d| d.scratch_len()).max(self.gradient.scratch_len());
        forward.max(padded(n * self.gradient.strip_len()) + kernels)
    }
}
