//! Packing weights for the kernels chosen.

use alloc::vec::Vec;
use core::{mem::take, ops::Range};

use super::{Plan, choose::ConvKernelOf};
use crate::{
    Error, Name,
    conv::ConvWeights,
    geom::Window,
    graph::{FoldedConv, Net, Op, OpKind, Tensors},
    memory::Buffer,
};

/// What a convolution's weights were packed for, and where they lie. The map's size is no part of it: the same weights
/// serve inputs of any size.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Layer {
    pub kernel: Name,
    channels: (usize, usize),
    side: usize,
    stride: usize,
    /// words of the buffer
    pub range: Range<usize>,
}

impl Layer {
    /// The weights of `op` for `kernel`, from word `start`.
    pub(super) fn new(kernel: &ConvKernelOf, op: &Op, start: usize) -> Self {
        let (side, stride) = op.conv().map_or((0, 0), |Window { kernel, stride, .. }| (kernel, stride));
        let channels = (op.input_shape().c, op.output_shape().c);
        Layer { kernel: kernel.name(), channels, side, stride, range: start..start + kernel.packed_len(op) }
    }
}

/// Weights reordered for the kernels of a plan. They know which these are: a plan with other kernels refuses them.
#[derive(Debug)]
pub struct Packed {
    buffer: Buffer,
    layers: Vec<Layer>,
}

impl Packed {
    /// Bytes of memory.
    pub fn bytes(&self) -> usize {
        size_of_val(self.buffer.as_slice())
    }

    pub(super) fn layers(&self) -> &[Layer] {
        &self.layers
    }

    pub(super) fn words(&self) -> &[f32] {
        self.buffer.as_slice()
    }
}

/// One convolution's weights, and where they go.
struct Packing<'p> {
    op: &'p Op,
    kernel: ConvKernelOf,
    tensors: &'p Tensors<'p>,
    packed: &'p mut [f32],
}

impl Packing<'_> {
    /// What is not in memory is read into `room`, which the next one may use again.
    fn run(self, room: &mut Buffer) -> Result<(), Error> {
        match (self.kernel, self.tensors, &self.op.kind) {
            (ConvKernelOf::F32(kernel), Tensors::F32(FoldedConv { oihw, scale, bias }), OpKind::Conv { geom, .. }) => {
                kernel.prepack(geom, ConvWeights { oihw: oihw.read(room)?, scale, bias }, self.packed)
            }
            (ConvKernelOf::Int8(kernel), Tensors::Int8(conv), OpKind::Int8Conv { window, .. }) => {
                kernel.prepack(window, *conv, bytemuck::cast_slice_mut(self.packed))
            }
            _ => Err(Error::PackedForOtherKernel),
        }
    }
}

impl Plan {
    /// Packs the weights of `net`, which must be the network this plan was made for.
    ///
    /// # Errors
    /// [`Error::BufferLength`] when a tensor has another length, [`Error::PackedForOtherKernel`] when `net` is another
    /// network, [`Error::Unreadable`], [`Error::OutOfMemory`].
    pub fn prepack(&self, net: &Net<'_>) -> Result<Packed, Error> {
        let mut buffer = Buffer::try_new(self.packed_len)?;
        let mut room = Buffer::new(0);
        self.packings(net, buffer.as_mut_slice())?.into_iter().try_for_each(|packing| packing.run(&mut room))?;
        Ok(Packed { buffer, layers: self.layers.clone() })
    }

    fn packings<'p>(&'p self, net: &'p Net<'_>, mut packed: &'p mut [f32]) -> Result<Vec<Packing<'p>>, Error> {
        let ours = self.graph.ops();
        if net.ops().len() != ours.len() || net.ops().iter().zip(ours).any(|(a, b)| a.kind != b.kind) {
            return Err(Error::PackedForOtherKernel);
        }
        let (mut packings, mut at) = (Vec::new(), 0);
        let convs = self.steps.iter().filter_map(|step| Some((step, step.conv_kernel()?)));
        for ((step, kernel), layer) in convs.zip(&self.layers) {
            // Planning gave every convolution a place behind the one before.
            let (part, rest) = take(&mut packed)[layer.range.start - at..].split_at_mut(layer.range.len());
            (packed, at) = (rest, layer.range.end);
            let (op, tensors) = (&ours[step.index], &net.tensors()[step.index]);
            packings.push(Packing { op, kernel, tensors, packed: part });
        }
        Ok(packings)
    }

    /// [`Plan::prepack`] on as many threads as the plan is for, where there is enough to do.
    #[cfg(feature = "std")]
    pub(crate) fn prepack_in_parallel(&self, net: &Net<'_>) -> Result<Packed, Error> {
        use std::{
            panic::resume_unwind,
            sync::{Mutex, PoisonError},
            thread,
        };

        let asked = self.options.threads.min(self.packed_len / WORTH_A_THREAD + 1);
        // Where the system does not tell, there may be no threads at all.
        let threads = asked.min(thread::available_parallelism().map_or(1, usize::from));
        if threads <= 1 {
            return self.prepack(net);
        }
        let mut buffer = Buffer::try_new(self.packed_len)?;
        let packings = Mutex::new(self.packings(net, buffer.as_mut_slice())?.into_iter());
        let next = || packings.lock().unwrap_or_else(PoisonError::into_inner).next();
        let work = || {
            let mut room = Buffer::new(0);
            core::iter::from_fn(next).try_for_each(|packing| packing.run(&mut room))
        };
        thread::scope(|scope| {
            // A thread that cannot be had is not missed: the others do its work.
            let start = |_| thread::Builder::new().spawn_scoped(scope, work).ok();
            let helpers: Vec<_> = (1..threads).filter_map(start).collect();
            let own = work();
            helpers
                .into_iter()
                .map(|helper| helper.join().unwrap_or_else(|panic| resume_unwind(panic)))
                .fold(own, Result::and)
        })?;
        drop(packings);
        Ok(Packed { buffer, layers: self.layers.clone() })
    }
}

/// Packed elements (4 MB) that take longer than starting a thread.
#[cfg(feature = "std")]
const WORTH_A_THREAD: usize = 1 << 20;
