//! What values a network computes on calibration pictures: ranges, histograms, channel means.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use residual_core::{
    Isa,
    graph::Net,
    plan::Options,
    session::{PackedNet, Session},
};

use super::QuantizeError;

/// Bins of a histogram.
const BINS: usize = 2048;
/// Pictures whose sums are formed together: results do not depend on the number of threads.
const CHUNK: usize = 16;

/// What was seen of one value.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observed {
    /// smallest
    pub min: f32,
    /// largest
    pub max: f32,
    /// counts of equal parts of `min..=max`
    pub histogram: Vec<u64>,
    /// mean of each channel
    pub means: Vec<f64>,
    /// largest magnitude of each channel
    pub largest: Vec<f32>,
}

/// Runs `work(session, number of the first picture, pictures)` on chunks of all pictures and returns the results in order.
pub(super) fn in_chunks<R: Send>(
    net: &Net<'_>,
    inputs: &[Vec<f32>],
    threads: usize,
    isa: Isa,
    work: impl Fn(&mut Session, usize, &[Vec<f32>]) -> Result<R, residual_core::Error> + Sync,
) -> Result<Vec<R>, QuantizeError> {
    let model = Arc::new(PackedNet::new(net, &Options { isa, ..Options::default() })?);
    let sessions = (0..threads.clamp(1, inputs.len().div_ceil(CHUNK).max(1)))
        .map(|_| Session::with_model(Arc::clone(&model)))
        .collect::<Result<Vec<_>, _>>()?;
    parallel(sessions, inputs.len(), |session, range| work(session, range.start, &inputs[range]))
}

/// Chunks of `0..count` shared between workers, results in order.
pub(super) fn parallel<W: Send, R: Send>(
    workers: Vec<W>,
    count: usize,
    work: impl Fn(&mut W, std::ops::Range<usize>) -> Result<R, residual_core::Error> + Sync,
) -> Result<Vec<R>, QuantizeError> {
    let next = AtomicUsize::new(0);
    let results: Mutex<BTreeMap<usize, Result<R, residual_core::Error>>> = Mutex::default();
    std::thread::scope(|scope| {
        for mut worker in workers {
            let (next, results, work) = (&next, &results, &work);
            scope.spawn(move || {
                loop {
                    let first = next.fetch_add(CHUNK, Ordering::Relaxed);
                    if first >= count {
                        break;
                    }
                    let result = work(&mut worker, first..count.min(first + CHUNK));
                    results.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).insert(first, result);
                }
            });
        }
    });
    let results = results.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
    Ok(results.into_values().collect::<Result<_, _>>()?)
}

/// Observes every op's result on `inputs` (normalised, NHWC), by the op's name.
pub(super) fn observe(
    net: &Net<'_>,
    inputs: &[Vec<f32>],
    threads: usize,
    isa: Isa,
) -> Result<BTreeMap<String, Observed>, QuantizeError> {
    // First the ranges, then the histograms over them.
    let ranges = in_chunks(net, inputs, threads, isa, |session, _, pictures| {
        let mut seen: BTreeMap<String, (f32, f32, Vec<f64>, Vec<f32>)> = BTreeMap::new();
        for picture in pictures {
            session.run_with(picture, |step, y: &[f32]| {
                let c = step.output_shape().c;
                let entry = seen.entry(step.name.to_string());
                let fresh = || (f32::INFINITY, f32::NEG_INFINITY, vec![0.0; c], vec![0.0; c]);
                let (min, max, sums, largest) = entry.or_insert_with(fresh);
                for pixel in y.chunks_exact(c) {
                    for ((sum, largest), v) in sums.iter_mut().zip(largest.iter_mut()).zip(pixel) {
                        (*min, *max) = (min.min(*v), max.max(*v));
                        *largest = largest.max(v.abs());
                        *sum += f64::from(*v);
                    }
                }
            })?;
        }
        Ok(seen)
    })?;
    let mut all: BTreeMap<String, Observed> = BTreeMap::new();
    let pixels: BTreeMap<String, usize> = net
        .ops()
        .iter()
        .map(|op| (op.name.to_string(), op.output_shape().h * op.output_shape().w * inputs.len()))
        .collect();
    for chunk in ranges {
        for (name, (min, max, sums, largest)) in chunk {
            let fresh = || Observed {
                min,
                max,
                histogram: vec![0; BINS],
                means: vec![0.0; sums.len()],
                largest: vec![0.0; sums.len()],
            };
            let value = all.entry(name).or_insert_with(fresh);
            (value.min, value.max) = (value.min.min(min), value.max.max(max));
            value.means.iter_mut().zip(sums).for_each(|(m, s)| *m += s);
            value.largest.iter_mut().zip(largest).for_each(|(m, l)| *m = m.max(l));
        }
    }
    for (name, value) in &mut all {
        let n = pixels.get(name).copied().unwrap_or(1).max(1) as f64;
        value.means.iter_mut().for_each(|m| *m /= n);
        if !(value.min.is_finite() && value.max.is_finite()) {
            return Err(QuantizeError::NotFinite { layer: name.clone() });
        }
    }
    let histograms = in_chunks(net, inputs, threads, isa, |session, _, pictures| {
        let mut counts: BTreeMap<String, Vec<u64>> = BTreeMap::new();
        for picture in pictures {
            session.run_with(picture, |step, y: &[f32]| {
                let Some(value) = all.get(step.name.as_str()) else { return };
                let counts = counts.entry(step.name.to_string()).or_insert_with(|| vec![0; BINS]);
                let per_bin = BINS as f32 / (value.max - value.min).max(f32::MIN_POSITIVE);
                for v in y {
                    // The conversion saturates.
                    counts[(((v - value.min) * per_bin) as usize).min(BINS - 1)] += 1;
                }
            })?;
        }
        Ok(counts)
    })?;
    for (name, counts) in histograms.into_iter().flatten() {
        if let Some(value) = all.get_mut(&name) {
            value.histogram.iter_mut().zip(counts).for_each(|(sum, n)| *sum += n);
        }
    }
    Ok(all)
}
