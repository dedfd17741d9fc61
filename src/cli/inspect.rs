//! `residual inspect`: what a network is made of and how it will be run.

mod quantized;

use std::{collections::BTreeMap, io::Write};

use residual::{
    plan::{Plan, Step},
    resnet::{self, ResNet, TensorSpec},
};
use serde_json::{Value, json};

use super::{
    args,
    table::{Table, bytes, folded, grouped, sentence},
};

/// Show layers, shapes, parameters, multiply-adds, buffers and chosen kernels
///
/// Everything is known before anything runs: the arena holds all activations, and each layer's offset in it is
/// shown.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  residual inspect --arch resnet50
  residual inspect --arch resnet20-cifar --batch 16 --json
  residual inspect --weights resnet20.th --arch resnet20-cifar-Ac")]
pub struct Args {
    #[command(flatten)]
    network: args::Network,
    /// Pictures run at once
    #[arg(long, alias = "batch-size", value_name = "N", default_value = "1", value_parser = args::batch)]
    batch: usize,
    #[command(flatten)]
    threads: args::Threads,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args, out: &mut dyn Write) -> anyhow::Result<()> {
    if let Some(model) = args.network.int8()? {
        return quantized::show(&model, args.json, out);
    }
    let options = args::options(args.batch, args.threads.get(), true)?;
    let (spec, weights) = args.network.open()?;
    match weights {
        None => show(args, &Plan::new(&resnet::graph(&spec)?, &options)?, &spec, json!({}), out),
        Some(weights) => {
            let file = json!({ "format": weights.format().to_string(), "metadata": weights.metadata() });
            show(args, &Plan::new(&resnet::graph(&spec)?, &options)?, &spec, file, out)
        }
    }
}

fn show(args: &Args, plan: &Plan, spec: &ResNet, file: Value, out: &mut dyn Write) -> anyhow::Result<()> {
    let params = layer_params(spec);
    let params = |step: &Step| params.get(step.name.as_str()).copied().unwrap_or_default();
    let size = |elements: usize| 4 * elements as u64;
    let options = plan.options();
    if args.json {
        let layers = plan.steps().iter().map(|step| {
            let output = step.output_shape();
            let input = step.conv().map(|g| [g.input.h, g.input.w, g.input.c]);
            json!({
                "name": step.name.as_str(),
                "shape": step.conv().map(|window| window.to_string()),
                "input": input,
                "output": [output.h, output.w, output.c],
                "params": params(step),
                "macs": step.macs(),
                "kernel": step.kernel_name().as_str(),
                "offset_bytes": step.output_range().start,
                "bytes": step.output_range().len(),
                "bands": step.bands(),
            })
        });
        let mut object = json!({
            "arch": spec.to_string(),
            "classes": spec.classes(),
            "input": [spec.input().h, spec.input().w, spec.input().c],
            "params": spec.params(),
            "macs": spec.macs(),
            "batch": options.batch,
            "threads": options.threads,
            "isa": options.isa.name(),
            "arena_bytes": size(plan.arena_len()),
            "packed_bytes": size(plan.packed_len()),
            "scratch_bytes": size(plan.scratch_len()) * options.threads as u64,
            "layers": layers.collect::<Vec<_>>(),
        });
        if let (Value::Object(object), Value::Object(file)) = (&mut object, file) {
            object.extend(file);
        }
        writeln!(out, "{object:#}")?;
        return Ok(());
    }

    let header = ["layer", "shape", "output", "parameters", "MACs", "offset", "bytes", "kernel"];
    let mut table = Table::new(&header).leave_out(&["offset", "bytes", "kernel", "output"]);
    for step in plan.steps() {
        let shape = step.conv().map(|g| format!("{0}x{0}/{1}", g.kernel, g.stride)).unwrap_or_default();
        let range = step.output_range();
        table.row(&[
            &step.name,
            &shape,
            &step.output_shape(),
            &grouped(params(step)),
            &grouped(step.macs()),
            &size(range.start),
            &size(range.len()),
            &step.kernel_name(),
        ]);
    }
    table.write(out)?;
    writeln!(out)?;
    writeln!(out, "{spec}: input {}, {} classes, {} layers", spec.input(), spec.classes(), spec.depth())?;
    writeln!(out, "{} parameters, {} multiply-adds a picture", grouped(spec.params()), grouped(spec.macs()))?;
    let text = format!(
        "batch {}, {} threads, {}: arena {}, packed weights {}, scratch {}",
        options.batch,
        options.threads,
        options.isa,
        bytes(size(plan.arena_len())),
        bytes(size(plan.packed_len())),
        bytes(size(plan.scratch_len()) * options.threads as u64),
    );
    sentence(out, &text)?;
    if let Some(metadata) = file["metadata"].as_object() {
        writeln!(out, "{} file", file["format"].as_str().unwrap_or_default())?;
        for (key, value) in metadata {
            write_entry(key, value.as_str().unwrap_or_default(), out)?;
        }
    }
    Ok(())
}

/// An entry of a file's metadata.
fn write_entry(key: &str, value: &str, out: &mut dyn Write) -> anyhow::Result<()> {
    // A mean picture has thousands of numbers.
    let text = match value.char_indices().nth(1000) {
        Some((end, _)) => format!("  {key} = {}... ({} bytes)", value[..end].escape_debug(), value.len()),
        None => format!("  {key} = {}", value.escape_debug()),
    };
    Ok(folded(out, &text)?)
}

/// Learned parameters by layer, a batch norm's counted with its convolution.
fn layer_params(spec: &ResNet) -> BTreeMap<String, u64> {
    let learned =
        |tensors: &[TensorSpec]| tensors.iter().filter(|t| t.learned).map(|t| t.elements() as u64).sum::<u64>();
    let convs = spec.convs().map(|conv| (conv.name.to_string(), learned(&conv.tensors())));
    let head = spec.head();
    convs.chain([(head.name.to_string(), learned(&head.tensors()))]).collect()
}
