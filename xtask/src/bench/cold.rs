//! `cargo xtask bench cold`: from nothing to the first result, and the memory that takes.

use std::{ffi::OsString, thread, time::Instant};

use anyhow::{Context, Result};
use serde::Serialize;

use super::{
    How, median,
    peers::{Case, Dtype, OURS, SETTLE, programs},
};

/// Compare cold starts and peak memory with those of other runtimes
///
/// Every runtime in turn is started, loads a network from its file, computes one result and ends; that some times over.
/// `load` begins when the runtime's libraries are there and ends with the result; `start` is the whole process, for the
/// Python packages with Python. Memory is the most the process had until then, the file it may have mapped included.
#[derive(clap::Args)]
pub struct Args {
    /// As for `bench peers`
    #[arg(long, value_delimiter = ',', value_name = "A,B")]
    peers: Vec<String>,
    #[command(flatten)]
    how: How,
}

/// One runtime on one network and number of threads.
#[derive(Serialize)]
struct Row {
    network: String,
    threads: usize,
    peer: String,
    version: String,
    load_ms: f64,
    start_ms: f64,
    peak_rss_mb: f64,
    rounds: usize,
}

/// What one start took.
struct Start {
    version: String,
    load_ms: f64,
    start_ms: f64,
    peak_rss_mb: f64,
}

impl Start {
    fn measure(case: &Case<'_>, name: &str, words: &[OsString]) -> Result<Start> {
        let begin = Instant::now();
        let ready = case.start(name, words)?.ready()?;
        let start_ms = begin.elapsed().as_secs_f64() * 1e3;
        let nothing = "it does not say what its start took";
        let (load_ms, peak_rss_mb) = (ready.load_ms.context(nothing)?, ready.peak_rss_mb.context(nothing)?);
        Ok(Start { version: ready.version, load_ms, start_ms, peak_rss_mb })
    }
}

pub fn run(args: &Args) -> Result<()> {
    let (rounds, networks, threads) = (args.how.rounds(7), args.how.networks(&["resnet50"])?, args.how.threads()?);
    let setup = args.how.setup()?;
    let programs = programs(&setup, &args.peers, Dtype::F32, false)?;
    let mut rows = Vec::new();
    for spec in networks {
        let has = |peer| programs.iter().any(|(name, _)| name == peer);
        setup.export(&spec.to_string(), 1, has("ncnn"), has("mnn"))?;
        for &threads in threads {
            eprintln!("{spec}, {threads} threads");
            for (peer, starts) in starts(&Case::new(&setup, spec, 1, threads), &programs, rounds)? {
                let of = |value: fn(&Start) -> f64| starts.iter().map(value);
                rows.push(Row {
                    network: spec.to_string(),
                    threads,
                    peer: peer.to_owned(),
                    version: starts[0].version.clone(),
                    load_ms: median(of(|start| start.load_ms)),
                    start_ms: median(of(|start| start.start_ms)),
                    peak_rss_mb: of(|start| start.peak_rss_mb).fold(0.0, f64::max),
                    rounds: starts.len(),
                });
            }
            args.how.save(&rows)?;
        }
    }
    print!("{}", table(&rows));
    Ok(())
}

/// Starts every runtime in turn, `rounds` times; those that fail are left out.
fn starts<'p>(
    case: &Case<'_>,
    programs: &'p [(String, Vec<OsString>)],
    rounds: usize,
) -> Result<Vec<(&'p str, Vec<Start>)>> {
    let mut runners: Vec<_> = programs.iter().map(|(name, words)| (name.as_str(), words, Vec::new())).collect();
    // The first round brings the files into the system's cache.
    for round in 0..=rounds {
        let mut failed = None;
        runners.retain_mut(|(name, words, starts)| {
            let start = Start::measure(case, name, words);
            thread::sleep(SETTLE);
            match start {
                Ok(start) if round > 0 => starts.push(start),
                Ok(_) => {}
                Err(error) if *name == OURS => failed = Some(error),
                Err(error) => {
                    eprintln!("skipped: {name}: {error:#}");
                    return false;
                }
            }
            true
        });
        if let Some(error) = failed {
            return Err(error);
        }
    }
    Ok(runners.into_iter().map(|(name, _, starts)| (name, starts)).collect())
}

fn table(rows: &[Row]) -> String {
    let mut text = String::from(
        "| network, batch 1 | threads | runtime | load to first result, ms | whole process, ms | peak memory, MB |\n\
         |---|---|---|---|---|---|\n",
    );
    for Row { network, threads, peer, version, load_ms, start_ms, peak_rss_mb, .. } in rows {
        text += &format!(
            "| {network} | {threads} | {peer} {version} | {load_ms:.0} | {start_ms:.0} | {peak_rss_mb:.0} |\n"
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{Row, table};

    #[test]
    fn the_table_has_a_line_for_every_runtime() {
        let row = Row {
            network: "resnet50".into(),
            threads: 2,
            peer: "onnxruntime".into(),
            version: "1.2".into(),
            load_ms: 250.4,
            start_ms: 400.0,
            peak_rss_mb: 300.0,
            rounds: 3,
        };
        assert!(table(&[row]).ends_with("| resnet50 | 2 | onnxruntime 1.2 | 250 | 400 | 300 |\n"));
    }
}
