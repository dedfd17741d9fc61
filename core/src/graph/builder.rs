//! Making a network of ops, each checked against what it reads.

use alloc::{string::String, vec::Vec};
use core::fmt::Display;

use super::{FoldedConv, Graph, Net, Op, OpKind, Tensors, Value, ValueId};
use crate::{
    Error, Name,
    elem::Dtype,
    geom::{ConvGeom, PoolGeom, Shape, Window},
    quant::{self, Quantization},
};

/// Adds ops in order of execution. Every method returns the value that the new op writes; see the
/// [module](crate::graph) for an example.
#[derive(Clone, Debug)]
pub struct Builder<'w> {
    graph: Graph,
    tensors: Vec<Tensors<'w>>,
}

impl<'w> Builder<'w> {
    /// A network whose input are f32 maps of `input`.
    pub fn new(input: Shape) -> Self {
        Builder::of(String::new(), Value::f32(input))
    }

    /// A network called `name` on `input`.
    pub fn of(name: impl Into<String>, input: Value) -> Self {
        let graph = Graph { name: name.into(), ops: Vec::new(), values: alloc::vec![input], outputs: Vec::new() };
        Builder { graph, tensors: Vec::new() }
    }

    /// `act(conv(input) + bias + shortcut)` in f32, without a batch norm of its own: it is folded into `tensors`.
    ///
    /// # Errors
    /// [`Error::InvalidNetwork`] where shapes, lengths or element types disagree.
    pub fn conv(
        &mut self,
        name: impl Display,
        input: ValueId,
        geom: ConvGeom,
        tensors: FoldedConv<'w>,
        shortcut: Option<ValueId>,
        relu: bool,
    ) -> Result<ValueId, Error> {
        let FoldedConv { oihw, scale, bias } = &tensors;
        let scales = scale.is_empty() || scale.len() == geom.c_out;
        if geom.stride == 0 || oihw.len() != geom.weight_len() || bias.len() != geom.c_out || !scales {
            return Err(Error::InvalidNetwork {
                reason: "a convolution's tensors do not have the lengths of its shape",
            });
        }
        self.check(input, geom.input, Dtype::F32)?;
        self.check_shortcut(shortcut, geom.output(), Dtype::F32)?;
        Ok(self.push(Name::new(name), input, OpKind::Conv { geom, shortcut, relu }, None, Tensors::F32(tensors)))
    }

    /// A convolution in int8; `output` is the encoding of what it stores. [`quant::Add`]'s stride and zero channels are
    /// an op of their own here ([`Builder::subsample`]): `shortcut` has the output's shape.
    ///
    /// # Errors
    /// As [`Builder::conv`].
    pub fn int8_conv(
        &mut self,
        name: impl Display,
        input: ValueId,
        conv: quant::Conv<'w>,
        shortcut: Option<ValueId>,
        output: Quantization,
    ) -> Result<ValueId, Error> {
        if !conv.window.is_valid() || !conv.is_consistent() || conv.add.is_some() != shortcut.is_some() {
            return Err(Error::InvalidNetwork { reason: "an int8 convolution's parts do not fit each other" });
        }
        self.check(input, conv.window.input, Dtype::I8)?;
        self.check_shortcut(shortcut, conv.window.output, Dtype::I8)?;
        let kind = OpKind::Int8Conv { window: conv.window, epilogue: conv.epilogue(), shortcut };
        Ok(self.push(Name::new(name), input, kind, Some(output), Tensors::Int8(conv)))
    }

    /// The maximum of every window; padding never wins.
    ///
    /// # Errors
    /// As [`Builder::conv`].
    pub fn max_pool(&mut self, name: impl Display, input: ValueId, window: Window) -> Result<ValueId, Error> {
        let Value { shape, quantization } = *self.value(input)?;
        if !window.is_valid() || window.input != shape || window.output.c != shape.c {
            return Err(Error::InvalidNetwork { reason: "a pool's window does not fit the map it reads" });
        }
        Ok(self.push(Name::new(name), input, OpKind::MaxPool(window), quantization, Tensors::None))
    }

    /// [`Builder::max_pool`] for a pool with equal padding on all sides.
    ///
    /// # Errors
    /// As [`Builder::conv`].
    pub fn max_pool_of(&mut self, name: impl Display, input: ValueId, geom: PoolGeom) -> Result<ValueId, Error> {
        self.max_pool(name, input, geom.into())
    }

    /// Every `stride`-th pixel of both axes, between `before` and `after` channels that mean 0.
    ///
    /// # Errors
    /// As [`Builder::conv`].
    pub fn subsample(
        &mut self,
        name: impl Display,
        input: ValueId,
        stride: usize,
        [before, after]: [usize; 2],
    ) -> Result<ValueId, Error> {
        let Value { shape, quantization } = *self.value(input)?;
        let channels = shape.c.checked_add(before).and_then(|c| c.checked_add(after));
        if stride == 0 || channels.is_none_or(|c| c > 1 << 16) {
            return Err(Error::InvalidNetwork { reason: "a shortcut of stride 0 or with too many channels" });
        }
        let kind = OpKind::Subsample { input: shape, stride, before, after };
        Ok(self.push(Name::new(name), input, kind, quantization, Tensors::None))
    }

    /// The mean over all pixels.
    ///
    /// # Errors
    /// As [`Builder::conv`].
    pub fn average_pool(&mut self, name: impl Display, input: ValueId) -> Result<ValueId, Error> {
        let Value { shape, quantization } = *self.value(input)?;
        Ok(self.push(Name::new(name), input, OpKind::AveragePool(shape), quantization, Tensors::None))
    }

    /// [`Builder::average_pool`] in int8, rescaled to the encoding `output`.
    ///
    /// # Errors
    /// As [`Builder::conv`].
    pub fn mean(
        &mut self,
        name: impl Display,
        input: ValueId,
        mean: quant::Mean,
        output: Quantization,
    ) -> Result<ValueId, Error> {
        self.check(input, mean.input, Dtype::I8)?;
        if !mean.is_valid() {
            return Err(Error::InvalidNetwork { reason: "a mean over too many pixels, or with an unusable factor" });
        }
        Ok(self.push(Name::new(name), input, OpKind::Mean(mean), Some(output), Tensors::None))
    }

    /// What a value is.
    ///
    /// # Errors
    /// [`Error::InvalidNetwork`] if there is no such value yet.
    pub fn value(&self, id: ValueId) -> Result<&Value, Error> {
        let missing = Error::InvalidNetwork { reason: "an op reads a value that no op before it writes" };
        self.graph.values.get(id.0).ok_or(missing)
    }

    /// The network, of which a run returns `outputs`.
    ///
    /// # Errors
    /// [`Error::InvalidNetwork`] if there is no output, or one that no op writes.
    pub fn finish(mut self, outputs: &[ValueId]) -> Result<Net<'w>, Error> {
        self.graph.set_outputs(outputs)?;
        Ok(Net::new(self.graph, self.tensors))
    }

    /// Adds an op whose parts are known to fit.
    pub(crate) fn push(
        &mut self,
        name: Name,
        input: ValueId,
        kind: OpKind,
        quantization: Option<Quantization>,
        tensors: Tensors<'w>,
    ) -> ValueId {
        let output = ValueId(self.graph.values.len());
        let op = Op { name, kind, input, output, kernel: None };
        self.graph.values.push(Value { shape: op.output_shape(), quantization });
        self.graph.ops.push(op);
        self.tensors.push(tensors);
        output
    }

    fn check(&self, id: ValueId, shape: Shape, dtype: Dtype) -> Result<(), Error> {
        let value = self.value(id)?;
        if value.shape != shape || value.dtype() != dtype {
            return Err(Error::InvalidNetwork { reason: "an op's shape or type is not that of the map it reads" });
        }
        Ok(())
    }

    fn check_shortcut(&self, shortcut: Option<ValueId>, shape: Shape, dtype: Dtype) -> Result<(), Error> {
        shortcut.map_or(Ok(()), |shortcut| self.check(shortcut, shape, dtype))
    }
}
