//! `cargo xtask bench`: this project's networks beside other runtimes, in one run.

mod child;
mod cold;
mod ours;
mod peers;
mod plot;
mod report;
mod setup;
mod train;

use std::{env, path::PathBuf, process::Command};

use anyhow::{Context, ensure};
pub use ours::nhwc;

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

/// How the runtimes are timed, and where what they need lies.
#[derive(clap::Args)]
struct How {
    /// Most rounds for each network, batch and number of threads
    #[arg(long, value_name = "N")]
    rounds: Option<usize>,
    /// Seconds of a slice
    #[arg(long, value_name = "S")]
    slice: Option<f64>,
    /// Where everything needed is kept [default: $RESIDUAL_PEERS_CACHE or target/peers]
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,
    /// An interpreter that has the packages of xtask/peers already [default: $RESIDUAL_PEERS_PYTHON or one made here]
    #[arg(long, value_name = "FILE")]
    python: Option<PathBuf>,
}

impl How {
    /// Rounds and seconds, where nothing is given these.
    fn times(&self, rounds: usize, slice: f64) -> anyhow::Result<(usize, f64)> {
        let slice = self.slice.unwrap_or(slice);
        ensure!(slice > 0.0 && slice < 3600.0, "--slice {slice}: must be above 0");
        Ok((self.rounds.unwrap_or(rounds).max(1), slice))
    }

    fn setup(&self) -> anyhow::Result<setup::Setup> {
        setup::Setup::new(self.cache.as_deref(), self.python.as_deref())
    }
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
