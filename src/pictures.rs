//! Any number of pictures through a network, on all threads.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use residual_core::{Isa, plan::Options};
use residual_io::{DataError, Image};

use crate::{Error, Model, Prepared, Runner, model::check_finite};

/// How to run many pictures.
#[derive(Clone, Copy, Debug)]
pub struct Pictures {
    /// threads, at least 1; each loads pictures and runs the network for itself
    pub threads: usize,
    /// pictures a thread runs at once
    pub batch: usize,
    /// instruction set
    pub isa: Isa,
    /// go on where a picture cannot be read
    pub skip_unreadable: bool,
}

/// Loads pictures `0..count` with `image`, runs `model` on each and returns what `map` makes of its number and its
/// logits, in order. `progress` is called with the number of pictures just finished.
///
/// While there are more batches than threads, each thread works on pictures of its own, which is the fastest way
/// through many of them; for fewer, threads share the layers of one batch (feature `parallel`). Results depend on
/// neither threads nor batch.
///
/// # Errors
/// The first picture (by number) that cannot be read, unless they are to be skipped: then its place holds the
/// error. [`Error::Network`] for zero threads or a batch of zero; [`Error::NotFinite`] for logits that are no numbers.
pub fn map_pictures<R: Send>(
    model: &Model,
    how: &Pictures,
    count: usize,
    image: impl Fn(usize) -> Result<Image, DataError> + Sync,
    map: impl Fn(usize, &[f32]) -> R + Sync,
    progress: impl Fn(usize) + Sync,
) -> Result<Vec<Result<R, DataError>>, Error> {
    let Pictures { threads, batch, isa, .. } = *how;
    let batch = batch.min(count.max(1));
    let workers = threads.min(count.div_ceil(batch.max(1))).max(1);
    // Zero of either is refused here.
    let options = Options { batch, threads: threads / workers, isa, ..Options::default() };
    let prepared = Arc::new(Prepared::new(model, &options)?);
    let workers = (0..workers).map(|_| Runner::new(Arc::clone(&prepared))).collect::<Result<_, _>>()?;
    share(workers, &Pictures { batch, ..*how }, count, image, map, progress)
}

/// Hands batches of pictures to `workers`, one thread each.
fn share<R: Send>(
    workers: Vec<Runner>,
    how: &Pictures,
    count: usize,
    image: impl Fn(usize) -> Result<Image, DataError> + Sync,
    map: impl Fn(usize, &[f32]) -> R + Sync,
    progress: impl Fn(usize) + Sync,
) -> Result<Vec<Result<R, DataError>>, Error> {
    let Pictures { threads, batch, skip_unreadable, .. } = *how;
    let next = AtomicUsize::new(0);
    let stop = AtomicBool::new(false);
    let results: Mutex<Vec<Option<Result<R, DataError>>>> = Mutex::new((0..count).map(|_| None).collect());
    let work = |mut worker: Runner| -> Result<(), Error> {
        let mut finished = Vec::with_capacity(batch);
        let mut readable = Vec::with_capacity(batch);
        while !stop.load(Ordering::Relaxed) {
            let first = next.fetch_add(batch, Ordering::Relaxed);
            if first >= count {
                break;
            }
            readable.clear();
            for i in first..count.min(first + batch) {
                match image(i).and_then(|image| worker.load(readable.len(), &image)) {
                    Ok(()) => readable.push(i),
                    Err(error) => {
                        // Batches are handed out in order and finished once begun: the first error is found
                        // whoever comes first.
                        stop.fetch_or(!skip_unreadable, Ordering::Relaxed);
                        finished.push((i, Err(error)));
                    }
                }
            }
            if !readable.is_empty() {
                let classes = worker.prepared().classes();
                let logits = worker.run(readable.len())?;
                for (i, row) in readable.iter().zip(logits.chunks_exact(classes)) {
                    check_finite(row, || format!("picture {}", i + 1))
                        .inspect_err(|_| stop.store(true, Ordering::Relaxed))?;
                }
                finished
                    .extend(readable.iter().zip(logits.chunks_exact(classes)).map(|(&i, row)| (i, Ok(map(i, row)))));
            }
            progress(finished.len());
            let mut results = results.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            finished.drain(..).for_each(|(i, result)| results[i] = Some(result));
        }
        Ok(())
    };

    let mut workers = workers.into_iter();
    let own = workers.next();
    std::thread::scope(|scope| -> Result<(), Error> {
        let mut handles = Vec::new();
        for worker in workers {
            let started = std::thread::Builder::new().spawn_scoped(scope, || work(worker));
            handles.push(started.map_err(|source| {
                stop.store(true, Ordering::Relaxed);
                Error::Threads { threads, source }
            })?);
        }
        own.map_or(Ok(()), &work)?;
        handles
            .into_iter()
            .try_for_each(|handle| handle.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })?;
    let results = results.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner()).into_iter().flatten();
    if skip_unreadable { Ok(results.collect()) } else { Ok(results.map(|r| r.map(Ok)).collect::<Result<_, _>>()?) }
}
