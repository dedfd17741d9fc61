//! rten on an ONNX file, as `cargo xtask bench peers` times it.

use std::sync::Arc;

use anyhow::{Context, Result};
use peer_protocol::{Case, serve};
use rten::{Model, ModelOptions, RunOptions, ThreadPool};
use rten_tensor::{NdTensor, prelude::*};

fn main() -> Result<()> {
    let case = Case::from_args(std::env::args().skip(1))?;
    let model = ModelOptions::with_all_ops().prepack_weights(true).load_file(case.onnx())?;
    let pool = Arc::new(ThreadPool::with_num_threads(case.threads));
    let (batch, side) = (case.batch, case.side());
    let input = NdTensor::from_data([batch, 3, side, side], case.input()?);
    serve(&case, "0.27.0", || {
        let options = RunOptions::default().with_thread_pool(Some(Arc::clone(&pool)));
        let output = model.run_one(input.view().into(), Some(options))?;
        let logits: NdTensor<f32, 2> = output.try_into().ok().context("the output is no matrix of f32")?;
        Ok(logits.to_vec())
    })
}
