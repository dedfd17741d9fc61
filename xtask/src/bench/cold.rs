//! `cargo xtask bench cold`: from nothing to the first result, and the memory that takes.

use std::{io::Write, path::PathBuf, thread, time::Instant};

use anyhow::{Context, Result, ensure};
use residual::net::ResNet;
use serde::Serialize;

use super::{
    How, median,
    peers::{Case, OURS, SETTLE, canonical, programs},
};

/// Compare cold starts and peak memory with those of other runtimes
///
/// Every runtime in turn is started, loads a network from its file, computes one result and ends; that some times over.
/// `load` begins when the runtime's libraries are there and ends with the result; `start` is the whole process, for the
/// Python packages with Python. Memory is the most the process had until then, the file it may have mapped included.
#[derive(clap::Args)]
pub struct Args {
    /// Names of this project; cifarN is short for resnetN-cifar
    #[arg(long, value_delimiter = ',', value_name = "A,B", default_values_t = ["resnet50".to_owned()])]
    networks: Vec<String>,
    /// Threads
    #[arg(long, value_delimiter = ',', value_name = "N,N", default_values_t = [1, 2])]
    threads: Vec<usize>,
    /// As for `bench peers`
    #[arg(long, value_delimiter = ',', value_name = "A,B")]
    peers: Vec<String>,
    #[command(flatten)]
    how: How,
    /// Write the rows to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
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
    load_ms: f64,
    start_ms: f64,
    peak_rss_mb: f64,
}

pub fn run(args: &Args) -> Result<()> {
    let (rounds, _) = args.how.times(7, 1.0)?;
    ensure!(args.threads.iter().all(|n| (1..=1024).contains(n)), "threads must be 1 to 1024");
    let setup = args.how.setup()?;
    let programs = programs(&setup, &args.peers, false)?;
    let mut rows = Vec::new();
    for network in &args.networks {
        let spec: ResNet = canonical(network).parse().with_context(|| format!("--networks {network}"))?;
        setup.export(&spec.to_string(), 1, programs.iter().any(|(name, _)| name == "ncnn"))?;
        for &threads in &args.threads {
            let case = Case::new(&setup, spec, 1, threads);
            eprintln!("{spec}, {threads} threads");
            let mut starts: Vec<(Vec<Start>, String)> = programs.iter().map(|_| Default::default()).collect();
            // The first round brings the files into the system's cache.
            for round in 0..=rounds {
                for ((name, words), (starts, version)) in programs.iter().zip(&mut starts) {
                    if round > 0 && version.is_empty() {
                        continue;
                    }
                    let begin = Instant::now();
                    let ready = case.start(name, words).and_then(|mut child| child.ready());
                    let start_ms = begin.elapsed().as_secs_f64() * 1e3;
                    match ready {
                        Err(error) if name == OURS => return Err(error),
                        Err(error) => {
                            eprintln!("skipped: {name}: {error:#}");
                            version.clear();
                        }
                        Ok(ready) => {
                            let nothing = || format!("{name} does not say what its start took");
                            let load_ms = ready.load_ms.with_context(nothing)?;
                            let peak_rss_mb = ready.peak_rss_mb.with_context(nothing)?;
                            *version = ready.version;
                            if round > 0 {
                                starts.push(Start { load_ms, start_ms, peak_rss_mb });
                            }
                        }
                    }
                    thread::sleep(SETTLE);
                }
            }
            for ((peer, _), (starts, version)) in
                programs.iter().zip(starts).filter(|(_, (_, version))| !version.is_empty())
            {
                rows.push(Row {
                    network: spec.to_string(),
                    threads,
                    peer: peer.clone(),
                    version,
                    load_ms: median(starts.iter().map(|start| start.load_ms)),
                    start_ms: median(starts.iter().map(|start| start.start_ms)),
                    peak_rss_mb: starts.iter().map(|start| start.peak_rss_mb).fold(0.0, f64::max),
                    rounds: starts.len(),
                });
            }
        }
    }
    if let Some(path) = &args.json {
        let text = serde_json::to_string_pretty(&rows)? + "\n";
        residual::write_atomic(path, |out| out.write_all(text.as_bytes()))?;
    }
    print!("{}", table(&rows));
    Ok(())
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
