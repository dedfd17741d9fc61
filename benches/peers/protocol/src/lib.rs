//! The side of a runtime that `cargo xtask bench peers` times.
//!
//! The process is started with `DIR PEER NETWORK BATCH THREADS`, loads `DIR/NETWORK...` once and prints one JSON line
//! `{"peer", "version", "error", "load_ms", "peak_rss_mb"}`: `error` is the largest difference from the reference logits,
//! relative to the largest one; the others are the time until the first result and the most memory until then. Then it
//! answers every line on standard input, a number of seconds, by running for about that long and printing
//! `{"median_ms", "min_ms", "runs"}`. Between lines it is idle. It ends with its input.
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
    /// when it was read, before anything was loaded
    pub begin: Instant,
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
            begin: Instant::now(),
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
    let got = run()?;
    let load_ms = case.begin.elapsed().as_secs_f64() * 1e3;
    let (peak_rss_mb, want) = (peak_rss_mb(), case.floats("y")?);
    ensure!(want.len() == got.len(), "{} logits for {}", got.len(), want.len());
    // The largest difference would not tell.
    ensure!(got.iter().all(|v| v.is_finite()), "logits that are not finite");
    let largest = want.iter().fold(0.0f32, |m, v| m.max(v.abs()));
    let error = want.iter().zip(&got).map(|(a, b)| (a - b).abs()).fold(0.0f32, f32::max) / largest;
    let mut out = io::stdout().lock();
    let ready = json!({
        "peer": case.peer,
        "version": version,
        "error": error,
        "load_ms": load_ms,
        "peak_rss_mb": peak_rss_mb,
    });
    writeln!(out, "{ready}")?;
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

/// The most memory this process ever had, where the system tells (Linux).
fn peak_rss_mb() -> Option<f64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024.0 / 1e6)
}
