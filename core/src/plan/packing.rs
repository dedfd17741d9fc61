//! Packing weights for the kernels chosen.

use alloc::vec::Vec;
use core::mem::take;

use super::{Plan, StepKind, check_len};
use crate::{
    Error,
    geom::ConvGeom,
    kernel::{ConvWeights, Kernel},
    net::{Net, OpKind},
    weights::Weights,
};

/// One convolution's weights, and where they go.
struct Packing<'p> {
    kernel: Kernel,
    geom: &'p ConvGeom,
    weights: ConvWeights<'p, f32>,
    packed: &'p mut [f32],
    source: Option<&'p dyn Weights>,
}

impl Packing<'_> {
    fn run(self) -> Result<(), Error> {
        self.kernel.prepack(self.geom, self.weights, self.packed)?;
        if let Some(source) = self.source {
            source.release(self.weights.oihw);
        }
        Ok(())
    }
}

impl Plan {
    /// Packs the weights of `net`, which must be the network this plan was made for.
    ///
    /// # Errors
    /// [`Error::BufferLength`] when `packed` or a tensor has another length,
    /// [`Error::PackedForOtherKernel`] when `net` is another network.
    pub fn prepack(&self, net: &Net<'_>, packed: &mut [f32]) -> Result<(), Error> {
        self.packings(net, packed)?.into_iter().try_for_each(Packing::run)?;
        self.mark.write(packed);
        Ok(())
    }

    fn packings<'p>(&'p self, net: &'p Net<'_>, mut packed: &'p mut [f32]) -> Result<Vec<Packing<'p>>, Error> {
        check_len("packed weight buffer", self.packed_len, packed.len())?;
        if net.ops().len() != self.steps.len() {
            return Err(Error::PackedForOtherKernel);
        }
        let (mut packings, mut at) = (Vec::new(), 0);
        for (step, op) in self.steps.iter().zip(net.ops()) {
            match (&step.kind, &op.kind) {
                (StepKind::Conv { kernel, geom, packed: range, .. }, OpKind::Conv { weights, geom: other, .. })
                    if geom == other =>
                {
                    // Planning gave every convolution a place behind the one before.
                    let (part, rest) = take(&mut packed)[range.start - at..].split_at_mut(range.len());
                    (packed, at) = (rest, range.end);
                    let weights = ConvWeights { oihw: weights.oihw, scale: &weights.scale, bias: &weights.bias };
                    packings.push(Packing { kernel: *kernel, geom, weights, packed: part, source: net.source.0 });
                }
                (StepKind::Conv { .. }, _) | (_, OpKind::Conv { .. }) => return Err(Error::PackedForOtherKernel),
                _ => {}
            }
        }
        Ok(packings)
    }

    /// [`Plan::prepack`] on as many threads as the plan is for, where there is enough to do.
    #[cfg(feature = "std")]
    pub(crate) fn prepack_in_parallel(&self, net: &Net<'_>, packed: &mut [f32]) -> Result<(), Error> {
        use std::{
            panic::resume_unwind,
            sync::{Mutex, PoisonError},
            thread,
        };

        let asked = self.options.threads.min(packed.len() / WORTH_A_THREAD + 1);
        // Where the system does not tell, there may be no threads at all.
        let threads = asked.min(thread::available_parallelism().map_or(1, usize::from));
        if threads <= 1 {
            return self.prepack(net, packed);
        }
        let packings = Mutex::new(self.packings(net, packed)?.into_iter());
        let next = || packings.lock().unwrap_or_else(PoisonError::into_inner).next();
        let work = || core::iter::from_fn(next).try_for_each(Packing::run);
        let all = thread::scope(|scope| {
            // A thread that cannot be had is not missed: the others do its work.
            let start = |_| thread::Builder::new().spawn_scoped(scope, work).ok();
            let helpers: Vec<_> = (1..threads).filter_map(start).collect();
            let own = work();
            helpers
                .into_iter()
                .map(|helper| helper.join().unwrap_or_else(|panic| resume_unwind(panic)))
                .fold(own, Result::and)
        });
        drop(packings);
        all.map(|()| self.mark.write(packed))
    }
}

/// Packed elements (4 MB) that take longer than starting a thread.
#[cfg(feature = "std")]
const WORTH_A_THREAD: usize = 1 << 20;
