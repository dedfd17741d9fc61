//! `residual bench --cold`: from the start of a process to its first result.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{anyhow, ensure};
use residual::{
    Dtype,
    testing::Generated,
    weights::{Tensor, Weights},
    weights::{describe, save},
};
use serde_json::{Value, json};

use super::{
    args,
    bench::{Args, ms, prepare},
    stats::Stats,
    table::bytes,
};

/// Processes to start.
const STARTS: usize = 7;

/// Starts this program several times and waits for its first result: loading the weights file, planning and packing
/// included. Generated weights are written to a temporary file first, so that reading them is measured and making
/// them is not.
pub fn run(args: &Args, out: &mut dyn Write) -> anyhow::Result<()> {
    let folder = tempfile::tempdir().map_err(|error| anyhow!("cannot make a temporary folder: {error}"))?;
    let generated = folder.path().join("generated.safetensors");
    let name = match args.network.int8()? {
        Some(model) => model.name(),
        None => {
            let (spec, file) = args.network.open()?;
            if file.is_none() {
                let weights = Generated::new(spec);
                let tensors = weights.names().filter_map(|name| Some((name, weights.tensor(name)?)));
                save(&generated, tensors.collect::<Vec<(&str, Tensor<'_>)>>(), &describe(&spec, None))?;
            }
            spec.to_string()
        }
    };
    let weights = args.network.weights.as_ref().unwrap_or(&generated);

    let program = std::env::current_exe().map_err(|error| anyhow!("cannot find this program's file: {error}"))?;
    let mut starts = (0..STARTS).map(|_| start(&program, weights, args)).collect::<anyhow::Result<Vec<_>>>()?;
    starts.sort_by(|a, b| a.0.total_cmp(&b.0));
    let rss = starts.iter().filter_map(|(_, report)| report["peak_rss_bytes"].as_u64()).max();
    let report = &starts[STARTS / 2].1;
    let times = Stats::new(starts.iter().map(|(ms, _)| *ms).collect());
    let binary = fs::metadata(&program).map(|m| m.len()).unwrap_or_default();
    let file = fs::metadata(weights).map(|m| m.len()).unwrap_or_default();
    if args.json {
        let object = json!({
            "arch": name,
            "dtype": report["dtype"],
            "batch": args.batch,
            "threads": args.threads.get(),
            "isa": report["isa"],
            "cold_start_ms": times.median(),
            "cold_start_min_ms": times.min(),
            "starts": times.len(),
            "arena_bytes": report["arena_bytes"],
            "packed_bytes": report["packed_bytes"],
            "peak_rss_bytes": rss,
            "binary_bytes": binary,
            "weights_bytes": file,
        });
        writeln!(out, "{object:#}")?;
        return Ok(());
    }
    let field = |key: &str| report[key].as_u64().map_or_else(|| "unknown".to_owned(), bytes);
    writeln!(out, "{name}: batch {}, {} threads", args.batch, args.threads.get())?;
    let (median, min) = (times.median(), times.min());
    writeln!(out, "cold start    {median:.0} ms (min {min:.0}, {STARTS} starts), process start to first result")?;
    writeln!(out, "peak memory   {}, with a weights file of {}", field_or(rss), bytes(file))?;
    writeln!(out, "arena         {}", field("arena_bytes"))?;
    writeln!(out, "packed        {}", field("packed_bytes"))?;
    writeln!(out, "binary        {}", bytes(binary))?;
    Ok(())
}

fn field_or(rss: Option<u64>) -> String {
    rss.map_or_else(|| "unknown".to_owned(), bytes)
}

/// Milliseconds until the first result, and what the process said about itself.
fn start(program: &Path, weights: &Path, args: &Args) -> anyhow::Result<(f64, Value)> {
    let mut command = Command::new(program);
    command.args(["bench", "--first-result", "--batch", &args.batch.to_string()]);
    command.args(["--threads", &args.threads.get().to_string()]).arg("--weights").arg(weights);
    command.args(args.no_winograd.then_some("--no-winograd"));
    // Generated weights say what they are.
    if let (Some(arch), Some(_)) = (&args.network.arch, &args.network.weights) {
        command.args(["--arch", &arch.to_string()]);
    }
    if let Some(input) = &args.network.input {
        command.args(["--input", &input.size.to_string()]);
    }
    let begin = Instant::now();
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| anyhow!("cannot start {}: {error}", program.display()))?;
    let mut line = String::new();
    if let Some(stdout) = child.stdout.take() {
        BufReader::new(stdout).read_line(&mut line)?;
    }
    let time = ms(begin.elapsed());
    let status = child.wait()?;
    ensure!(status.success(), "a process started to be measured ended with {status}");
    Ok((time, serde_json::from_str(&line).map_err(|error| anyhow!("a process reported nothing usable: {error}"))?))
}

/// The process that is measured: loads the weights, runs once, reports in one line.
pub fn first_result(args: &Args, out: &mut dyn Write) -> anyhow::Result<()> {
    ensure!(args.network.weights.is_some(), "--first-result needs --weights");
    let options = args::options(args.batch, args.threads.get(), !args.no_winograd)?;
    let (_, mut session, _) = prepare(args, &options)?;
    let len = session.plan().input_len();
    match session.plan().input().dtype() {
        Dtype::I8 => drop(session.run(&vec![0i8; len])?),
        _ => drop(session.run(&vec![0.5f32; len])?),
    }
    let plan = session.plan();
    let report = json!({
        "dtype": plan.input().dtype().name(),
        "isa": plan.options().isa.name(),
        "arena_bytes": 4 * plan.arena_len(),
        "packed_bytes": 4 * plan.packed_len(),
        "peak_rss_bytes": residual::timing::peak_rss(),
    });
    writeln!(out, "{report}")?;
    Ok(())
}
