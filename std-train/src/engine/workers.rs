//! Threads and their scratch.

use std::sync::{Arc, Mutex};

use residual_core::{
    Error,
    simd::with_flushed_denormals,
    threads::{Executor, Team},
};

/// The calling thread and `threads - 1` helpers.
pub(crate) struct Workers(Team);

impl Workers {
    /// # Errors
    /// [`Error::Threads`] for none, or more than can be started; [`Error::OutOfMemory`].
    pub(crate) fn new(threads: usize, scratch_len: usize) -> Result<Self, Error> {
        let asked = Error::Threads { asked: threads };
        if !(1..=1024).contains(&threads) {
            return Err(asked);
        }
        let pool = (threads > 1).then(|| {
            let name = |i| format!("residual-train-{}", i + 1);
            rayon::ThreadPoolBuilder::new().num_threads(threads - 1).thread_name(name).build()
        });
        let pool = pool.transpose().map_err(|_| asked)?.map(Arc::new);
        Ok(Workers(Team::new(pool, threads, scratch_len)?))
    }

    /// Runs `lead` with everybody at hand. Subnormal numbers count as zero on all threads, the calling one included:
    /// gradients fade through them, and a helper's part must not differ.
    pub(crate) fn run<R>(&mut self, lead: impl FnOnce(&dyn Executor) -> R) -> R {
        with_flushed_denormals(|| self.0.run(|leader| lead(leader)))
    }
}

/// Calls `f(i, part, scratch)` for every part, each on some thread.
pub(crate) fn for_each<T: Send>(executor: &dyn Executor, parts: Vec<T>, f: impl Fn(usize, &mut T, &mut [f32]) + Sync) {
    let parts: Vec<Mutex<T>> = parts.into_iter().map(Mutex::new).collect();
    executor.for_each(parts.len(), &|i, scratch| {
        // Each part is visited once, so its lock is free and was never poisoned.
        if let Ok(mut part) = parts[i].lock() {
            f(i, &mut part, scratch);
        }
    });
}

/// Cuts `n` elements off the front of `scratch`, in whole cache lines.
pub(crate) fn carve<'s>(scratch: &mut &'s mut [f32], n: usize) -> &'s mut [f32] {
    let whole = std::mem::take(scratch);
    let (front, rest) = whole.split_at_mut(padded(n).min(whole.len()));
    *scratch = rest;
    &mut front[..n]
}

/// What [`carve`] takes for `n` elements.
pub(crate) fn padded(n: usize) -> usize {
    n.next_multiple_of(16)
}

#[cfg(test)]
mod tests {
    use std::hint::black_box;

    use super::{Workers, for_each};

    #[test]
    fn subnormal_numbers_are_zero_on_every_thread_and_the_callers_again_afterwards() {
        let half = || black_box(f32::MIN_POSITIVE) * black_box(0.5);
        for threads in [1, 2, 5] {
            let mut halves = vec![f32::NAN; 100];
            let mut workers = Workers::new(threads, 16).unwrap();
            workers.run(|executor| {
                for_each(executor, halves.iter_mut().collect(), |_, to, _| **to = half());
            });
            if cfg!(any(target_arch = "x86_64", target_arch = "aarch64")) {
                assert!(halves.iter().all(|&v| v == 0.0), "{threads} threads");
            }
            assert!(half() > 0.0);
        }
    }
}
