//! The kernels of every layer, and the memory they write.

use std::sync::Mutex;

use residual_core::{Error, Isa, memory::Buffer, threads::Executor};

use super::weight_part::{WeightBuffers, wide_rows};
use crate::{
    engine::{
        Options, tasks,
        workers::{for_each, padded},
    },
    layer::{
        conv::{Conv, ConvTape},
        linear::Linear,
    },
    parameters::Parameters,
    topology::Topology,
};

/// The network, with a kernel for every layer.
pub(super) struct Layers {
    pub isa: Isa,
    pub topology: Topology,
    /// as the topology counts them
    pub convs: Vec<Conv>,
    pub linear: Linear,
    /// elements of the largest map, padded: room for one image's gradient
    pub slot: usize,
}

/// What a step leaves behind, and buffers that it uses.
pub(super) struct Tape {
    pub convs: Vec<ConvTape>,
    /// the kept maps
    pub kept: Vec<Buffer>,
    pub features: Vec<f32>,
    pub logits: Vec<f32>,
    /// gradient of the kept map at hand, behind its ReLU's backward
    pub gradient: Buffer,
    /// gradient of the map at hand inside a block
    pub inner: Buffer,
    /// for the weight gradients of a convolution and a projection beside it
    pub weights: [WeightBuffers; 2],
}

impl Layers {
    pub(super) fn new(parameters: &Parameters, options: &Options) -> Result<Self, Error> {
        let &Options { isa, winograd, .. } = options;
        let topology = Topology::new(parameters.spec());
        // Nobody asks for the gradient of the images, which the first convolution reads.
        let convs = topology.convs().iter().enumerate();
        let convs =
            convs.map(|(k, conv)| Conv::new(*conv, parameters, isa, winograd, k > 0)).collect::<Result<_, _>>()?;
        let linear = Linear::new(topology.head(), parameters, isa)?;
        let slot = padded(topology.largest_map());
        Ok(Layers { isa, topology, convs, linear, slot })
    }

    /// The largest buffers come first: they refuse a batch that is too large.
    pub(super) fn tape(&self, batch: usize) -> Result<Tape, Error> {
        let topology = &self.topology;
        let images = |elements: usize| Buffer::try_new(batch.saturating_mul(elements));
        let kept = (0..topology.kept()).map(|v| images(topology.kept_shape(v).elements()));
        let (kept, gradient, inner) = (kept.collect::<Result<Vec<_>, _>>()?, images(self.slot)?, images(self.slot)?);
        let weights = |projections: bool| {
            let convs = self.convs.iter().enumerate().filter(|(k, _)| topology.is_projection(*k) == projections);
            WeightBuffers::try_new(convs.map(|(_, conv)| conv), batch, tasks(batch).1)
        };
        Ok(Tape {
            convs: self.convs.iter().map(|conv| conv.tape(batch)).collect::<Result<_, _>>()?,
            kept,
            features: vec![0.0; batch * topology.head().input.c],
            logits: vec![0.0; batch * self.linear.geom.c_out],
            gradient,
            inner,
            weights: [weights(false)?, weights(true)?],
        })
    }

    /// What the largest phase needs.
    pub(super) fn scratch_len(&self, batch: usize) -> usize {
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
        let rows = |conv: &Conv| {
            let rows = wide_rows(conv);
            padded(rows * conv.weight.len() / conv.geom().c_out) + conv.gradient.wide_sum_len(rows)
        };
        let backward = self.topology.phases().iter().map(|phase| {
            let convs = phase.convs().into_iter().flatten().map(|k| &self.convs[k]);
            let together = convs.clone().map(|conv| own(conv) + conv.scratch_len()).sum();
            convs.filter(|conv| conv.by_channels()).map(rows).fold(together, usize::max)
        });
        let forward = self.convs.iter().map(forward).max().unwrap_or(0);
        let stem = padded(self.convs[0].geom().output().elements());
        forward.max(backward.max().unwrap_or(0)) + stem
    }

    /// Packs all weights.
    pub(super) fn pack(&self, executor: &dyn Executor, tape: &mut Tape, parameters: &Parameters) -> Result<(), Error> {
        let failed = Mutex::new(Ok(()));
        for_each(executor, tape.convs.iter_mut().collect(), |k, tape, scratch| {
            if let (Err(e), Ok(mut failed)) = (self.convs[k].pack(parameters, tape, scratch), failed.lock()) {
                *failed = Err(e);
            }
        });
        failed.into_inner().unwrap_or(Ok(()))
    }
}

/// Image `i` of a map.
pub(super) fn image(map: &Buffer, i: usize, elements: usize) -> &[f32] {
    &map.as_slice()[i * elements..(i + 1) * elements]
}
