//! A graph with its tensors.

use alloc::vec::Vec;
use core::ops::{Deref, DerefMut};

use super::{Builder, Graph, Op, OpKind, ValueId};
use crate::{Error, quant, weights::Elements};

/// A convolution's tensors with batch norm folded in: `w[o] = scale[o] * oihw[o]`.
///
/// The scale stays apart so that weights can stay where they are, in memory or in a file; packing reads them and applies
/// it.
#[derive(Clone, Debug)]
pub struct FoldedConv<'w> {
    /// OIHW
    pub oihw: Elements<'w>,
    /// per output channel; empty means 1
    pub scale: Vec<f32>,
    /// per output channel
    pub bias: Vec<f32>,
}

impl<'w> FoldedConv<'w> {
    /// Weights in memory, OIHW, with nothing to fold in, and the bias of every output channel.
    pub fn new(oihw: &'w [f32], bias: Vec<f32>) -> Self {
        FoldedConv { oihw: oihw.into(), scale: Vec::new(), bias }
    }

    /// The weights with their scale applied, OIHW.
    ///
    /// # Errors
    /// [`Error::Unreadable`], [`Error::OutOfMemory`].
    pub fn scaled(&self) -> Result<Vec<f32>, Error> {
        let mut oihw = self.oihw.to_vec()?;
        let per_channel = (oihw.len() / self.scale.len().max(1)).max(1);
        for (weights, scale) in oihw.chunks_mut(per_channel).zip(&self.scale) {
            weights.iter_mut().for_each(|w| *w *= scale);
        }
        Ok(oihw)
    }
}

/// The tensors of one op.
#[derive(Clone, Debug)]
pub(crate) enum Tensors<'w> {
    None,
    F32(FoldedConv<'w>),
    Int8(quant::Conv<'w>),
}

/// A network ready for planning and packing: a [`Graph`] (to which it dereferences) and the tensors of its convolutions.
#[derive(Clone, Debug)]
pub struct Net<'w> {
    graph: Graph,
    tensors: Vec<Tensors<'w>>,
}

impl<'w> Net<'w> {
    pub(super) fn new(graph: Graph, tensors: Vec<Tensors<'w>>) -> Self {
        Net { graph, tensors }
    }

    pub(crate) fn into_graph(self) -> Graph {
        self.graph
    }

    pub(crate) fn tensors(&self) -> &[Tensors<'w>] {
        &self.tensors
    }

    /// The tensors of op `index`, if it is a convolution in f32.
    pub fn conv(&self, index: usize) -> Option<&FoldedConv<'w>> {
        match self.tensors.get(index)? {
            Tensors::F32(folded) => Some(folded),
            _ => None,
        }
    }

    /// The same network with the f32 convolution of op `index` given other tensors of the same lengths; any other op
    /// stays.
    pub fn with_conv(mut self, index: usize, tensors: FoldedConv<'w>) -> Self {
        if let Some(Tensors::F32(own)) = self.tensors.get_mut(index) {
            *own = tensors;
        }
        self
    }

    /// The same network with every convolution that adds a shortcut computed once more without shortcut and
    /// activation, as an op called `NAME.alone` before it: what an observer of ranges has to see.
    ///
    /// # Errors
    /// None in practice: the network was checked when it was made.
    pub fn with_sums_apart(&self) -> Result<Net<'w>, Error> {
        let mut net = Builder::of(self.graph.name.clone(), self.graph.values[0]);
        let mut values = alloc::vec![ValueId::INPUT; self.graph.values.len()];
        for (Op { name, kind, input, output, .. }, tensors) in self.graph.ops.iter().zip(&self.tensors) {
            let (input, mut kind) = (values[input.0], *kind);
            if let OpKind::Conv { geom, shortcut: Some(value), .. } = &mut kind {
                let alone = OpKind::Conv { geom: *geom, shortcut: None, relu: false };
                net.push(name.dot("alone"), input, alone, None, tensors.clone());
                *value = values[value.0];
            }
            values[output.0] = net.push(*name, input, kind, self.graph.values[output.0].quantization, tensors.clone());
        }
        let outputs: Vec<ValueId> = self.graph.outputs.iter().map(|output| values[output.0]).collect();
        net.finish(&outputs)
    }
}

impl Deref for Net<'_> {
    type Target = Graph;

    fn deref(&self) -> &Graph {
        &self.graph
    }
}

impl DerefMut for Net<'_> {
    fn deref_mut(&mut self) -> &mut Graph {
        &mut self.graph
    }
}
