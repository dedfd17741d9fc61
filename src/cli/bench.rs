//! `residual bench`: latency of a network, whole and layer by layer, and the other things it measures.

use std::{
    io::Write,
    path::PathBuf,
    time::{Duration, Instant},
};

use residual::{
    Dtype, Elem,
    geom::Shape,
    graph::Net,
    peak::{Arithmetic, gmacs, read_gbs},
    plan::{Options, Plan, Step},
    resnet::fold_batch_norm,
    session::Session,
    testing::Uniform,
};
use serde_json::{Value, json};

use super::{
    args, bench_train, cold, peak,
    plan_file::PlanFile,
    stats::Stats,
    table::{Table, bytes, grouped, sentence},
};

/// Measure latency and GFLOP/s, layers (--profile), training (--train), the cold start (--cold) or the machine (--peak)
///
/// A multiply-add counts as two floating-point operations. Without --weights the weights are generated; they do not
/// change the time.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  residual bench --arch resnet50 --threads 1
  residual bench --arch resnet20-cifar --batch 16 --json
  residual bench --weights resnet50.safetensors --profile
  residual bench --arch resnet50 --plan resnet50.plan.json
  residual bench --peak --threads 1          multiply-adds on registers, reads from memory
  residual bench --train --arch resnet20-cifar --batch 128 --threads 1
  residual bench --arch resnet50 --cold      process start to first result, peak memory, size of the binary")]
pub struct Args {
    #[command(flatten)]
    pub network: args::Network,
    /// Pictures run at once
    #[arg(long, alias = "batch-size", value_name = "N", default_value = "1", value_parser = args::batch)]
    pub batch: usize,
    #[command(flatten)]
    pub threads: args::Threads,
    /// Do without Winograd convolutions
    #[arg(long)]
    pub no_winograd: bool,
    /// Use the kernels of a file that `residual tune` wrote
    #[arg(long, value_name = "FILE", conflicts_with_all = ["cold", "peak"])]
    plan: Option<PathBuf>,
    /// Time to measure for
    #[arg(long, value_name = "S", default_value = "3", value_parser = args::seconds)]
    pub seconds: f64,
    /// A row for each layer: shape, kernel, time, GFLOP/s, share of the peak measured in the same run, and the least time
    /// its kernel's multiply-adds or reading its weights could take
    #[arg(long, conflicts_with = "cold")]
    profile: bool,
    /// Measure training steps from random weights on a random batch
    #[arg(long, conflicts_with_all = ["cold", "profile", "weights"])]
    train: bool,
    /// Measure from the start of a process to its first result
    #[arg(long)]
    cold: bool,
    /// Measure the machine's limits instead of a network
    #[arg(long, conflicts_with_all = ["cold", "profile", "train"])]
    peak: bool,
    /// What --cold starts
    #[arg(long, hide = true)]
    first_result: bool,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Weights of more bytes than this are read from memory in every run.
const CACHED: usize = 32 << 20;

/// Fewest runs to take percentiles of.
const LEAST_RUNS: usize = 5;

pub fn run(args: &Args, out: &mut dyn Write) -> anyhow::Result<()> {
    if args.first_result {
        return cold::first_result(args, out);
    }
    if args.peak {
        return peak::run(args, out);
    }
    if args.cold {
        return cold::run(args, out);
    }
    if args.train {
        return bench_train::run(args, out);
    }
    let options = args::options(args.batch, args.threads.get(), !args.no_winograd)?;
    let (name, mut session, prepare_ms) = prepare(args, &options)?;
    let mut layers = vec![Vec::new(); session.plan().steps().len()];
    let times = match session.plan().input().dtype() {
        Dtype::I8 => {
            let bytes = Uniform::new(1).take(session.plan().input_len()).map(|v| (128.0 * v) as i8);
            measure(args, &mut session, &bytes.collect::<Vec<_>>(), &mut layers)?
        }
        _ => {
            let input = Uniform::new(1).vec(session.plan().input_len());
            measure(args, &mut session, &input, &mut layers)?
        }
    };
    let peaks = if args.profile { Peaks::of(session.plan()) } else { Peaks(Vec::new()) };
    let from_memory = args.profile && 4 * session.plan().packed_len() > CACHED;
    let read = from_memory.then(|| read_gbs(options.isa, options.threads, peak::LOOK));
    let report = Report { name, session: &session, prepare_ms, times: Stats::new(times), peaks, read };
    let layers: Vec<Stats> = layers.into_iter().map(Stats::new).collect();
    if args.json {
        writeln!(out, "{:#}", report.json(args.profile.then_some(&layers)))?;
    } else {
        if args.profile {
            report.profile(&layers).write(out)?;
            report.write_limits(out)?;
        }
        report.write(out)?;
    }
    Ok(())
}

/// The network of the arguments with its name, ready to run, and the milliseconds that took.
pub fn prepare(args: &Args, options: &Options) -> anyhow::Result<(String, Session, f64)> {
    let finish = |mut net: Net<'_>, begin: Instant| -> anyhow::Result<_> {
        if let Some(file) = &args.plan {
            PlanFile::open(file, &net, options)?.apply(&mut net);
        }
        Ok((Session::new(&net, options)?, ms(begin.elapsed())))
    };
    if let Some(model) = args.network.int8()? {
        let (session, prepare_ms) = finish(model.view()?.net()?, Instant::now())?;
        return Ok((model.name(), session, prepare_ms));
    }
    let (spec, weights) = args.network.open()?;
    let weights = args::Source::new(spec, weights);
    let begin = Instant::now();
    let session = fold_batch_norm(&spec, &weights).map_err(anyhow::Error::from).and_then(|net| finish(net, begin));
    let (session, prepare_ms) = session.map_err(|error| weights.explain(error))?;
    Ok((spec.to_string(), session, prepare_ms))
}

/// Milliseconds of every run; of every layer, too, where a profile is asked for.
fn measure<T: Elem>(
    args: &Args,
    session: &mut Session,
    input: &[T],
    layers: &mut [Vec<f64>],
) -> anyhow::Result<Vec<f64>> {
    // The first run touches all memory, the second warms the caches.
    for _ in 0..2 {
        session.run(input)?;
    }
    let mut times = Vec::new();
    let begin = Instant::now();
    while times.len() < LEAST_RUNS || begin.elapsed().as_secs_f64() < args.seconds {
        let start = Instant::now();
        if args.profile {
            layer_times(session, input, layers)?;
        } else {
            session.run(input)?;
        }
        times.push(ms(start.elapsed()));
    }
    Ok(times)
}

/// Runs once and adds the milliseconds of every layer, which may have run in several parts.
pub fn layer_times<T: Elem>(session: &mut Session, input: &[T], layers: &mut [Vec<f64>]) -> anyhow::Result<()> {
    let mut sums = vec![0.0; layers.len()];
    let mut last = Instant::now();
    session.run_with(input, |step, _: &[T]| {
        let now = Instant::now();
        sums[step.index()] += ms(now - last);
        last = now;
    })?;
    layers.iter_mut().zip(sums).for_each(|(times, sum)| times.push(sum));
    Ok(())
}

pub fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Two operations a multiply-add.
fn gflops(macs: u64, ms: f64) -> f64 {
    2.0 * macs as f64 / (ms.max(1e-9) * 1e6)
}

/// GFLOP/s on registers, all threads, of what the kernels of a plan multiply.
struct Peaks(Vec<(Arithmetic, f64)>);

impl Peaks {
    fn of(plan: &Plan) -> Self {
        let (mut peaks, options): (Vec<(Arithmetic, f64)>, _) = (Vec::new(), plan.options());
        for arithmetic in plan.steps().iter().filter_map(Step::arithmetic) {
            if peaks.iter().all(|(known, _)| *known != arithmetic) {
                peaks.push((arithmetic, 2.0 * gmacs(options.isa, arithmetic, options.threads, peak::LOOK)));
            }
        }
        Peaks(peaks)
    }

    fn find(&self, arithmetic: Arithmetic) -> Option<f64> {
        self.0.iter().find_map(|(known, peak)| (*known == arithmetic).then_some(*peak))
    }

    /// Of convolutions that multiply every weight with every input.
    fn direct(&self) -> f64 {
        self.find(Arithmetic::F32).or(self.find(Arithmetic::Int8)).unwrap_or(f64::NAN)
    }
}

/// What was measured.
struct Report<'s> {
    name: String,
    session: &'s Session,
    prepare_ms: f64,
    times: Stats,
    /// measured for a profile only
    peaks: Peaks,
    /// GB/s from memory, all threads; measured for a profile of a network whose weights do not stay in caches
    read: Option<f64>,
}

impl Report<'_> {
    fn macs(&self) -> u64 {
        self.session.plan().graph().macs() * self.session.plan().options().batch as u64
    }

    /// Milliseconds a convolution's multiply-adds and weights take at least.
    fn limit(&self, step: &Step) -> Option<f64> {
        let peak = self.peaks.find(step.arithmetic()?)?;
        let products = step.products() * self.session.plan().options().batch as u64;
        let reading = self.read.map_or(0.0, |read| 4.0 * step.packed_len() as f64 / (read * 1e6));
        Some((2.0 * products as f64 / (peak * 1e6)).max(reading))
    }

    fn json(&self, layers: Option<&Vec<Stats>>) -> Value {
        let (plan, times) = (self.session.plan(), &self.times);
        let options = plan.options();
        let mut object = json!({
            "arch": self.name,
            "dtype": plan.input().dtype().name(),
            "batch": options.batch,
            "threads": options.threads,
            "isa": options.isa.name(),
            "runs": times.len(),
            "median_ms": times.median(),
            "min_ms": times.min(),
            "p90_ms": times.percentile(90.0),
            "p99_ms": times.percentile(99.0),
            "gflops": gflops(self.macs(), times.median()),
            "images_per_second": options.batch as f64 * 1e3 / times.median().max(1e-9),
            "prepare_ms": self.prepare_ms,
            "arena_bytes": 4 * plan.arena_len(),
            "packed_bytes": 4 * plan.packed_len(),
            "scratch_bytes": 4 * plan.scratch_len() * options.threads,
        });
        if let Some(layers) = layers {
            let rows = plan.steps().iter().zip(layers).map(|(step, times)| {
                let gflops = gflops(step.macs() * options.batch as u64, times.median());
                json!({
                    "name": step.name.as_str(),
                    "shape": shape(step),
                    "kernel": step.kernel_name().as_str(),
                    "ms": times.median(),
                    "gflops": gflops,
                    "share_of_time": times.median() / self.times.median().max(1e-9),
                    "share_of_peak": gflops / self.peaks.direct(),
                    "limit_ms": self.limit(step),
                })
            });
            object["layers"] = rows.collect();
            object["peak_gflops"] = json!(self.peaks.direct());
            object["read_gbs"] = json!(self.read);
        }
        object
    }

    /// A row for each layer.
    fn profile(&self, layers: &[Stats]) -> Table {
        let plan = self.session.plan();
        let header = ["layer", "shape", "kernel", "ms", "% of time", "GFLOP/s", "% of peak", "limit", "% of it"];
        let mut table = Table::new(&header).leave_out(&["shape", "GFLOP/s", "% of peak", "limit", "kernel"]);
        for (step, times) in plan.steps().iter().zip(layers) {
            let ms = times.median();
            let (speed, share) = match step.macs() * plan.options().batch as u64 {
                0 => ("-".to_owned(), "-".to_owned()),
                macs => {
                    let gflops = gflops(macs, ms);
                    (format!("{gflops:.1}"), format!("{:.0}", 100.0 * gflops / self.peaks.direct()))
                }
            };
            let of_time = format!("{:.1}", 100.0 * ms / self.times.median().max(1e-9));
            let (limit, reached) = match self.limit(step) {
                None => ("-".to_owned(), "-".to_owned()),
                Some(limit) => (format!("{limit:.3}"), format!("{:.0}", 100.0 * limit / ms.max(1e-9))),
            };
            let (shape, kernel, ms) = (shape(step), step.kernel_name(), format!("{ms:.3}"));
            table.row(&[&step.name, &shape, &kernel, &ms, &of_time, &speed, &share, &limit, &reached]);
        }
        table
    }

    /// What the profile's last columns mean.
    fn write_limits(&self, out: &mut dyn Write) -> anyhow::Result<()> {
        let plan = self.session.plan();
        let peaks = self.peaks.0.iter().map(|(arithmetic, peak)| {
            let unit = if *arithmetic == Arithmetic::F32 { "GFLOP/s" } else { "GOP/s" };
            format!("{peak:.1} {unit} of {}", arithmetic.name())
        });
        let (peaks, threads) = (peaks.collect::<Vec<_>>().join(", "), plan.options().threads);
        writeln!(out)?;
        sentence(out, &format!("peak {peaks}: multiply-adds on registers, {threads} threads"))?;
        let or_weights = match self.read {
            Some(read) => format!(", or its weights from memory at {read:.1} GB/s, if that takes longer"),
            None => String::new(),
        };
        sentence(out, &format!("limit: the kernel's multiply-adds at the peak{or_weights}; in ms"))?;
        let limit: f64 = plan.steps().iter().filter_map(|step| self.limit(step)).sum();
        let reached = 100.0 * limit / self.times.median().max(1e-9);
        writeln!(out, "all limits together {limit:.3} ms, {reached:.0} % of the time measured\n")?;
        Ok(())
    }

    fn write(&self, out: &mut dyn Write) -> anyhow::Result<()> {
        let (plan, times) = (self.session.plan(), &self.times);
        let options = plan.options();
        let Shape { h, w, c } = plan.input().shape;
        let (name, dtype) = (&self.name, plan.input().dtype());
        let (batch, threads, isa) = (options.batch, options.threads, options.isa);
        sentence(out, &format!("{name} in {dtype}: batch {batch} of {h}x{w}x{c}, {threads} threads, {isa}"))?;
        writeln!(
            out,
            "median {:.3} ms, min {:.3}, p90 {:.3}, p99 {:.3} ({} runs)",
            times.median(),
            times.min(),
            times.percentile(90.0),
            times.percentile(99.0),
            times.len()
        )?;
        let text = format!(
            "{:.1} GFLOP/s, {:.1} pictures/s, {} multiply-adds a run",
            gflops(self.macs(), times.median()),
            batch as f64 * 1e3 / times.median().max(1e-9),
            grouped(self.macs())
        );
        sentence(out, &text)?;
        writeln!(
            out,
            "arena {}, packed weights {}, prepared in {:.0} ms",
            bytes(4 * plan.arena_len() as u64),
            bytes(4 * plan.packed_len() as u64),
            self.prepare_ms
        )?;
        Ok(())
    }
}

/// `56x56x64 3x3/1 56x56x64`, or the output alone of a pass.
fn shape(step: &Step) -> String {
    match step.conv() {
        Some(g) => format!("{} {}x{}/{} {}", g.input, g.kernel, g.kernel, g.stride, step.output_shape()),
        None => step.output_shape().to_string(),
    }
}
