//! `cargo xtask bench train`: training steps of PyTorch and of this project, slice by slice in turn.

use std::{
    env,
    io::{self, BufRead, Write},
    process::Command,
    thread,
    time::Instant,
};

use anyhow::{Context, Result};
use residual::{
    resnet::ResNet,
    timing::{StepOptions, Steps, peak_rss},
};
use serde::Serialize;
use serde_json::json;

use super::{
    How, Slices,
    child::{Child, Ready, Slice},
    counts, given, median,
    peers::{OURS, SETTLE},
    setup::Setup,
};

/// Compare training with PyTorch's: f32, channels last or not, compiled or not
///
/// As `bench peers` does: every runtime is a process that is ready; in every round each takes steps for a short slice
/// while the others are idle. A ratio is PyTorch's median step in a slice divided by ours in the same round; the median
/// over all rounds is printed.
#[derive(clap::Args)]
pub struct Args {
    /// Few short rounds of ResNet-20, nothing compiled
    #[arg(long)]
    quick: bool,
    /// Pictures a step [default: 128 of 32x32, 16 of 224x224]
    #[arg(long, value_name = "N")]
    batch: Option<usize>,
    /// Of pytorch-channels-last, pytorch-contiguous, and both with +compile
    #[arg(long, value_delimiter = ',', value_name = "A,B")]
    peers: Vec<String>,
    #[command(flatten)]
    slices: Slices,
    #[command(flatten)]
    how: How,
}

/// What is trained.
#[derive(clap::Args, Clone, Copy, Serialize)]
pub struct Case {
    #[serde(serialize_with = "name")]
    network: ResNet,
    batch: usize,
    threads: usize,
}

fn name<S: serde::Serializer>(network: &ResNet, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(network)
}

/// One runtime on one case.
#[derive(Serialize)]
struct Row {
    #[serde(flatten)]
    case: Case,
    peer: String,
    version: String,
    step_ms: f64,
    images_per_second: f64,
    /// its step's time divided by ours, round by round; the median of that
    ratio: f64,
    peak_rss_mb: f64,
    rounds: usize,
}

pub fn run(args: &Args) -> Result<()> {
    let all = ["cifar20", "cifar56", "cifar110", "resnet18", "resnet50"];
    let ways =
        ["pytorch-channels-last", "pytorch-contiguous", "pytorch-channels-last+compile", "pytorch-contiguous+compile"];
    let (networks, ways) = if args.quick { (&all[..1], &ways[..2]) } else { (&all[..], &ways[..]) };
    let (networks, peers) = (args.how.networks(networks)?, given(&args.peers, ways));
    let (rounds, slice) = if args.quick { (3, 1.5) } else { (7, 4.0) };
    let (rounds, slice) = (args.how.rounds(rounds), args.slices.seconds(slice)?);
    let threads = args.how.threads()?;
    counts(args.batch.as_slice(), "--batch")?;
    let setup = args.how.setup()?;
    let mut rows: Vec<Row> = Vec::new();
    for network in networks {
        let batch = args.batch.unwrap_or(if network.input().h == 32 { 128 } else { 16 });
        for &threads in threads {
            let case = Case { network, batch, threads };
            rows.extend(case.compare(&setup, &peers, rounds, slice)?);
            args.how.save(&rows)?;
        }
    }
    print!("{}", table(&rows));
    Ok(())
}

impl Case {
    fn compare(self, setup: &Setup, peers: &[String], rounds: usize, slice: f64) -> Result<Vec<Row>> {
        let title = format!("{}, batch {}, {} threads", self.network, self.batch, self.threads);
        eprintln!("{title}");
        let mut runners: Vec<(String, Child, Ready, Vec<Slice>)> = Vec::new();
        for peer in [OURS].into_iter().chain(peers.iter().map(String::as_str)) {
            // One after the other: compiling needs all cores.
            match self.start(setup, peer).and_then(|mut child| Ok((child.ready()?, child))) {
                Ok((ready, child)) => runners.push((peer.to_owned(), child, ready, Vec::new())),
                Err(error) if peer == OURS => return Err(error.context(title)),
                Err(error) => eprintln!("skipped: {peer}: {title}: {error:#}"),
            }
        }
        // Round 0 is a rehearsal.
        for round in 0..=rounds {
            let n = runners.len();
            for i in (0..n).map(|i| (i + round) % n) {
                let (peer, child, _, slices) = &mut runners[i];
                let slice = child.slice(if round == 0 { slice / 4.0 } else { slice }).with_context(|| peer.clone())?;
                if round > 0 {
                    slices.push(slice);
                }
                thread::sleep(SETTLE);
            }
        }
        let ours: Vec<f64> = runners[0].3.iter().map(|slice| slice.median_ms).collect();
        let row = |(peer, _, ready, slices): &(String, Child, Ready, Vec<Slice>)| {
            let step_ms = median(slices.iter().map(|slice| slice.median_ms));
            Row {
                case: self,
                peer: peer.clone(),
                version: ready.version.clone(),
                step_ms,
                images_per_second: self.batch as f64 / step_ms * 1e3,
                ratio: median(slices.iter().zip(&ours).map(|(theirs, ours)| theirs.median_ms / ours)),
                peak_rss_mb: slices.iter().map(|slice| slice.peak_rss_mb).fold(0.0, f64::max),
                rounds: slices.len(),
            }
        };
        Ok(runners.iter().map(row).collect())
    }

    fn start(self, setup: &Setup, peer: &str) -> Result<Child> {
        let mut command = if peer == OURS {
            let mut command = Command::new(env::current_exe().context("cannot find this program's file")?);
            command.args(["bench", "our-steps"]);
            command
        } else {
            let mut command = setup.python("train.py");
            command.arg(peer);
            command
        };
        command.args([self.network.to_string(), self.batch.to_string(), self.threads.to_string()]);
        Child::start(&mut command, &setup.log(peer))
    }
}

/// This project as one of the runtimes timed.
pub fn serve(case: &Case) -> Result<()> {
    let options = StepOptions { batch: case.batch, threads: case.threads, isa: residual::isa()?, winograd: true };
    let mut steps = Steps::new(case.network, &options)?;
    steps.step()?;
    let mut out = io::stdout().lock();
    writeln!(out, "{}", json!({ "peer": OURS, "version": env!("CARGO_PKG_VERSION") }))?;
    out.flush()?;
    for line in io::stdin().lock().lines() {
        let seconds: f64 = line?.trim().parse().context("seconds")?;
        let (mut times, begin) = (Vec::new(), Instant::now());
        while times.is_empty() || begin.elapsed().as_secs_f64() < seconds {
            times.push(steps.step()?.as_secs_f64() * 1e3);
        }
        times.sort_by(f64::total_cmp);
        let (min, median, runs) = (times[0], times[times.len() / 2], times.len());
        let peak_rss_mb = peak_rss().context("the system does not tell the peak memory")? as f64 / 1e6;
        let slice = json!({ "median_ms": median, "min_ms": min, "runs": runs, "peak_rss_mb": peak_rss_mb });
        writeln!(out, "{slice}")?;
        out.flush()?;
    }
    Ok(())
}

/// A row for every case, PyTorch in its fastest way.
fn table(rows: &[Row]) -> String {
    let mut text = String::from(
        "| network, batch | threads | images/s | PyTorch, fastest way | ratio | peak memory, MB | PyTorch's |\n\
         |---|---|---|---|---|---|---|\n",
    );
    let same = |a: &Row, b: &Row| {
        (a.case.network, a.case.batch, a.case.threads) == (b.case.network, b.case.batch, b.case.threads)
    };
    for rows in rows.chunk_by(same) {
        let ours = &rows[0];
        let Case { network, batch, threads } = ours.case;
        let best = rows[1..].iter().min_by(|a, b| a.ratio.total_cmp(&b.ratio));
        let theirs = best.map_or_else(
            || format!("- | - | {:.0} | -", ours.peak_rss_mb),
            |best| {
                let (speed, ratio, memory) = (best.images_per_second, best.ratio, best.peak_rss_mb);
                let way = best.peer.trim_start_matches("pytorch-");
                format!("{speed:.1} ({way}, {}) | **{ratio:.2}** | {:.0} | {memory:.0}", best.version, ours.peak_rss_mb)
            },
        );
        let speed = ours.images_per_second;
        text += &format!("| {network}, {batch} | {threads} | {speed:.1} | {theirs} |\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{Case, Row, table};

    #[test]
    fn the_table_shows_pytorch_in_its_fastest_way() {
        let case = Case { network: "resnet20-cifar".parse().unwrap(), batch: 128, threads: 2 };
        let row = |peer: &str, ratio: f64, peak_rss_mb| Row {
            case,
            peer: peer.into(),
            version: "1".into(),
            step_ms: 100.0 * ratio,
            images_per_second: 1280.0 / ratio,
            ratio,
            peak_rss_mb,
            rounds: 3,
        };
        let rows =
            [row("residual", 1.0, 10.0), row("pytorch-contiguous", 4.0, 30.0), row("pytorch-channels-last", 2.0, 20.0)];
        let want = "| resnet20-cifar, 128 | 2 | 1280.0 | 640.0 (channels-last, 1) | **2.00** | 10 | 20 |\n";
        assert!(table(&rows).ends_with(want), "{}", table(&rows));
        assert!(table(&rows[..1]).ends_with("| resnet20-cifar, 128 | 2 | 1280.0 | - | - | 10 | - |\n"));
    }
}
