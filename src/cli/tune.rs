//! `residual tune`: the fastest kernel of every layer, measured on this machine.

use std::{io::Write, path::PathBuf, time::Instant};

use residual::{
    geom::Window,
    graph::Net,
    plan::{Options, Plan},
    resnet::{ResNet, fold_batch_norm},
    session::Session,
    testing::Uniform,
};
use serde_json::json;

use super::{
    args,
    bench::{layer_times, ms},
    plan_file::PlanFile,
    stats::Stats,
    table::{Table, sentence},
};

/// Time every kernel on every layer of a network on this machine, and save the fastest as a plan
///
/// Without it, planning chooses by a model of the machine. Layers are timed inside runs of the whole network, so that
/// caches are as they will be. `bench`, `predict` and `eval` take the file with --plan. Tune on an idle machine.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  residual tune --arch resnet50 --threads 1 -o resnet50.plan.json
  residual tune --weights resnet50.safetensors --batch 16 --seconds 60 -o batch16.plan.json")]
pub struct Args {
    #[command(flatten)]
    network: args::Network,
    /// Pictures run at once
    #[arg(long, alias = "batch-size", value_name = "N", default_value = "1", value_parser = args::batch)]
    batch: usize,
    #[command(flatten)]
    threads: args::Threads,
    /// Do without Winograd convolutions
    #[arg(long)]
    no_winograd: bool,
    /// Time to measure for
    #[arg(long, value_name = "S", default_value = "10", value_parser = args::seconds)]
    seconds: f64,
    /// The file to write
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Fewest rounds, however long they take.
const LEAST_ROUNDS: usize = 5;

/// A kernel must beat the planner's choice by this factor: less is noise.
const MARGIN: f64 = 0.97;

/// Layers of one shape, which get one kernel, and what was measured for each kernel.
struct Group {
    window: Window,
    /// numbers of steps
    steps: Vec<usize>,
    /// the planner's choice first
    kernels: Vec<String>,
    /// milliseconds of all its layers, one for each kernel
    ms: Vec<f64>,
    chosen: usize,
}

pub fn run(args: &Args, out: &mut dyn Write) -> anyhow::Result<()> {
    let (spec, weights) = args.network.open()?;
    let weights = args::Source::new(spec, weights);
    tune(args, &spec, &weights, out).map_err(|error| weights.explain(error))
}

fn tune(args: &Args, spec: &ResNet, weights: &args::Source, out: &mut dyn Write) -> anyhow::Result<()> {
    let options = args::options(args.batch, args.threads.get(), !args.no_winograd)?;
    let net = fold_batch_norm(spec, weights)?;
    let plan = Plan::new(&net, &options)?;
    let input = Uniform::new(1).vec(plan.input_len());
    let names: Vec<String> = plan.steps().iter().map(|step| step.name.to_string()).collect();

    let mut groups = groups(&plan);
    time_candidates(&net, &options, &input, args.seconds * 0.8, &names, &mut groups)?;
    for group in &mut groups {
        let best = (0..group.ms.len()).min_by(|&a, &b| group.ms[a].total_cmp(&group.ms[b])).unwrap_or_default();
        group.chosen = if group.ms[best] < MARGIN * group.ms[0] { best } else { 0 };
    }
    let with = |choose: &dyn Fn(&Group) -> usize| prefer(&net, &names, &groups, choose);
    let tuned = with(&|group| group.chosen);
    let mut sessions = [Session::new(&net, &options)?, Session::new(&tuned, &options)?];
    let times = compare(&mut sessions, &input, args.seconds * 0.2)?;
    // Layers that are faster each can make a slower network: one's weights push another's out of a cache.
    let helps = times[1] < times[0];
    if !helps {
        groups.iter_mut().for_each(|group| group.chosen = 0);
    }

    let kernels = names.iter().enumerate().filter_map(|(step, name)| {
        let group = groups.iter().find(|group| group.steps.contains(&step))?;
        Some((name.clone(), group.kernels[group.chosen].clone()))
    });
    PlanFile { kernels: kernels.collect() }.write(&args.output, plan.graph(), &options)?;
    let (planned_ms, tuned_ms) = (times[0], if helps { times[1] } else { times[0] });
    if args.json {
        let shapes = groups.iter().map(|group| {
            let candidates = group.kernels.iter().zip(&group.ms);
            json!({
                "layers": group.steps.iter().map(|&step| &names[step]).collect::<Vec<_>>(),
                "shape": group.window.to_string(),
                "planned": group.kernels[0],
                "kernel": group.kernels[group.chosen],
                "candidates": candidates.map(|(name, ms)| json!({ "kernel": name, "ms": ms })).collect::<Vec<_>>(),
            })
        });
        let object = json!({
            "arch": spec.to_string(), "batch": options.batch, "threads": options.threads, "isa": options.isa.name(),
            "planned_ms": planned_ms, "tuned_ms": tuned_ms, "shapes": shapes.collect::<Vec<_>>(),
        });
        writeln!(out, "{object:#}")?;
        return Ok(());
    }
    let header = ["shape", "layers", "planned", "ms", "fastest", "ms tuned"];
    let mut table = Table::new(&header).leave_out(&["layers", "planned"]);
    for Group { window, steps, kernels, ms, chosen } in &groups {
        let (planned, best) = (format!("{:.3}", ms[0]), format!("{:.3}", ms[*chosen]));
        let fastest = if *chosen == 0 { "the same" } else { &kernels[*chosen] };
        table.row(&[window, &steps.len(), &kernels[0], &planned, &fastest, &best]);
    }
    table.write(out)?;
    writeln!(out)?;
    let file = residual::printable(&args.output.to_string_lossy());
    Ok(sentence(out, &format!("{spec}: {planned_ms:.3} ms as planned, {tuned_ms:.3} ms tuned, {file}"))?)
}

/// Convolutions of one shape together, in order of their first.
fn groups(plan: &Plan) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for (i, step) in plan.steps().iter().enumerate() {
        let Some(window) = step.conv() else { continue };
        if let Some(group) = groups.iter_mut().find(|group| group.window == window) {
            group.steps.push(i);
            continue;
        }
        let planned = step.kernel_name();
        let others =
            Plan::candidates(&plan.graph().ops()[i], plan.options()).into_iter().filter(|name| *name != planned);
        let kernels = std::iter::once(planned).chain(others).map(|name| name.to_string()).collect();
        groups.push(Group { window, steps: vec![i], kernels, ms: Vec::new(), chosen: 0 });
    }
    groups
}

/// The network with a kernel of every group.
fn prefer<'w>(net: &Net<'w>, names: &[String], groups: &[Group], choose: &dyn Fn(&Group) -> usize) -> Net<'w> {
    let mut net = net.clone();
    for group in groups {
        for &step in &group.steps {
            net.prefer(&names[step], &group.kernels[choose(group)]);
        }
    }
    net
}

/// Runs of the network in turn, each with another candidate of every layer.
fn time_candidates(
    net: &Net<'_>,
    options: &Options,
    input: &[f32],
    seconds: f64,
    names: &[String],
    groups: &mut [Group],
) -> anyhow::Result<()> {
    let variants = groups.iter().map(|group| group.kernels.len()).max().unwrap_or(1);
    let candidate = |variant: usize| move |group: &Group| if variant < group.kernels.len() { variant } else { 0 };
    let sessions = (0..variants).map(|v| Session::new(&prefer(net, names, groups, &candidate(v)), options));
    let mut sessions = sessions.collect::<Result<Vec<_>, _>>()?;
    let mut times = vec![vec![Vec::new(); names.len()]; variants];
    let begin = Instant::now();
    let mut rounds = 0;
    while rounds < LEAST_ROUNDS || begin.elapsed().as_secs_f64() < seconds {
        for (session, times) in sessions.iter_mut().zip(&mut times) {
            // The one before left the caches full of its own.
            session.run(input)?;
            layer_times(session, input, times)?;
        }
        rounds += 1;
    }
    let median = |times: &Vec<f64>| Stats::new(times.clone()).median();
    for group in groups {
        let sum = |variant: usize| group.steps.iter().map(|&step| median(&times[variant][step])).sum();
        group.ms = (0..group.kernels.len()).map(sum).collect();
    }
    Ok(())
}

/// Median milliseconds of two networks run in turn.
fn compare(sessions: &mut [Session; 2], input: &[f32], seconds: f64) -> anyhow::Result<[f64; 2]> {
    let mut times = [Vec::new(), Vec::new()];
    let begin = Instant::now();
    while times[1].len() < LEAST_ROUNDS || begin.elapsed().as_secs_f64() < seconds {
        for (session, times) in sessions.iter_mut().zip(&mut times) {
            session.run(input)?;
            let start = Instant::now();
            session.run(input)?;
            times.push(ms(start.elapsed()));
        }
    }
    Ok(times.map(|times| Stats::new(times).median()))
}
