//! This project as one of the runtimes timed: `xtask bench ours DIR PEER NETWORK BATCH THREADS`.

use std::{
    fs,
    path::{Path, PathBuf},
    thread,
};

use anyhow::{Context, Result};
use peer_protocol::{Case, serve};
use residual::{
    Model,
    geom::Shape,
    graph::Value,
    plan::Options,
    quantize,
    resnet::fold_batch_norm,
    session::Session,
    weights::{WeightFile, check, describe, save, spec_from},
};

#[derive(clap::Args)]
pub struct Args {
    #[arg(num_args = 5)]
    case: Vec<String>,
    #[arg(long)]
    no_winograd: bool,
    #[arg(long)]
    int8: bool,
}

pub fn run(args: &Args) -> Result<()> {
    let case = Case::from_args(args.case.iter().cloned())?;
    if args.int8 {
        return run_int8(&case, !args.no_winograd);
    }
    let weights = WeightFile::open(file(&case.folder, &case.network))?;
    let spec = spec_from(&weights, None)?;
    check(&spec, &weights)?;
    let (batch, threads) = (case.batch, case.threads);
    let options = Options { batch, threads, isa: residual::isa()?, winograd: !args.no_winograd };
    let mut session = Session::new(&fold_batch_norm(&spec, &weights)?, &options)?;
    let input = nhwc(&case.input()?, batch, spec.input());
    serve(&case, env!("CARGO_PKG_VERSION"), || Ok(session.run(&input)?.to_vec()))
}

/// As the others: f32 in and out, int8 in between.
fn run_int8(case: &Case, winograd: bool) -> Result<()> {
    let model = Model::open(file(&case.folder, &case.network).with_extension("rsd"))?;
    let (batch, threads) = (case.batch, case.threads);
    let options = Options { batch, threads, isa: residual::isa()?, winograd };
    let mut session = Session::with_model(model.packed(&options)?)?;
    let encoding = |value: &Value| value.quantization.context("an int8 network has encodings");
    let (from, to) = (encoding(session.plan().input())?, encoding(session.plan().graph().output())?);
    let input = nhwc(&case.input()?, batch, session.plan().input().shape);
    let mut bytes = vec![0; input.len()];
    serve(case, env!("CARGO_PKG_VERSION"), || {
        bytes.iter_mut().zip(&input).for_each(|(q, v)| *q = from.quantize(*v));
        Ok(session.run::<i8>(&bytes)?.iter().map(|q| to.dequantize(*q)).collect())
    })
}

/// Makes our int8 file, where it is missing, with the ranges of the pictures that all use.
pub fn quantize_ours(folder: &Path, network: &str) -> Result<()> {
    let file = file(folder, network);
    let target = file.with_extension("rsd");
    if target.exists() {
        return Ok(());
    }
    let weights = WeightFile::open(&file)?;
    let spec = spec_from(&weights, None)?;
    let net = fold_batch_norm(&spec, &weights)?;
    let bytes = fs::read(folder.join(format!("{network}.calibration.bin")))?;
    let floats: Vec<f32> = bytes.as_chunks::<4>().0.iter().map(|&b| f32::from_le_bytes(b)).collect();
    let pictures = floats.chunks_exact(spec.input().elements());
    let inputs: Vec<Vec<f32>> = pictures.map(|picture| nhwc(picture, 1, spec.input())).collect();
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let options = quantize::Options { method: Some(quantize::Method::MinMax), threads, ..Default::default() };
    let quantized = quantize::quantize(&net, &inputs, &options)?;
    fs::write(target, &*quantized.network.to_model()?)?;
    Ok(())
}

/// Our file of a network among PyTorch's and the peers'.
fn file(folder: &Path, network: &str) -> PathBuf {
    folder.join(format!("{network}.safetensors"))
}

/// Makes our file of PyTorch's, where it is missing: what `residual convert` does.
pub fn convert(folder: &Path, network: &str) -> Result<()> {
    let file = file(folder, network);
    if !file.exists() {
        let weights = WeightFile::open(folder.join(format!("{network}.pt")))?;
        save(file, weights.tensors(), &describe(&spec_from(&weights, Some(network))?, None))?;
    }
    Ok(())
}

/// PyTorch's order of a batch as ours.
pub fn nhwc(nchw: &[f32], batch: usize, shape: Shape) -> Vec<f32> {
    let Shape { h, w, c } = shape;
    let mut out = Vec::with_capacity(nchw.len());
    for image in 0..batch {
        for pixel in 0..h * w {
            out.extend((0..c).map(|ch| nchw[(image * c + ch) * h * w + pixel]));
        }
    }
    out
}
