//! The side of a runtime that `cargo xtask bench peers` times.
//!
//! The process is started with `DIR PEER NETWORK BATCH THREADS`, loads `DIR/NETWORK...` once and prints one JSON line
//! `{"peer", "version", "error"}`: `error` is the largest difference from the reference logits, relative to the largest
//! one. Then it answers every line on standard input, a number of seconds, by running for about that long and
//! printing `{"median_ms", "min_ms", "runs"}`. Between lines it is idle. It ends with its input.
#![deny(missing_docs)]
#![forbid(unsafe_code)]

use std::{
    fs,
    io::{self, BufRead, Write},
    path::PathBuf,
    time::Instant,
};

use anyhow::{Context, Result, ensure};
use serde_json::json;

/// What to run.
#[derive(Clone, Debug)]
pub struct Case {
    /// where the exported files lie
    pub folder: PathBuf,
    /// the runtime
    pub peer: String,
    /// the network's name
    pub network: String,
    /// pictures at once
    pub batch: usize,
    /// threads
    pub threads: usize,
}

impl Case {
    /// From the arguments `DIR PEER NETWORK BATCH THREADS`.
    ///
    /// # Errors
    /// When one is missing or is no number.
    pub fn from_args(mut args: impl Iterator<Item = String>) -> Result<Case> {
        let mut next = |what| args.next().with_context(|| format!("no {what} given"));
        Ok(Case {
            folder: next("folder")?.into(),
            peer: next("peer")?,
            network: next("network")?,
            batch: next("batch")?.parse().context("batch")?,
            threads: next("number of threads")?.parse().context("number of threads")?,
        })
    }

    /// PyTorch's state dict.
    pub fn weights(&self) -> PathBuf {
        self.folder.join(format!("{}.pt", self.network))
    }

    /// The network as ONNX, for this batch.
    pub fn onnx(&self) -> PathBuf {
        self.folder.join(format!("{}-b{}.onnx", self.network, self.batch))
    }

    /// The pictures, NCHW.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn input(&self) -> Result<Vec<f32>> {
        self.floats("x")
    }

    /// Height and width of a picture.
    pub fn side(&self) -> usize {
        if self.network.ends_with("-cifar") { 32 } else { 224 }
    }

    fn floats(&self, kind: &str) -> Result<Vec<f32>> {
        let path = self.folder.join(format!("{}-b{}.{kind}.bin", self.network, self.batch));
        let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let (floats, rest) = bytes.as_chunks::<4>();
        ensure!(rest.is_empty(), "{}: not whole floats", path.display());
        Ok(floats.iter().map(|&b| f32::from_le_bytes(b)).collect())
    }
}

/// Checks one run's logits, says that the runtime is ready, then times slices until standard input ends.
///
/// # Errors
/// When a run fails, or the pipes break.
pub fn serve(case: &Case, version: &str, mut run: impl FnMut() -> Result<Vec<f32>>) -> Result<()> {
    let (want, got) = (case.floats("y")?, run()?);
    ensure!(want.len() == got.len(), "{} logits for {}", got.len(), want.len());
    let largest = want.iter().fold(0.0f32, |m, v| m.max(v.abs()));
    let error = want.iter().zip(&got).map(|(a, b)| (a - b).abs()).fold(0.0f32, f32::max) / largest;
    let mut out = io::stdout().lock();
    writeln!(out, "{}", json!({ "peer": case.peer, "version": version, "error": error }))?;
    out.flush()?;
    for line in io::stdin().lock().lines() {
        let seconds: f64 = line?.trim().parse().context("seconds")?;
        let mut times = Vec::new();
        // Warms the caches.
        run()?;
        let begin = Instant::now();
        while times.is_empty() || begin.elapsed().as_secs_f64() < seconds {
            let start = Instant::now();
            std::hint::black_box(run()?);
            times.push(start.elapsed().as_secs_f64() * 1e3);
        }
        times.sort_by(f64::total_cmp);
        let (min, median) = (times[0], times[times.len() / 2]);
        writeln!(out, "{}", json!({ "median_ms": median, "min_ms": min, "runs": times.len() }))?;
        out.flush()?;
    }
    Ok(())
}
