//! burn on its CPU backend `flex`, as `cargo xtask bench peers` times it: the network's folded layers as its tensor
//! operations.

use anyhow::{Result, anyhow};
use burn::tensor::{
    Device, Tensor, TensorData,
    activation::relu,
    module::{conv2d, max_pool2d},
    ops::{ConvOptions, MaxPoolOptions, PadMode},
};
use peer_protocol::{Case, serve};
use residual_core::{
    graph::{Net, OpKind},
    resnet::{ResNet, fold_batch_norm},
};
use residual_io::weights::WeightFile;

/// A convolution's tensors: OIHW, and a bias.
struct Conv {
    weights: Tensor<4>,
    bias: Tensor<1>,
}

fn main() -> Result<()> {
    let case = Case::from_args(std::env::args().skip(1))?;
    rayon::ThreadPoolBuilder::new().num_threads(case.threads).build_global()?;
    let device = Device::flex();
    let spec: ResNet = case.network.parse()?;
    let weights = WeightFile::open(case.weights())?;
    let net = fold_batch_norm(&spec, &weights)?;
    let convs = (0..net.ops().len()).map(|index| conv(&net, index, &device)).collect::<Result<Vec<_>>>()?;
    let (batch, side) = (case.batch, case.side());
    let input = Tensor::<4>::from_data(TensorData::new(case.input()?, [batch, 3, side, side]), &device);
    serve(&case, "0.22.1", || {
        let logits = run(&net, &convs, &input)?;
        logits.into_data().to_vec().map_err(|error| anyhow!("{error:?}"))
    })
}

fn conv(net: &Net<'_>, index: usize, device: &Device) -> Result<Option<Conv>> {
    let (OpKind::Conv { geom: g, .. }, Some(weights)) = (net.ops()[index].kind, net.conv(index)) else {
        return Ok(None);
    };
    let oihw = TensorData::new(weights.scaled()?, [g.c_out, g.input.c, g.kernel, g.kernel]);
    let bias = TensorData::new(weights.bias.clone(), [g.c_out]);
    Ok(Some(Conv { weights: Tensor::from_data(oihw, device), bias: Tensor::from_data(bias, device) }))
}

fn run(net: &Net<'_>, convs: &[Option<Conv>], input: &Tensor<4>) -> Result<Tensor<4>> {
    let mut values = vec![input.clone()];
    for (op, conv) in net.ops().iter().zip(convs) {
        let x = values[op.input.index()].clone();
        let y = match (&op.kind, conv) {
            (OpKind::Conv { geom: g, shortcut, relu: active, .. }, Some(Conv { weights, bias })) => {
                let options = ConvOptions::new([g.stride; 2], [g.pad; 2], [1; 2], 1);
                let mut y = conv2d(x, weights.clone(), Some(bias.clone()), options);
                if let Some(shortcut) = shortcut {
                    y = y + values[shortcut.index()].clone();
                }
                if *active { relu(y) } else { y }
            }
            (OpKind::MaxPool(g), _) => max_pool2d(x, pooling(g.kernel, g.stride, g.pad_top)),
            (&OpKind::Subsample { stride, before, after, .. }, _) => max_pool2d(x, pooling(1, stride, 0))
                .pad([(0, 0), (before, after), (0, 0), (0, 0)], PadMode::Constant(0.0)),
            (OpKind::AveragePool(_), _) => x.mean_dim(3).mean_dim(2),
            _ => return Err(anyhow!("{}: no tensors", op.name)),
        };
        values.push(y);
    }
    values.pop().ok_or_else(|| anyhow!("an empty network"))
}

fn pooling(kernel: usize, stride: usize, pad: usize) -> MaxPoolOptions<2> {
    MaxPoolOptions {
        kernel_size: [kernel; 2],
        stride: [stride; 2],
        padding: [(pad, pad); 2],
        dilation: [1; 2],
        ceil_mode: false,
    }
}
