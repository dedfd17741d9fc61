//! A network's ops, without weights.

use alloc::{string::String, vec::Vec};

use crate::{
    Error, Name,
    elem::Dtype,
    geom::{ConvGeom, Shape, Window, reach},
    quant::{Epilogue, Mean, Quantization},
};

/// A feature map of a [`Graph`]; value 0 is the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ValueId(pub(super) usize);

impl ValueId {
    /// The network's input.
    pub const INPUT: ValueId = ValueId(0);

    /// Its number: an index into [`Graph::values`].
    pub const fn index(self) -> usize {
        self.0
    }

    /// The number of the op that writes it, `None` for the input.
    pub const fn writer(self) -> Option<usize> {
        self.0.checked_sub(1)
    }
}

/// What a feature map is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Value {
    /// of one image
    pub shape: Shape,
    /// how int8 elements encode real numbers; `None` for f32
    pub quantization: Option<Quantization>,
}

impl Value {
    /// A map of f32.
    pub const fn f32(shape: Shape) -> Self {
        Value { shape, quantization: None }
    }

    /// A map of int8.
    pub const fn int8(shape: Shape, quantization: Quantization) -> Self {
        Value { shape, quantization: Some(quantization) }
    }

    /// The type of its elements.
    pub const fn dtype(&self) -> Dtype {
        match self.quantization {
            None => Dtype::F32,
            Some(_) => Dtype::I8,
        }
    }

    /// Bytes of one image; saturates.
    pub const fn bytes(&self) -> usize {
        self.shape.elements().saturating_mul(self.dtype().bytes())
    }
}

/// What an op computes. Whether it computes on f32 or int8 is said by the values it reads and writes.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum OpKind {
    /// `y = act(conv(x) + bias + shortcut)` in f32; the classifier is one on a 1x1 map
    Conv {
        /// its shape
        geom: ConvGeom,
        /// added before the activation
        shortcut: Option<ValueId>,
        /// apply ReLU
        relu: bool,
    },
    /// the same in int8, by the definition in [`crate::quant`]
    Int8Conv {
        /// its shape
        window: Window,
        /// what happens to sums: rescaling, addition of the shortcut, clamping
        epilogue: Epilogue,
        /// the map that is added, of the output's shape
        shortcut: Option<ValueId>,
    },
    /// maximum over windows
    MaxPool(Window),
    /// option A's shortcut: every `stride`-th pixel between channels that mean 0
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
    /// the same in int8, with another encoding of the result
    Mean(Mean),
}

/// One op: reads `input`, writes `output`.
#[derive(Clone, Debug)]
pub struct Op {
    /// the layer's torchvision name
    pub name: Name,
    /// what it computes
    pub kind: OpKind,
    /// the map it reads
    pub input: ValueId,
    /// the map it writes; every value is written by one op
    pub output: ValueId,
    /// a convolution's kernel, by name; planning chooses where there is none
    pub kernel: Option<Name>,
}

impl Op {
    /// The window of a convolution or of a max pool.
    pub fn window(&self) -> Option<Window> {
        match self.kind {
            OpKind::Conv { geom, .. } => Some(geom.into()),
            OpKind::Int8Conv { window, .. } | OpKind::MaxPool(window) => Some(window),
            _ => None,
        }
    }

    /// The window of a convolution.
    pub fn conv(&self) -> Option<Window> {
        self.window().filter(|_| !matches!(self.kind, OpKind::MaxPool(_)))
    }

    /// Shape of the map it reads.
    pub fn input_shape(&self) -> Shape {
        match self.kind {
            OpKind::Conv { geom, .. } => geom.input,
            OpKind::Int8Conv { window, .. } | OpKind::MaxPool(window) => window.input,
            OpKind::Subsample { input, .. } | OpKind::AveragePool(input) | OpKind::Mean(Mean { input, .. }) => input,
        }
    }

    /// Shape of the map it writes.
    pub fn output_shape(&self) -> Shape {
        match self.kind {
            OpKind::Conv { geom, .. } => geom.output(),
            OpKind::Int8Conv { window, .. } | OpKind::MaxPool(window) => window.output,
            OpKind::Subsample { input, stride, before, after } => {
                let side = |n: usize| if stride == 0 { 0 } else { n.div_ceil(stride) };
                Shape::new(side(input.h), side(input.w), reach([(before, 1), (input.c, 1), (after, 1)]))
            }
            OpKind::AveragePool(input) | OpKind::Mean(Mean { input, .. }) => Shape::new(1, 1, input.c),
        }
    }

    /// Whether nothing about its shapes overflows, is empty or does not fit.
    pub(crate) fn is_valid(&self) -> bool {
        match self.kind {
            OpKind::Conv { geom, .. } => geom.is_valid(),
            OpKind::Int8Conv { window, .. } | OpKind::MaxPool(window) => window.is_valid(),
            OpKind::Subsample { input, .. } => input.is_valid() && self.output_shape().is_valid(),
            OpKind::AveragePool(input) => input.is_valid(),
            OpKind::Mean(mean) => mean.is_valid() && mean.input.is_valid(),
        }
    }

    /// The map it adds, if it adds one.
    pub fn shortcut(&self) -> Option<ValueId> {
        match self.kind {
            OpKind::Conv { shortcut, .. } | OpKind::Int8Conv { shortcut, .. } => shortcut,
            _ => None,
        }
    }

    /// Multiply-adds for one image.
    pub fn macs(&self) -> u64 {
        self.conv().map_or(0, |window| window.macs())
    }
}

/// What a network computes: ops in order of execution, without weights.
#[derive(Clone, Debug)]
pub struct Graph {
    pub(super) name: String,
    pub(super) ops: Vec<Op>,
    pub(super) values: Vec<Value>,
    pub(super) outputs: Vec<ValueId>,
}

impl Graph {
    /// What to call it, such as `resnet50`; may be empty.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its ops, in order.
    pub fn ops(&self) -> &[Op] {
        &self.ops
    }

    pub(crate) fn ops_mut(&mut self) -> &mut [Op] {
        &mut self.ops
    }

    /// All values, by number.
    pub fn values(&self) -> &[Value] {
        &self.values
    }

    /// The input.
    pub fn input(&self) -> &Value {
        &self.values[0]
    }

    /// The values that a run returns, at least one.
    pub fn outputs(&self) -> &[ValueId] {
        &self.outputs
    }

    /// The first output: the logits of a classifier.
    pub fn output(&self) -> &Value {
        &self.values[self.outputs[0].0]
    }

    /// Chooses what runs return.
    ///
    /// # Errors
    /// [`Error::InvalidNetwork`] if there is no output, or one that no op writes.
    pub fn set_outputs(&mut self, outputs: &[ValueId]) -> Result<(), Error> {
        let written = |output: &ValueId| (1..self.values.len()).contains(&output.0);
        if outputs.is_empty() || !outputs.iter().all(written) {
            return Err(Error::InvalidNetwork { reason: "an output must be a value that an op writes" });
        }
        self.outputs = outputs.to_vec();
        Ok(())
    }

    /// The value that the op called `layer` writes.
    pub fn layer(&self, layer: &str) -> Option<ValueId> {
        self.ops.iter().find(|op| op.name.as_str() == layer).map(|op| op.output)
    }

    /// Multiply-adds of one image.
    pub fn macs(&self) -> u64 {
        self.ops.iter().map(Op::macs).sum()
    }

    /// Asks for a kernel of [`crate::plan::Plan::candidates`] for the convolution called `layer`; false when the
    /// network has no such convolution. Planning fails where the kernel is none of that layer's candidates.
    pub fn prefer(&mut self, layer: &str, kernel: &str) -> bool {
        let conv = |op: &&mut Op| op.name.as_str() == layer && op.conv().is_some();
        let found = self.ops.iter_mut().find(conv);
        found.map(|op| op.kernel = Some(Name::new(kernel))).is_some()
    }
}
