//! tract on an ONNX file, as `cargo xtask bench peers` times it.

use anyhow::Result;
use peer_protocol::{Case, serve};
use tract_linalg::multithread::{Executor, set_default_executor};
use tract_onnx::prelude::*;

fn main() -> Result<()> {
    let case = Case::from_args(std::env::args().skip(1))?;
    if case.threads > 1 {
        set_default_executor(Executor::multithread(case.threads));
    }
    let (batch, side) = (case.batch, case.side());
    let fact = f32::fact([batch, 3, side, side]).into();
    let model = tract_onnx::onnx().model_for_path(case.onnx())?.with_input_fact(0, fact)?;
    let plan = model.into_optimized()?.into_runnable()?;
    let input: TValue = Tensor::from_shape(&[batch, 3, side, side], &case.input()?)?.into();
    serve(&case, "0.23.9", || {
        let outputs = plan.run(tvec!(input.clone()))?;
        Ok(outputs[0].try_as_plain_ram()?.as_slice::<f32>()?.to_vec())
    })
}
