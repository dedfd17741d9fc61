//! `residual convert`: weights to safetensors that say everything about themselves.

use std::{collections::BTreeMap, io::Write, path::PathBuf};

use residual::{
    CoreError, QuantizedModel,
    graph::{Net, OpKind},
    printable,
    weights::Tensor,
    weights::{describe, keys, save},
};

use super::{args, table::bytes, write_file, wrong_usage};

/// Write weights as safetensors, with network, preprocessing and class names in the metadata
///
/// The other commands then need nothing but the file. An int8 model (.tflite) becomes a model file (.rsd) for
/// microcontrollers.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  residual convert --weights resnet50.pth --arch resnet50 --class-names imagenet.txt -o resnet50.safetensors
  residual convert --weights resnet20.th --arch resnet20-cifar-Ac --mean 0.485,0.456,0.406 \\
      --std 0.229,0.224,0.225 --license BSD-2-Clause --fold -o resnet20.safetensors
  residual convert --weights net.tflite --class-names classes.txt -o net.rsd")]
pub struct Args {
    #[command(flatten)]
    model: args::Model,
    /// The file to write
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,
    /// Fold batch norm into the convolutions
    #[arg(long)]
    fold: bool,
    /// Licence of the weights (an SPDX expression), for the metadata
    #[arg(long, value_name = "SPDX")]
    license: Option<String>,
    /// Where the weights come from, for the metadata
    #[arg(long, value_name = "TEXT")]
    source: Option<String>,
}

pub fn run(args: &Args, out: &mut dyn Write) -> anyhow::Result<()> {
    let model = args.model.open_any()?;
    let model = match (model.weights(), model.int8()) {
        (Some(weights), _) => weights,
        (None, Some(model)) => return int8(args, model, out),
        (None, None) => return Ok(()),
    };
    // What the file said and nobody overrides stays.
    let mut metadata = model.weights().metadata().clone();
    metadata.extend(describe(model.spec(), model.class_names()));
    metadata.extend(model.preprocessing().to_metadata());
    let given = [(keys::LICENSE, &args.license), (keys::SOURCE, &args.source)];
    metadata.extend(given.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value.clone()?))));

    if args.fold {
        metadata.insert(keys::FOLDED.into(), "true".into());
        let tensors = folded(&model.net()?).map_err(|error| model.explain(error))?;
        let tensors = tensors.iter().map(|(name, (shape, data))| (name.as_str(), Tensor::new(shape, data)));
        save(&args.output, tensors, &metadata)?;
    } else {
        save(&args.output, model.weights().tensors(), &metadata)?;
    }
    let written = std::fs::metadata(&args.output).map(|m| bytes(m.len())).unwrap_or_default();
    writeln!(out, "{}: {}, {written}", printable(&args.output.to_string_lossy()), model.spec())?;
    Ok(())
}

/// An int8 model as a model file, for microcontrollers.
fn int8(args: &Args, model: &QuantizedModel, out: &mut dyn Write) -> anyhow::Result<()> {
    let weights = args.model.weights.display();
    if args.fold {
        return Err(wrong_usage(format!("{weights}: --fold: an int8 model has no batch norm")));
    }
    if args.license.is_some() || args.source.is_some() {
        return Err(wrong_usage(format!("{weights}: model files hold no --license and --source")));
    }
    write_file(&args.output, model.bytes())?;
    let size = bytes(model.bytes().len() as u64);
    writeln!(out, "{}: {} in int8, {size}", printable(&args.output.to_string_lossy()), model.name())?;
    Ok(())
}

/// Extents and elements.
type Owned = (Vec<usize>, Vec<f32>);

/// Every convolution and the classifier as a weight and a bias.
fn folded(net: &Net<'_>) -> Result<BTreeMap<String, Owned>, CoreError> {
    let mut tensors = BTreeMap::new();
    for (index, op) in net.ops().iter().enumerate() {
        let (OpKind::Conv { geom, .. }, Some(weights)) = (op.kind, net.conv(index)) else { continue };
        let mut shape = vec![geom.c_out, geom.input.c, geom.kernel, geom.kernel];
        // The classifier is a convolution of a 1x1 map.
        if op.output == net.outputs()[0] {
            shape.truncate(2);
        }
        tensors.insert(op.name.dot("weight").to_string(), (shape, weights.scaled()?));
        tensors.insert(op.name.dot("bias").to_string(), (vec![geom.c_out], weights.bias.clone()));
    }
    Ok(tensors)
}
