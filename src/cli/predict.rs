//! `residual predict`: the most probable classes of pictures.

use std::{
    io::Write,
    path::{Path, PathBuf},
};

use anyhow::{anyhow, bail, ensure};
use residual::{
    Image, Isa, Pictures, QuantizedModel,
    data::pictures_below,
    logits::{softmax, top_k},
    map_pictures, printable,
    tflite::{End, Numbers},
};
use serde_json::json;

use super::{args, note, progress, shipped, wrong_usage};

/// Classify pictures, or all pictures in folders
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  residual predict photo.jpg                                  with the small model that is built in
  curl -s https://example.org/photo.jpg | residual predict -
  residual predict --weights resnet50.safetensors photo.jpg
  residual predict --weights resnet50.pth --arch resnet50 --class-names classes.txt --top-k 3 holiday/ --json")]
pub struct Args {
    /// safetensors or PyTorch file (.pth, .pt, .th) [default: a small model of CIFAR-10's classes, which is built in]
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,
    #[command(flatten)]
    known: args::Known,
    /// JPEG, PNG, BMP or WebP files, or folders of them; `-` reads a picture from standard input
    #[arg(required_unless_present = "raw", conflicts_with = "raw", value_name = "PICTURE|DIR")]
    pictures: Vec<PathBuf>,
    /// File of raw inputs (NHWC, one after the other) for an int8 model: prints its raw outputs. Both are int8, or
    /// what a .tflite file has at its ends: uint8, or float32 (little-endian)
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
    let mut model = match &args.weights {
        Some(weights) => args.known.open_any(weights)?,
        None => shipped::open(&args.known.given()?)?,
    };
    let file = args.weights.as_deref().unwrap_or(Path::new(shipped::NAME));
    if let Some(input) = &args.raw {
        let Some(model) = model.int8() else {
            return Err(wrong_usage(format!("{}: --raw needs an int8 model (.rsd, .tflite)", file.display())));
        };
        return raw(args, model, input, how.isa, out);
    }
    if args.weights.is_none() {
        let classes = model.class_names().unwrap_or_default().join(", ");
        note(&format!("{} knows these classes: {classes}", shipped::NAME));
    }
    args::use_plan(&mut model, args.plan.as_deref(), &how)?;
    let pictures = find(&args.pictures)?;
    let bar = progress::pictures(pictures.len());
    let open = |i: usize| match is_standard_input(&pictures[i]) {
        true => Image::read(std::io::stdin().lock(), "standard input"),
        false => Image::open(&pictures[i]),
    };
    let best = |_: usize, logits: &[f32]| {
        let probabilities = softmax(logits);
        top_k(logits, args.top_k).into_iter().map(|class| (class, probabilities[class])).collect::<Vec<_>>()
    };
    let progress = |n: usize| bar.inc(n as u64);
    let answers = map_pictures(&model, &how, pictures.len(), open, best, progress);
    bar.finish_and_clear();

    let mut predictions = Vec::new();
    let mut unreadable = 0;
    for (picture, answer) in pictures.iter().zip(answers.map_err(|error| args::naming(file, error))?) {
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
        writeln!(out, "{}", printable(&picture.to_string_lossy()))?;
        for (class, p) in classes {
            writeln!(out, "  {:6.2}%  {}", 100.0 * p, printable(&model.class_name(class)))?;
        }
    }
    Ok(())
}

/// Raw inputs to raw outputs.
fn raw(args: &Args, model: &QuantizedModel, file: &Path, isa: Isa, out: &mut dyn Write) -> anyhow::Result<()> {
    /// Longest file of inputs, in bytes.
    const MAX_FILE: u64 = 1 << 30;
    let bytes = residual::read_regular(file, MAX_FILE);
    let input = bytes.map_err(|e| anyhow!("cannot read {}: {e}", file.display()))?;
    let outputs = model.run_file(&input, isa).map_err(|error| anyhow!("{}: {error}", file.display()))?;
    if !args.json {
        for output in &outputs {
            writeln!(out, "{output}")?;
        }
        return Ok(());
    }
    let encoding = model.output_encoding();
    let end = &model.ends()[1];
    let (scale, zero_point) = match (end, model.softmax()) {
        (End::Bytes(bytes), _) => (bytes.scale, bytes.zero_point),
        // Real numbers are what they are.
        (End::Float32(_), _) => (1.0, 0),
        // A softmax's encoding is always the same.
        (End::Int8, Some(_)) => (1.0 / 256.0, -128),
        (End::Int8, None) => (encoding.scale, encoding.zero_point.into()),
    };
    let mut object = json!({
        "arch": model.name(),
        "isa": isa.name(),
        "images": outputs.len(),
        "type": end.type_name(),
        "scale": scale,
        "zero_point": zero_point,
    });
    let numbers = |output: &Numbers| match output {
        Numbers::Int8(values) => json!(values),
        Numbers::Uint8(values) => json!(values),
        Numbers::Float32(values) => json!(values),
    };
    if let serde_json::Value::Object(object) = &mut object {
        match outputs.as_slice() {
            [output] => object.insert("output".into(), numbers(output)),
            outputs => object.insert("outputs".into(), outputs.iter().map(numbers).collect()),
        };
    }
    writeln!(out, "{object}")?;
    Ok(())
}

fn is_standard_input(path: &Path) -> bool {
    path.as_os_str() == "-"
}

/// Files and `-` as they are, folders as the pictures in them.
pub(super) fn find(paths: &[PathBuf]) -> anyhow::Result<Vec<PathBuf>> {
    let mut pictures = Vec::new();
    ensure!(paths.iter().filter(|path| is_standard_input(path)).count() <= 1, "-: standard input holds one picture");
    for path in paths {
        if is_standard_input(path) {
            pictures.push(path.clone());
        } else if path.is_dir() {
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
