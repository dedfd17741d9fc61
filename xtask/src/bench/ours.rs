//! This project as one of the runtimes timed: `xtask bench ours DIR PEER NETWORK BATCH THREADS`.

use std::path::{Path, PathBuf};

use anyhow::Result;
use peer_protocol::{Case, serve};
use residual::{
    geom::Shape,
    plan::Options,
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
}

pub fn run(args: &Args) -> Result<()> {
    let case = Case::from_args(args.case.iter().cloned())?;
    let weights = WeightFile::open(file(&case.folder, &case.network))?;
    let spec = spec_from(&weights, None)?;
    check(&spec, &weights)?;
    let (batch, threads) = (case.batch, case.threads);
    let options = Options { batch, threads, isa: residual::isa()?, winograd: !args.no_winograd };
    let mut session = Session::new(&fold_batch_norm(&spec, &weights)?, &options)?;
    let input = nhwc(&case.input()?, batch, spec.input());
    serve(&case, env!("CARGO_PKG_VERSION"), || Ok(session.run(&input)?.to_vec()))
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
