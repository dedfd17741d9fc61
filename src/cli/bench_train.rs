//! `residual bench --train`: images a second of training steps.

use std::{io::Write, time::Duration};

use residual::timing::{StepOptions, peak_rss, steps};
use serde_json::json;

use super::{
    bench::{Args, ms},
    stats::Stats,
    table::bytes,
    wrong_usage,
};

/// Trains on one random batch: forward, backward and the update of SGD with momentum.
pub fn run(args: &Args, out: &mut dyn Write) -> anyhow::Result<()> {
    let arch =
        args.network.named()?.ok_or_else(|| wrong_usage("--train needs --arch NAME: it begins with random weights"))?;
    let isa = residual::isa()?;
    let options = StepOptions { batch: args.batch, threads: args.threads.get(), isa, winograd: true };
    let times = steps(arch, &options, Duration::from_secs_f64(args.seconds))?;
    let stats = Stats::new(times.times.iter().map(|&t| ms(t)).collect());
    let rate = times.images_per_second();
    let rss = peak_rss();
    if args.json {
        let object = json!({
            "arch": arch.to_string(),
            "batch": options.batch,
            "threads": options.threads,
            "isa": isa.name(),
            "steps": stats.len(),
            "step_ms": stats.median(),
            "min_ms": stats.min(),
            "images_per_second": rate,
            "gflops": 6.0 * arch.macs() as f64 * rate / 1e9,
            "peak_rss_bytes": rss,
        });
        writeln!(out, "{object:#}")?;
        return Ok(());
    }
    writeln!(out, "{arch}: training, batch {}, {} threads, {isa}", options.batch, options.threads)?;
    writeln!(out, "median step {:.1} ms, min {:.1} ({} steps)", stats.median(), stats.min(), stats.len())?;
    let memory = rss.map_or_else(|| "unknown".to_owned(), bytes);
    writeln!(out, "{rate:.1} images/s, peak memory {memory}")?;
    Ok(())
}
