//! `residual predict`: the most probable classes of pictures.

use std::{
    io::Write,
    path::{Path, PathBuf},
};

use anyhow::{bail, ensure};
use residual::{
    Image, Pictures,
    data::pictures_below,
    logits::{softmax, top_k},
    map_pictures,
};
use serde_json::json;

use super::{args, note, plan_file::PlanFile, progress};

/// Classify pictures, or all pictures in folders
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  residual predict --weights resnet50.safetensors photo.jpg
  residual predict --weights resnet50.pth --arch resnet50 --class-names classes.txt --top-k 3 holiday/ --json")]
pub struct Args {
    #[command(flatten)]
    model: args::Model,
    /// JPEG, PNG, BMP or WebP files, or folders of them
    #[arg(required = true, value_name = "PICTURE|DIR")]
    pictures: Vec<PathBuf>,
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
    let mut model = args.model.open()?;
    if let Some(file) = &args.plan {
        let options = args::options(how.batch, how.threads, true)?;
        model.prefer_kernels(PlanFile::open(file, model.spec(), &options)?.kernels);
    }
    let pictures = find(&args.pictures)?;

    let bar = progress::pictures(pictures.len());
    let answers = map_pictures(
        &model.net()?,
        model.preprocessing(),
        &how,
        pictures.len(),
        |i| Image::open(&pictures[i]),
        |_, logits| {
            let probabilities = softmax(logits);
            top_k(logits, args.top_k).into_iter().map(|class| (class, probabilities[class])).collect::<Vec<_>>()
        },
        |n| bar.inc(n as u64),
    );
    bar.finish_and_clear();

    let mut predictions = Vec::new();
    let mut unreadable = 0;
    for (picture, answer) in pictures.iter().zip(answers?) {
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
            "arch": model.spec().to_string(),
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
