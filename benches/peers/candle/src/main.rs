//! candle, as `cargo xtask bench peers` times it: the network's folded layers as its tensor operations.

use anyhow::{Result, anyhow};
use candle_core::{D, Device, Tensor};
use peer_protocol::{Case, serve};
use residual_core::{
    graph::{Net, OpKind},
    resnet::{ResNet, fold_batch_norm},
};
use residual_io::weights::WeightFile;

/// A convolution's tensors: OIHW, and a bias that fits every pixel.
struct Conv {
    weights: Tensor,
    bias: Tensor,
}

fn main() -> Result<()> {
    let case = Case::from_args(std::env::args().skip(1))?;
    rayon::ThreadPoolBuilder::new().num_threads(case.threads).build_global()?;
    let spec: ResNet = case.network.parse()?;
    let weights = WeightFile::open(case.weights())?;
    let net = fold_batch_norm(&spec, &weights)?;
    let convs = (0..net.ops().len()).map(|index| conv(&net, index)).collect::<Result<Vec<_>>>()?;
    let (batch, side) = (case.batch, case.side());
    let input = Tensor::from_vec(case.input()?, (batch, 3, side, side), &Device::Cpu)?;
    serve(&case, "0.11.1", || {
        let logits = run(&net, &convs, &input)?;
        Ok(logits.flatten_all()?.to_vec1()?)
    })
}

fn conv(net: &Net<'_>, index: usize) -> Result<Option<Conv>> {
    let (OpKind::Conv { geom: g, .. }, Some(weights)) = (net.ops()[index].kind, net.conv(index)) else {
        return Ok(None);
    };
    let oihw = Tensor::from_vec(weights.scaled()?, (g.c_out, g.input.c, g.kernel, g.kernel), &Device::Cpu)?;
    let bias = Tensor::from_vec(weights.bias.clone(), (1, g.c_out, 1, 1), &Device::Cpu)?;
    Ok(Some(Conv { weights: oihw, bias }))
}

fn run(net: &Net<'_>, convs: &[Option<Conv>], input: &Tensor) -> Result<Tensor> {
    let mut values = vec![input.clone()];
    for (op, conv) in net.ops().iter().zip(convs) {
        let x = &values[op.input.index()];
        let y = match (&op.kind, conv) {
            (OpKind::Conv { geom: g, shortcut, relu, .. }, Some(Conv { weights, bias })) => {
                let mut y = x.conv2d(weights, g.pad, g.stride, 1, 1)?.broadcast_add(bias)?;
                if let Some(shortcut) = shortcut {
                    y = (y + &values[shortcut.index()])?;
                }
                if *relu { y.relu()? } else { y }
            }
            (OpKind::MaxPool(g), _) => {
                // Zeros will do for padding behind a ReLU.
                let x = x.pad_with_zeros(2, g.pad_top, g.pad_top)?.pad_with_zeros(3, g.pad_left, g.pad_left)?;
                x.max_pool2d_with_stride(g.kernel, g.stride)?
            }
            (&OpKind::Subsample { stride, before, after, .. }, _) => {
                x.max_pool2d_with_stride(1, stride)?.pad_with_zeros(1, before, after)?
            }
            (OpKind::AveragePool(_), _) => x.mean_keepdim(D::Minus1)?.mean_keepdim(D::Minus2)?,
            _ => return Err(anyhow!("{}: no tensors", op.name)),
        };
        values.push(y);
    }
    values.pop().ok_or_else(|| anyhow!("an empty network"))
}
