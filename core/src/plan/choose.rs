//! What is decided about an op by itself: its kernel, and how its work is split.

use alloc::vec::Vec;
use core::ops::Range;

use super::{Options, bands, select};
use crate::{
    Error,
    arch::Rect,
    kernel::{Band, Kernel, Winograd},
    net::{Op, OpKind},
};

/// Winograd's transform of a convolution's input, made once for all bands where these divide the channels.
#[derive(Clone)]
pub(super) struct Shared {
    pub kernel: Winograd,
    /// in the arena; until everything is placed, only its length counts
    pub place: Range<usize>,
    /// elements between its rows
    pub cols: usize,
    /// the rows of tiles of each piece of work, and the columns they fill
    pub rows: Vec<Range<usize>>,
    pub rects: Vec<Rect>,
}

/// What is decided about an op before anything is placed.
pub(super) struct Chosen {
    pub kernel: Option<Kernel>,
    pub bands: (Vec<Band>, Vec<Rect>),
    pub shared: Option<Shared>,
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
            return Ok(Chosen { kernel: None, bands: bands::split(&work, part, threads), shared: None });
        };
        let kernel = match op.kernel {
            Some(kernel) => select::candidates(geom, isa, winograd)
                .find(|candidate| candidate.name() == kernel)
                .ok_or(Error::NoSuchKernel(op.name))?,
            None => select::fastest(geom, isa, winograd)?,
        };
        (work.weight_len, work.granularity) = (kernel.packed_len(geom), kernel.granularity(geom));
        let bands = bands::split(&work, part, threads);
        let shared = match kernel {
            Kernel::Winograd(kernel) if bands.1.iter().any(|rect| rect.cols.len() < output.c) => {
                kernel.shared(geom).map(|(points, columns)| {
                    let rows = part * output.h.div_ceil(work.granularity.0);
                    let (rows, rects) = bands::columns(rows, threads, points, columns);
                    let cols = rects.last().map_or(0, |rect: &Rect| rect.cols.end);
                    Shared { kernel, place: 0..points * cols, cols, rows, rects }
                })
            }
            _ => None,
        };
        Ok(Chosen { kernel: Some(kernel), bands, shared })
    }
}
