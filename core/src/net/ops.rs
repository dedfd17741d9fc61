//! A network as a flat list of ops on numbered values.

use alloc::vec::Vec;
use core::fmt;

use super::ResNet;
use crate::{
    Name,
    geom::{ConvGeom, PoolGeom, Shape, reach},
    weights::Weights,
};

/// A feature map of a [`Net`]; value 0 is the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ValueId(pub(crate) usize);

impl ValueId {
    /// The network's input.
    pub const INPUT: ValueId = ValueId(0);

    /// Its number: an index into [`Net::values`].
    pub const fn index(self) -> usize {
        self.0
    }
}

/// A convolution's tensors with batch norm folded in: `w[o] = scale[o] * oihw[o]`.
///
/// The scale stays apart so that weights can be borrowed from a mapped file; packing applies it.
#[derive(Clone, Debug)]
pub struct FoldedConv<'w> {
    /// OIHW
    pub oihw: &'w [f32],
    /// per output channel; empty means 1
    pub scale: Vec<f32>,
    /// per output channel
    pub bias: Vec<f32>,
}

impl FoldedConv<'_> {
    /// The weights with their scale applied, OIHW.
    pub fn scaled(&self) -> Vec<f32> {
        if self.scale.is_empty() {
            return self.oihw.to_vec();
        }
        let per_channel = self.oihw.len() / self.scale.len();
        let scaled = self.oihw.chunks(per_channel).zip(&self.scale).flat_map(|(w, s)| w.iter().map(move |w| w * s));
        scaled.collect()
    }
}

/// What an op computes.
#[derive(Clone, Debug)]
pub enum OpKind<'w> {
    /// `y = act(conv(x) + bias + shortcut)`; the classifier is one on a 1x1 map
    Conv {
        /// its shape
        geom: ConvGeom,
        /// its tensors
        weights: FoldedConv<'w>,
        /// added before the activation
        shortcut: Option<ValueId>,
        /// apply ReLU
        relu: bool,
    },
    /// maximum over windows
    MaxPool(PoolGeom),
    /// option A's shortcut: every `stride`-th pixel between zero channels
    Subsample {
        /// input map
        input: Shape,
        /// stride of both axes
        stride: usize,
        /// zero channels before
        before: usize,
        /// zero channels after
        after: usize,
    },
    /// mean over all pixels of this map
    AveragePool(Shape),
}

/// One op: reads `input`, writes `output`.
#[derive(Clone, Debug)]
pub struct Op<'w> {
    /// the layer's torchvision name
    pub name: Name,
    /// what it computes
    pub kind: OpKind<'w>,
    /// the map it reads
    pub input: ValueId,
    /// the map it writes; every value is written by one op
    pub output: ValueId,
    /// a convolution's kernel, by name; planning chooses where there is none
    pub kernel: Option<Name>,
}

impl Op<'_> {
    /// Shape of the map it writes.
    pub fn output_shape(&self) -> Shape {
        match &self.kind {
            OpKind::Conv { geom, .. } => geom.output(),
            OpKind::MaxPool(geom) => geom.output(),
            OpKind::Subsample { input, stride, before, after } => {
                let side = |n: usize| if *stride == 0 { 0 } else { n.div_ceil(*stride) };
                Shape::new(side(input.h), side(input.w), reach([(*before, 1), (input.c, 1), (*after, 1)]))
            }
            OpKind::AveragePool(input) => Shape::new(1, 1, input.c),
        }
    }

    /// Whether nothing about its shapes overflows, is empty or does not fit.
    pub(crate) fn is_valid(&self) -> bool {
        match &self.kind {
            OpKind::Conv { geom, .. } => geom.is_valid(),
            OpKind::MaxPool(geom) => geom.is_valid(),
            OpKind::Subsample { input, .. } => input.is_valid() && self.output_shape().is_valid(),
            OpKind::AveragePool(input) => input.is_valid(),
        }
    }

    /// The convolution, if it is one.
    pub(crate) fn conv(&self) -> Option<&ConvGeom> {
        match &self.kind {
            OpKind::Conv { geom, .. } => Some(geom),
            _ => None,
        }
    }

    /// The map it adds, if it adds one.
    pub fn shortcut(&self) -> Option<ValueId> {
        match self.kind {
            OpKind::Conv { shortcut, .. } => shortcut,
            _ => None,
        }
    }

    /// Multiply-adds for one image.
    pub fn macs(&self) -> u64 {
        self.conv().map_or(0, ConvGeom::macs)
    }
}

/// Where a network's weights come from, which is told when they were packed.
#[derive(Clone, Copy)]
pub(crate) struct Source<'w>(pub Option<&'w dyn Weights>);

impl fmt::Debug for Source<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("weights")
    }
}

/// A network ready for planning: ops in order of execution. Borrows its weights.
#[derive(Clone, Debug)]
pub struct Net<'w> {
    pub(crate) spec: ResNet,
    pub(crate) source: Source<'w>,
    pub(crate) ops: Vec<Op<'w>>,
    pub(crate) values: Vec<Shape>,
}

impl<'w> Net<'w> {
    pub(crate) fn new(spec: ResNet) -> Self {
        Net { spec, source: Source(None), ops: Vec::new(), values: alloc::vec![spec.input()] }
    }

    /// What it was made from.
    pub fn spec(&self) -> &ResNet {
        &self.spec
    }

    /// Its ops, in order.
    pub fn ops(&self) -> &[Op<'w>] {
        &self.ops
    }

    /// Shapes of all values, by number.
    pub fn values(&self) -> &[Shape] {
        &self.values
    }

    /// The same network with the convolution of op `index` given other tensors; any other op stays.
    pub fn with_conv(mut self, index: usize, tensors: FoldedConv<'w>) -> Self {
        if let Some(Op { kind: OpKind::Conv { weights, .. }, .. }) = self.ops.get_mut(index) {
            *weights = tensors;
        }
        self
    }

    /// The same network with every convolution that adds a shortcut computed once more without shortcut and
    /// activation, as an op called `NAME.alone` before it: what an observer of ranges has to see.
    pub fn with_sums_apart(&self) -> Net<'w> {
        let mut net = Net { source: self.source, ..Net::new(self.spec) };
        let mut values = alloc::vec![ValueId::INPUT; self.values.len()];
        for op in &self.ops {
            let input = values[op.input.0];
            let mut kind = op.kind.clone();
            if let OpKind::Conv { geom, weights, shortcut: Some(value), .. } = &mut kind {
                let alone = OpKind::Conv { geom: *geom, weights: weights.clone(), shortcut: None, relu: false };
                net.push(op.name.dot("alone"), input, alone);
                *value = values[value.0];
            }
            values[op.output.0] = net.push(op.name, input, kind);
        }
        net
    }

    /// Asks for a kernel of [`crate::plan::Plan::candidates`] for the convolution called `layer`; false when the
    /// network has no such convolution. Planning fails where the kernel is none of that layer's candidates.
    pub fn prefer(&mut self, layer: &str, kernel: &str) -> bool {
        let conv = |op: &&mut Op<'_>| op.name.as_str() == layer && matches!(op.kind, OpKind::Conv { .. });
        let found = self.ops.iter_mut().find(conv);
        found.map(|op| op.kernel = Some(Name::new(kernel))).is_some()
    }

    pub(crate) fn push(&mut self, name: Name, input: ValueId, kind: OpKind<'w>) -> ValueId {
        let output = ValueId(self.values.len());
        let op = Op { name, kind, input, output, kernel: None };
        self.values.push(op.output_shape());
        self.ops.push(op);
        output
    }
}
