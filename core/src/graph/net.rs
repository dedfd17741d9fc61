//! A graph with its tensors.

use alloc::vec::Vec;
use core::{
    fmt,
    ops::{Deref, DerefMut},
};

use super::{Builder, Graph, Op, OpKind, ValueId};
use crate::{Error, quant, weights::Weights};

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

/// The tensors of one op.
#[derive(Clone, Debug)]
pub(crate) enum Tensors<'w> {
    None,
    F32(FoldedConv<'w>),
    Int8(quant::Conv<'w>),
}

/// Where a network's weights come from, which is told when they were packed.
#[derive(Clone, Copy)]
struct Source<'w>(Option<&'w dyn Weights>);

impl fmt::Debug for Source<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("weights")
    }
}

/// A network ready for planning and packing: a [`Graph`] (to which it dereferences) and the tensors of its convolutions.
#[derive(Clone, Debug)]
pub struct Net<'w> {
    graph: Graph,
    tensors: Vec<Tensors<'w>>,
    source: Source<'w>,
}

impl<'w> Net<'w> {
    pub(super) fn new(graph: Graph, tensors: Vec<Tensors<'w>>) -> Self {
        Net { graph, tensors, source: Source(None) }
    }

    /// Says where the tensors are borrowed from.
    pub(crate) fn with_source(self, weights: &'w dyn Weights) -> Self {
        Net { source: Source(Some(weights)), ..self }
    }

    pub(crate) fn into_graph(self) -> Graph {
        self.graph
    }

    pub(crate) fn source(&self) -> Option<&'w dyn Weights> {
        self.source.0
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
        Ok(Net { source: self.source, ..net.finish(&outputs)? })
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
