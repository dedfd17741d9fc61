//! `residual predict`: the most probable classes of pictures.

use std::{
    io::Write,
    path::{Path, PathBuf},
};

use anyhow::{Context, anyhow, bail, ensure};
use residual::{
    Image, Isa, Pictures, QuantizedModel,
    data::pictures_below,
    logits::{softmax, top_k},
    map_pictures, map_pictures_quantized,
    quant::DotIsa,
};
use serde_json::json;

use super::{args, note, progress, wrong_usage};

/// Classify pictures, or all pictures in folders
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  residual predict photo.jpg                                  with the small model of this project
  residual predict --weights resnet50.safetensors photo.jpg
  residual predict --weights resnet50.pth --arch resnet50 --class-names classes.txt --top-k 3 holiday/ --json")]
pub struct Args {
    /// safetensors or PyTorch file (.pth, .pt, .th) [default: the CIFAR-10 model in this project's `models`]
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,
    #[command(flatten)]
    known: args::Known,
    /// JPEG, PNG, BMP or WebP files, or folders of them
    #[arg(required_unless_present = "raw", conflicts_with = "raw", value_name = "PICTURE|DIR")]
    pictures: Vec<PathBuf>,
    /// File of raw int8 inputs (NHWC, one after the other) for an int8 model: prints its raw int8 outputs
    #[arg(long, value_name = "FILE")]
    raw: Option<PathBuf>,
    /// Classes to show
    #[arg(long, short = 'k', value_name = "K", default_value = "5", value_parser = args::batch)]
    top_k: usize,
    #[command(flatten)]
    threads: args::Threads,
    /// Pictures a thread runs at once
    #[arg(long, alias = "batch", value_name = "N", default_value = "1", value_parser = args::batch)]
    batch_size: usize,
    /// Leave out pictures that cannot be read instead of stopping at the first
    #[arg(long)]
    skip_unreadable: bool,
    /// Use the kernels of a file that `residual tune` wrote
    #[arg(long, value_name = "FILE")]
    plan: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args, out: &mut dyn Write) -> anyhow::Result<()> {
    let how = Pictures {
        threads: args.threads.get(),
        batch: args.batch_size,
        isa: residual::isa()?,
        skip_unreadable: args.skip_unreadable,
    };
    let (mut model, file) = match &args.weights {
        Some(weights) => (args.known.open_any(weights)?, weights.clone()),
        None => {
            let shipped = args::shipped();
            let shipped =
                shipped.ok_or_else(|| wrong_usage("pass --weights FILE: there is no `models` folder here"))?;
            (args.known.open_any(&shipped)?, shipped)
        }
    };
    if let Some(input) = &args.raw {
        let args::Opened::Int8(model) = &model else {
            return Err(wrong_usage(format!("{}: --raw needs an int8 model (.rsd, .tflite)", file.display())));
        };
        return raw(args, model, input, how.isa, out);
    }
    if let (None, args::Opened::Float(model)) = (&args.weights, &model) {
        let classes = model.class_names().unwrap_or_default().join(", ");
        note(&format!("{} knows these classes: {classes}", file.display()));
    }
    model.use_plan(args.plan.as_deref(), &how)?;
    let pictures = find(&args.pictures)?;
    let bar = progress::pictures(pictures.len());
    let open = |i: usize| Image::open(&pictures[i]);
    let best = |_: usize, logits: &[f32]| {
        let probabilities = softmax(logits);
        top_k(logits, args.top_k).into_iter().map(|class| (class, probabilities[class])).collect::<Vec<_>>()
    };
    let progress = |n: usize| bar.inc(n as u64);
    let answers = match &model {
        args::Opened::Int8(model) => map_pictures_quantized(model, &how, pictures.len(), open, best, progress),
        args::Opened::Float(model) => {
            map_pictures(&model.net()?, model.preprocessing(), &how, pictures.len(), open, best, progress)
        }
    };
    bar.finish_and_clear();

    let mut predictions = Vec::new();
    let mut unreadable = 0;
    for (picture, answer) in pictures.iter().zip(answers.map_err(args::or_skip)?) {
        match answer {
            Ok(classes) => predictions.push((picture, classes)),
            Err(error) => {
                unreadable += 1;
                note(&format!("skipped {error}"));
            }
        }
    }
    ensure!(!predictions.is_empty(), "none of the {unreadable} pictures could be read");
    if args.json {
        let predictions = predictions.iter().map(|(picture, classes)| {
            let classes = classes
                .iter()
                .map(|&(class, p)| json!({ "class": class, "name": model.class_name(class), "probability": p }));
            json!({ "image": picture.to_string_lossy(), "classes": classes.collect::<Vec<_>>() })
        });
        let object = json!({
            "arch": model.name(),
            "predictions": predictions.collect::<Vec<_>>(),
            "unreadable": unreadable,
        });
        writeln!(out, "{object:#}")?;
        return Ok(());
    }
    for (picture, classes) in predictions {
        writeln!(out, "{}", picture.display())?;
        for (class, p) in classes {
            writeln!(out, "  {:6.2}%  {}", 100.0 * p, model.class_name(class))?;
        }
    }
    Ok(())
}

/// Raw inputs to raw outputs.
fn raw(args: &Args, model: &QuantizedModel, file: &Path, isa: Isa, out: &mut dyn Write) -> anyhow::Result<()> {
    let bytes = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()));
    let input: Vec<i8> = bytes.map_err(|e| anyhow!("{e:#}"))?.into_iter().map(|b| b as i8).collect();
    let outputs = model.run_raw(&input, isa).map_err(|error| anyhow!("{}: {error}", file.display()))?;
    if !args.json {
        for output in &outputs {
            writeln!(out, "{}", output.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "))?;
        }
        return Ok(());
    }
    let encoding = model.output_encoding();
    // A softmax's encoding is always the same.
    let (scale, zero_point) = match model.softmax() {
        Some(_) => (1.0 / 256.0, -128),
        None => (encoding.scale, encoding.zero_point),
    };
    let mut object = json!({
        "arch": model.name(),
        "isa": DotIsa::of(isa).name(),
        "images": outputs.len(),
        "scale": scale,
        "zero_point": zero_point,
    });
    if let serde_json::Value::Object(object) = &mut object {
        match outputs.as_slice() {
            [output] => object.insert("output".into(), json!(output)),
            outputs => object.insert("outputs".into(), json!(outputs)),
        };
    }
    writeln!(out, "{object}")?;
    Ok(())
}

/// Files as they are, folders as the pictures in them.
fn find(paths: &[PathBuf]) -> anyhow::Result<Vec<PathBuf>> {
    let mut pictures = Vec::new();
    for path in paths {
        if path.is_dir() {
            let found = pictures_below(path)?;
            ensure!(!found.is_empty(), "{}: no pictures in this folder (JPEG, PNG, BMP or WebP)", path.display());
            pictures.extend(found);
        } else if !Path::exists(path) {
            bail!("{}: no such file or folder", path.display());
        } else {
            pictures.push(path.clone());
        }
    }
    Ok(pictures)
}
