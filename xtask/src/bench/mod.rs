//! `cargo xtask bench`: this project's networks beside other runtimes, in one run.

mod child;
mod ours;
mod peers;
mod plot;
mod report;
mod setup;
mod train;

use std::{env, process::Command};

use anyhow::{Context, ensure};
pub use ours::nhwc;

#[derive(clap::Subcommand)]
pub enum BenchCommand {
    /// Time other runtimes and this project in turn, slice by slice; print how many times longer each takes
    Peers(peers::Args),
    /// Time training steps of PyTorch and this project in turn; print how many times faster ours are
    Train(train::Args),
    /// Be timed: the process that `peers` starts for this project
    #[command(hide = true)]
    Ours(ours::Args),
    /// Be timed: the process that `train` starts for this project
    #[command(hide = true)]
    OurSteps(train::Case),
}

pub fn run(command: BenchCommand) -> anyhow::Result<()> {
    if cfg!(debug_assertions) {
        return run_in_release();
    }
    match command {
        BenchCommand::Peers(args) => peers::run(&args),
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
