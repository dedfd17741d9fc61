//! `residual features`: what a layer computes for pictures.

use std::{io::Write, path::PathBuf};

use residual::{Classifier, Image, printable};
use serde_json::json;

use super::{args, predict};

/// Show what a layer computes for pictures
///
/// `residual inspect` names the layers. Values of int8 networks are shown as the real numbers they mean.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  residual features --weights resnet50.safetensors --layer avgpool photo.jpg --json
  residual features --weights resnet50.rsd --layer layer4.2.conv3 photos/")]
pub struct Args {
    #[command(flatten)]
    model: args::Model,
    /// The layer, by its name
    #[arg(long, value_name = "NAME")]
    layer: String,
    /// JPEG, PNG, BMP or WebP files, or folders of them
    #[arg(required = true, value_name = "PICTURE|DIR")]
    pictures: Vec<PathBuf>,
    #[command(flatten)]
    threads: args::Threads,
    /// Print one JSON object, with all values
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args, out: &mut dyn Write) -> anyhow::Result<()> {
    let model = args.model.open_any()?;
    let mut classifier = Classifier::builder().threads(args.threads.get()).build(&model)?;
    let mut rows = Vec::new();
    for picture in predict::find(&args.pictures)? {
        let features = classifier.features(&[Image::open(&picture)?], &args.layer)?;
        rows.extend(features.into_iter().map(|features| (picture.clone(), features)));
    }
    if args.json {
        let pictures = rows.iter().map(|(picture, features)| {
            let shape = features.shape;
            json!({
                "image": picture.to_string_lossy(),
                "shape": [shape.h, shape.w, shape.c],
                "values": features.values,
            })
        });
        let object = json!({
            "arch": model.name(),
            "dtype": model.dtype()?.name(),
            "layer": args.layer,
            "pictures": pictures.collect::<Vec<_>>(),
        });
        writeln!(out, "{object}")?;
        return Ok(());
    }
    for (picture, features) in rows {
        let count = features.values.len().max(1) as f64;
        let mean = features.values.iter().map(|v| f64::from(*v)).sum::<f64>() / count;
        let (min, max) = features.values.iter().fold((f32::MAX, f32::MIN), |(a, b), v| (a.min(*v), b.max(*v)));
        writeln!(out, "{}", printable(&picture.to_string_lossy()))?;
        writeln!(out, "  {} of {}: mean {mean:.4}, from {min:.4} to {max:.4}", features.shape, args.layer)?;
    }
    Ok(())
}
