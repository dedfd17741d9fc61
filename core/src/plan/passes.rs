//! Parts of the network that run on some images of a batch at a time.
//!
//! A layer over a whole batch writes more than caches hold, and the next layer reads it from memory. Where
//! maps are large and weights small it is better to run many layers on few images; where maps are small
//! and weights large, one layer on many.

use alloc::vec::Vec;
use core::ops::Range;

use crate::graph::Op;

/// Consecutive steps run on `images` images, `batch / images` times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pass {
    pub steps: Range<usize>,
    pub images: usize,
}

/// Activations (elements, read and written by one layer) of a part that the caches of one thread hold.
const CACHED: usize = 1 << 20;

/// Multiply-adds a thread should find in one layer of a part.
const LEAST_MACS: u64 = 16 << 20;

/// Cuts the network where its maps change size.
pub(super) fn passes(ops: &[Op], batch: usize, threads: usize) -> Vec<Pass> {
    let mut passes: Vec<Pass> = Vec::new();
    let mut first = 0;
    while first < ops.len() {
        let side = |i: usize| (ops[i].output_shape().h, ops[i].output_shape().w);
        let end = (first..ops.len()).find(|&i| side(i) != side(first)).unwrap_or(ops.len());
        let least = passes.last().map_or(1, |pass| pass.images);
        let images = divisor(batch, wanted(&ops[first..end], threads).max(least));
        match passes.last_mut() {
            Some(pass) if pass.images == images => pass.steps.end = end,
            _ => passes.push(Pass { steps: first..end, images }),
        }
        first = end;
    }
    passes
}

/// Images at a time for layers of one map size: so many that reading the weights again for every part costs
/// no more than reading the activations, as long as these stay in the caches.
fn wanted(ops: &[Op], threads: usize) -> usize {
    let (mut weights, mut activations, mut macs, mut layers) = (0, 1, 0, 0);
    for op in ops {
        if let Some(window) = op.conv() {
            weights += window.weight_len();
            activations = activations.max(window.input.elements() + window.output.elements());
            macs = u64::saturating_add(macs, op.macs());
            layers += 1;
        }
    }
    let (layers, threads) = (layers.max(1), threads.max(1));
    let for_weights = (weights / layers).div_ceil(activations).min(CACHED / activations);
    let for_threads = LEAST_MACS.div_ceil(macs / layers as u64 + 1) as usize;
    threads * for_weights.max(for_threads).max(1)
}

/// The largest divisor of `n` up to `most`, so that all parts are equal.
fn divisor(n: usize, most: usize) -> usize {
    (1..=most.min(n)).rev().find(|d| n.is_multiple_of(*d)).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::{divisor, passes};
    use crate::{resnet::fold_batch_norm, testing::Generated};

    #[test]
    fn passes_cover_all_steps_and_whole_batches_with_growing_parts() {
        for name in ["resnet50", "resnet20-cifar", "resnet18"] {
            let weights = Generated::new(name.parse().unwrap());
            let net = fold_batch_norm(weights.spec(), &weights).unwrap();
            for (batch, threads) in [(1, 1), (1, 4), (7, 2), (16, 1), (16, 2), (12, 5)] {
                let passes = passes(net.ops(), batch, threads);
                let (mut next, mut images) = (0, 1);
                for pass in &passes {
                    assert_eq!(pass.steps.start, next);
                    assert!(pass.images >= images && batch % pass.images == 0, "{name}: {passes:?}");
                    (next, images) = (pass.steps.end, pass.images);
                }
                assert_eq!(next, net.ops().len());
            }
            assert!(passes(net.ops(), 16, 1).len() > 1, "{name} gains nothing from parts");
        }
    }

    #[test]
    fn divisors_are_the_largest_that_fit() {
        assert_eq!((divisor(16, 5), divisor(7, 6), divisor(12, 100), divisor(9, 1)), (4, 1, 12, 1));
    }
}
