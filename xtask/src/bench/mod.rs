//! `cargo xtask bench`: this project's networks beside other runtimes, in one run.

mod child;
mod cold;
mod ours;
mod peers;
mod plot;
mod report;
mod setup;
mod train;

use std::{env, io::Write, path::PathBuf, process::Command};

use anyhow::{Context, ensure};
pub use ours::nhwc;
use residual::resnet::ResNet;
use serde::Serialize;

#[derive(clap::Subcommand)]
pub enum BenchCommand {
    /// Time other runtimes and this project in turn, slice by slice; print how many times longer each takes
    Peers(peers::Args),
    /// Time the way from nothing to the first result, and the memory it takes, for all in turn
    Cold(cold::Args),
    /// Time training steps of PyTorch and this project in turn; print how many times faster ours are
    Train(train::Args),
    /// Be timed: the process that `peers` starts for this project
    #[command(hide = true)]
    Ours(ours::Args),
    /// Be timed: the process that `train` starts for this project
    #[command(hide = true)]
    OurSteps(train::Case),
}

/// What is timed, how often, and where what it needs lies.
#[derive(clap::Args)]
struct How {
    /// Names of this project; cifarN is short for resnetN-cifar
    #[arg(long, value_delimiter = ',', value_name = "A,B")]
    networks: Vec<String>,
    /// Threads
    #[arg(long, value_delimiter = ',', value_name = "N,N", default_values_t = [1, 2])]
    threads: Vec<usize>,
    /// Most rounds for each network, batch and number of threads
    #[arg(long, value_name = "N")]
    rounds: Option<usize>,
    /// Where everything needed is kept [default: $RESIDUAL_PEERS_CACHE or target/peers]
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,
    /// An interpreter that has the packages of xtask/peers already [default: $RESIDUAL_PEERS_PYTHON or one made here]
    #[arg(long, value_name = "FILE")]
    python: Option<PathBuf>,
    /// Write the rows to this file; `peers` puts a plot beside it
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

impl How {
    /// The networks asked for, or these.
    fn networks(&self, default: &[&str]) -> anyhow::Result<Vec<ResNet>> {
        let parse = |name: String| {
            let full = name.strip_prefix("cifar").map(|depth| format!("resnet{depth}-cifar"));
            full.as_deref().unwrap_or(&name).parse().with_context(|| format!("--networks {name}"))
        };
        given(&self.networks, default).into_iter().map(parse).collect()
    }

    /// The numbers of threads asked for.
    fn threads(&self) -> anyhow::Result<&[usize]> {
        counts(&self.threads, "--threads")
    }

    /// Rounds, where nothing is given so many.
    fn rounds(&self, default: usize) -> usize {
        self.rounds.unwrap_or(default).max(1)
    }

    /// Writes what was measured so far: whoever interrupts a long run keeps it.
    fn save(&self, rows: &[impl Serialize]) -> anyhow::Result<()> {
        let Some(path) = &self.json else { return Ok(()) };
        let text = serde_json::to_string_pretty(rows)? + "\n";
        residual::write_atomic(path, |out| out.write_all(text.as_bytes()))?;
        Ok(())
    }

    fn setup(&self) -> anyhow::Result<setup::Setup> {
        setup::Setup::new(self.cache.as_deref(), self.python.as_deref())
    }
}

/// How long a runtime runs while the others are idle.
#[derive(clap::Args)]
struct Slices {
    /// Seconds of a slice
    #[arg(long, value_name = "S")]
    slice: Option<f64>,
}

impl Slices {
    /// Seconds, where nothing is given these.
    fn seconds(&self, default: f64) -> anyhow::Result<f64> {
        let slice = self.slice.unwrap_or(default);
        ensure!(slice > 0.0 && slice < 3600.0, "--slice {slice}: must be above 0");
        Ok(slice)
    }
}

/// The names given, or these.
fn given(names: &[String], default: &[&str]) -> Vec<String> {
    if names.is_empty() { default.iter().map(ToString::to_string).collect() } else { names.to_vec() }
}

/// Numbers of pictures or threads that can be meant.
fn counts<'n>(numbers: &'n [usize], option: &str) -> anyhow::Result<&'n [usize]> {
    ensure!(numbers.iter().all(|n| (1..=1024).contains(n)), "{option}: from 1 to 1024, please");
    Ok(numbers)
}

pub fn run(command: BenchCommand) -> anyhow::Result<()> {
    if cfg!(debug_assertions) {
        return run_in_release();
    }
    match command {
        BenchCommand::Peers(args) => peers::run(&args),
        BenchCommand::Cold(args) => cold::run(&args),
        BenchCommand::Train(args) => train::run(&args),
        BenchCommand::Ours(args) => ours::run(&args),
        BenchCommand::OurSteps(case) => train::serve(&case),
    }
}

/// Runs the same command as users' programs are built.
fn run_in_release() -> anyhow::Result<()> {
    let mut command = Command::new(env!("CARGO"));
    command.args(["run", "--release", "--quiet", "--package", "xtask", "--"]).args(env::args_os().skip(1));
    let status = command.status().context("cannot start cargo")?;
    ensure!(status.success(), "the timing run failed");
    Ok(())
}

/// The middle value, or the mean of the middle two; `NaN` without values.
fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => values[n / 2],
        n => (values[n / 2 - 1] + values[n / 2]) / 2.0,
    }
}

#[cfg(test)]
mod tests {
    use super::median;

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!((median([3.0, 1.0, 2.0]), median([4.0, 1.0, 2.0, 3.0])), (2.0, 2.5));
        assert!(median([]).is_nan());
    }
}
