//! Any number of pictures through a network, on all threads.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use residual_core::{
    Isa,
    graph::Net,
    plan::Options,
    quant,
    session::{Model, Session},
};
use residual_io::{DataError, Image, Preprocessing, quantized::Quantization};

use crate::{Error, QuantizedModel};

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

/// Loads pictures `0..count` with `image`, runs `net` on each and returns what `map` makes of its number and its
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
    net: &Net<'_>,
    preprocessing: &Preprocessing,
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
    let model = Arc::new(Model::new(net, &Options { batch, threads: threads / workers, isa, ..Options::default() })?);
    let worker = || -> Result<_, Error> {
        let session = Session::with_model(Arc::clone(&model))?;
        let input = vec![0.0; session.plan().input_len()];
        Ok(Floats { session, preprocessing, input })
    };
    let workers = (0..workers).map(|_| worker()).collect::<Result<Vec<_>, _>>()?;
    share(workers, &Pictures { batch, ..*how }, net.spec().classes(), count, image, map, progress)
}

/// [`map_pictures`] for an int8 model; `map` sees its outputs as real numbers. Every thread works on a picture of
/// its own.
///
/// # Errors
/// As [`map_pictures`]; [`Error::Unfit`] for a model that does not take square RGB pictures or does not say how
/// they are normalised.
pub fn map_pictures_quantized<R: Send>(
    model: &QuantizedModel,
    how: &Pictures,
    count: usize,
    image: impl Fn(usize) -> Result<Image, DataError> + Sync,
    map: impl Fn(usize, &[f32]) -> R + Sync,
    progress: impl Fn(usize) + Sync,
) -> Result<Vec<Result<R, DataError>>, Error> {
    if how.threads == 0 {
        return Err(residual_core::Error::Threads { asked: 0 }.into());
    }
    let packed = Arc::new(model.pack(how.isa)?);
    let preprocessing = model.preprocessing()?;
    let table = model.table(&preprocessing)?;
    let encoding = model.output_encoding();
    let worker = || -> Result<_, Error> {
        let session = quant::Session::with_model(Arc::clone(&packed))?;
        let input = vec![0; packed.input_len()];
        Ok(Bytes { session, preprocessing: &preprocessing, table: &table, encoding, input, logits: Vec::new() })
    };
    let workers = (0..how.threads.min(count).max(1)).map(|_| worker()).collect::<Result<Vec<_>, _>>()?;
    share(workers, &Pictures { batch: 1, ..*how }, model.classes(), count, image, map, progress)
}

/// What a thread runs pictures with.
trait Worker: Send {
    /// Puts a picture into place `slot` of the batch.
    fn load(&mut self, slot: usize, image: &Image) -> Result<(), DataError>;
    /// The logits of the batch, one row each.
    fn run(&mut self) -> Result<&[f32], Error>;
}

struct Floats<'p> {
    session: Session,
    preprocessing: &'p Preprocessing,
    input: Vec<f32>,
}

impl Worker for Floats<'_> {
    fn load(&mut self, slot: usize, image: &Image) -> Result<(), DataError> {
        let len = self.session.plan().input_shape().elements();
        self.preprocessing.apply(image, &mut self.input[slot * len..][..len])
    }

    fn run(&mut self) -> Result<&[f32], Error> {
        Ok(self.session.run(&self.input)?)
    }
}

struct Bytes<'p> {
    session: quant::Session,
    preprocessing: &'p Preprocessing,
    /// the int8 of every channel and sample
    table: &'p [[i8; 256]; 3],
    encoding: Quantization,
    input: Vec<i8>,
    logits: Vec<f32>,
}

impl Worker for Bytes<'_> {
    fn load(&mut self, _: usize, image: &Image) -> Result<(), DataError> {
        let image = self.preprocessing.resize_and_crop(image)?;
        let (from, _) = image.pixels().as_chunks::<3>();
        let (to, _) = self.input.as_chunks_mut::<3>();
        for (to, from) in to.iter_mut().zip(from) {
            for c in 0..3 {
                to[c] = self.table[c][usize::from(from[c])];
            }
        }
        Ok(())
    }

    fn run(&mut self) -> Result<&[f32], Error> {
        let output = self.session.run(&self.input)?;
        self.logits.clear();
        self.logits.extend(output.iter().map(|q| self.encoding.dequantize(*q)));
        Ok(&self.logits)
    }
}

/// Whether logits are numbers; `picture` is what an error calls the picture.
///
/// # Errors
/// [`Error::NotFinite`] for the first that is none.
pub(crate) fn check_finite(logits: &[f32], picture: impl FnOnce() -> String) -> Result<(), Error> {
    match logits.iter().position(|v| !v.is_finite()) {
        Some(class) => Err(Error::NotFinite { picture: picture(), class, value: logits[class] }),
        None => Ok(()),
    }
}

/// Hands batches of pictures to `workers`, one thread each.
fn share<W: Worker, R: Send>(
    workers: Vec<W>,
    how: &Pictures,
    classes: usize,
    count: usize,
    image: impl Fn(usize) -> Result<Image, DataError> + Sync,
    map: impl Fn(usize, &[f32]) -> R + Sync,
    progress: impl Fn(usize) + Sync,
) -> Result<Vec<Result<R, DataError>>, Error> {
    let Pictures { threads, batch, skip_unreadable, .. } = *how;
    let next = AtomicUsize::new(0);
    let stop = AtomicBool::new(false);
    let results: Mutex<Vec<Option<Result<R, DataError>>>> = Mutex::new((0..count).map(|_| None).collect());
    let work = |mut worker: W| -> Result<(), Error> {
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
                let logits = worker.run()?;
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
