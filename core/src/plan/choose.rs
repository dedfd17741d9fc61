//! What is decided about an op by itself: its kernel, and how its work is split.

use alloc::vec::Vec;

use super::{Options, bands, select};
use crate::{
    Error, Name,
    conv::{Band, Int8, Kernel},
    graph::{Op, OpKind},
    memory::Rect,
};

/// A convolution kernel of either element type.
#[derive(Clone, Copy)]
pub(super) enum ConvKernelOf {
    F32(Kernel),
    Int8(Int8),
}

impl ConvKernelOf {
    pub(super) fn name(&self) -> Name {
        match self {
            ConvKernelOf::F32(kernel) => kernel.name(),
            ConvKernelOf::Int8(kernel) => kernel.name(),
        }
    }

    pub(super) fn packed_len(&self, op: &Op) -> usize {
        match (self, &op.kind) {
            (ConvKernelOf::F32(kernel), OpKind::Conv { geom, .. }) => kernel.packed_len(geom),
            (ConvKernelOf::Int8(kernel), OpKind::Int8Conv { window, .. }) => kernel.packed_len(window),
            _ => 0,
        }
    }

    /// Words of weights that every band reads or makes: integer Winograd transforms its own in each.
    fn weights_per_band(&self, op: &Op) -> usize {
        match (self, &op.kind) {
            (ConvKernelOf::Int8(Int8::Winograd(kernel)), OpKind::Int8Conv { window, .. }) => {
                kernel.transformed_len(window)
            }
            _ => self.packed_len(op),
        }
    }

    pub(super) fn scratch_len(&self, op: &Op) -> usize {
        match (self, &op.kind) {
            (ConvKernelOf::F32(kernel), OpKind::Conv { geom, .. }) => kernel.scratch_len(geom),
            (ConvKernelOf::Int8(kernel), OpKind::Int8Conv { window, .. }) => kernel.scratch_len(window),
            _ => 0,
        }
    }

    fn granularity(&self, op: &Op) -> (usize, usize) {
        match (self, &op.kind) {
            (ConvKernelOf::F32(kernel), OpKind::Conv { geom, .. }) => kernel.granularity(geom),
            (ConvKernelOf::Int8(kernel), OpKind::Int8Conv { window, .. }) => kernel.granularity(window),
            _ => (1, op.output_shape().c),
        }
    }
}

/// Every kernel that can compute the op; none for what is no convolution.
pub(super) fn candidates(op: &Op, options: &Options) -> impl Iterator<Item = ConvKernelOf> {
    let floats = match op.kind {
        OpKind::Conv { geom, .. } => Some(select::candidates(geom, options.isa, options.winograd)),
        _ => None,
    };
    let int8 = match op.kind {
        OpKind::Int8Conv { window, .. } => Some(select::int8_candidates(window, options.isa, options.winograd)),
        _ => None,
    };
    let int8 = int8.into_iter().flatten().map(ConvKernelOf::Int8);
    floats.into_iter().flatten().map(ConvKernelOf::F32).chain(int8)
}

/// What is decided about an op before anything is placed.
pub(super) struct Chosen {
    pub kernel: Option<ConvKernelOf>,
    pub bands: (Vec<Band>, Vec<Rect>),
}

impl Chosen {
    /// For `part` images at a time.
    ///
    /// # Errors
    /// [`Error::Unsupported`] where no kernel fits, [`Error::NoSuchKernel`] where the one asked for does not.
    pub(super) fn new(op: &Op, part: usize, options: &Options) -> Result<Self, Error> {
        let output = op.output_shape();
        let mut work = bands::Work { macs: op.macs(), weight_len: 0, output, granularity: (1, output.c) };
        let kernel = match (op.kernel, op.kind) {
            (Some(asked), _) if op.conv().is_some() => {
                let found = candidates(op, options).find(|candidate| candidate.name() == asked);
                Some(found.ok_or(Error::NoSuchKernel(op.name))?)
            }
            (_, OpKind::Conv { geom, .. }) => {
                Some(ConvKernelOf::F32(select::fastest(&geom, options.isa, options.winograd)?))
            }
            (_, OpKind::Int8Conv { window, .. }) => {
                let fastest = select::fastest_int8(&window, options.isa, options.winograd);
                Some(ConvKernelOf::Int8(fastest.ok_or(Error::NoSuchKernel(op.name))?))
            }
            _ => None,
        };
        if let Some(kernel) = &kernel {
            (work.weight_len, work.granularity) = (kernel.weights_per_band(op), kernel.granularity(op));
        }
        Ok(Chosen { kernel, bands: bands::split(&work, part, options.threads) })
    }
}
