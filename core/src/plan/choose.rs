//! What is decided about an op by itself: its kernel, and how its work is split.

use alloc::vec::Vec;

use super::{Options, bands, select};
use crate::{
    Error,
    conv::{Band, Kernel},
    graph::{Op, OpKind},
    memory::Rect,
};

/// What is decided about an op before anything is placed.
pub(super) struct Chosen {
    pub kernel: Option<Kernel>,
    pub bands: (Vec<Band>, Vec<Rect>),
}

impl Chosen {
    /// For `part` images at a time.
    ///
    /// # Errors
    /// [`Error::Unsupported`] where no kernel fits, [`Error::NoSuchKernel`] where the one asked for does not.
    pub(super) fn new(op: &Op<'_>, part: usize, options: &Options) -> Result<Self, Error> {
        let Options { threads, isa, winograd, .. } = *options;
        let output = op.output_shape();
        let mut work = bands::Work { macs: op.macs(), weight_len: 0, output, granularity: (1, output.c) };
        let OpKind::Conv { geom, .. } = &op.kind else {
            return Ok(Chosen { kernel: None, bands: bands::split(&work, part, threads) });
        };
        let kernel = match op.kernel {
            Some(kernel) => select::candidates(geom, isa, winograd)
                .find(|candidate| candidate.name() == kernel)
                .ok_or(Error::NoSuchKernel(op.name))?,
            None => select::fastest(geom, isa, winograd)?,
        };
        (work.weight_len, work.granularity) = (kernel.packed_len(geom), kernel.granularity(geom));
        let bands = bands::split(&work, part, threads);
        Ok(Chosen { kernel: Some(kernel), bands })
    }
}
