//! A .tflite graph as a list of ops.

use std::collections::BTreeMap;

use residual_core::{
    geom::Shape,
    quant::{Softmax, Window},
};

use super::{
    flat::Table,
    schema::{PADDING_SAME, PADDING_VALID, activation, field, operator},
    tensor::{Fault, Graph, Tensor},
};
use crate::quantize::{Kind, Layer, Network, Quantization, QuantizedConv, Shortcut, Stored};

/// Why a file is not a network this library can run. One line.
#[derive(Debug, thiserror::Error)]
#[error("{file}: {reason}")]
pub struct TfliteError {
    /// the file
    pub file: String,
    /// what is wrong, naming the operator or tensor
    pub reason: String,
}

/// What a file holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Imported {
    /// the network up to its logits
    pub network: Network,
    /// the softmax behind it
    pub softmax: Option<Softmax>,
}

/// Reads a TensorFlow Lite file; `file` is what errors call it. Any bytes may be given.
///
/// # Errors
/// [`TfliteError`] for damaged files, and for operators, shapes and encodings a residual network does not
/// need, naming the operator or tensor.
pub fn import(file: &str, bytes: &[u8]) -> Result<Imported, TfliteError> {
    let read = || Reader::new(Graph::open(bytes)?)?.read();
    read().map_err(|reason| TfliteError { file: file.into(), reason })
}

/// What a tensor is in terms of values.
#[derive(Clone, Copy, Debug)]
enum Source {
    Value(usize),
    /// rows and columns of zeros around a value
    Padded {
        value: usize,
        before: [usize; 2],
        after: [usize; 2],
    },
    /// option A's shortcut
    Sliced {
        value: usize,
        stride: usize,
        before: usize,
    },
}

struct Reader<'f> {
    graph: Graph<'f>,
    sources: BTreeMap<i32, Source>,
    /// how often operators read a tensor, and the last one that does
    readers: BTreeMap<i32, (usize, usize)>,
    /// additions that became part of a convolution
    fused: Vec<usize>,
    network: Network,
    softmax: Option<Softmax>,
}

/// More is no network of this library (ResNet-1202 has about 2,000).
const MOST_OPERATORS: usize = 1 << 14;

impl<'f> Reader<'f> {
    fn new(graph: Graph<'f>) -> Result<Self, Fault> {
        if graph.inputs.len() != 1 || graph.outputs.len() != 1 {
            return Err(format!("{} inputs and {} outputs, 1 of each needed", graph.inputs.len(), graph.outputs.len()));
        }
        if graph.operators.len() == 0 || graph.operators.len() > MOST_OPERATORS {
            return Err(format!("{} operators, 1 to {MOST_OPERATORS} needed", graph.operators.len()));
        }
        let mut readers = BTreeMap::new();
        for op in 0..graph.operators.len() {
            for tensor in inputs(&graph.operators.table(op)?)? {
                let (count, last) = readers.entry(tensor).or_insert((0, op));
                (*count, *last) = (*count + 1, op);
            }
        }
        // The output is read by the caller too.
        readers.entry(graph.outputs.i32(0)?).or_insert((0, usize::MAX)).0 += 1;
        let input = graph.inputs.i32(0)?;
        let tensor = graph.tensor(input)?;
        let network = Network {
            input: tensor.map()?,
            quantization: tensor.activation()?,
            layers: Vec::new(),
            architecture: String::new(),
            classes: Vec::new(),
            preprocessing: None,
        };
        let sources = BTreeMap::from([(input, Source::Value(0))]);
        Ok(Reader { graph, sources, readers, fused: Vec::new(), network, softmax: None })
    }

    fn read(mut self) -> Result<Imported, Fault> {
        for index in 0..self.graph.operators.len() {
            let op = self.graph.operators.table(index)?;
            let code = self.graph.code(&op)?;
            if self.fused.contains(&index) {
                continue;
            }
            if self.softmax.is_some() {
                return Err(format!("operator {index} ({}) follows the softmax", operator::name(code)));
            }
            self.operator(code, &op)
                .map_err(|reason| format!("operator {index} ({}): {reason}", operator::name(code)))?;
        }
        let output = self.graph.outputs.i32(0)?;
        match self.sources.get(&output) {
            Some(Source::Value(value)) if *value == self.network.layers.len() => {}
            _ => return Err("the graph's output is not the result of its last operator".into()),
        }
        Ok(Imported { network: self.network, softmax: self.softmax })
    }

    fn operator(&mut self, code: i32, op: &Table<'f>) -> Result<(), Fault> {
        let outputs = op.vector(field::operator::OUTPUTS, 4)?;
        if outputs.len() != 1 {
            return Err(format!("{} outputs, 1 needed", outputs.len()));
        }
        let output = outputs.i32(0)?;
        if self.sources.contains_key(&output) {
            return Err(format!("its output, tensor {output}, was computed before"));
        }
        let inputs = inputs(op)?;
        let options = op.table(field::operator::OPTIONS)?;
        let options = || options.ok_or_else(|| Fault::from("it has no options"));
        match code {
            operator::CONV_2D => self.conv(&inputs, output, &options()?),
            operator::FULLY_CONNECTED => self.fully_connected(&inputs, output, &options()?),
            operator::AVERAGE_POOL_2D | operator::MAX_POOL_2D => self.pool(code, &inputs, output, &options()?),
            operator::ADD => Err("neither operand is a convolution's result that only this addition reads and that \
                                  is computed after the other operand"
                .into()),
            operator::RESHAPE => self.reshape(&inputs, output),
            operator::PAD => self.pad(&inputs, output),
            operator::STRIDED_SLICE => self.slice(&inputs, output, &options()?),
            operator::SOFTMAX => self.softmax(&inputs, output, &options()?),
            _ => Err("operators of this kind are not supported".into()),
        }
    }

    fn source(&self, inputs: &[i32]) -> Result<Source, Fault> {
        let tensor = inputs.first().ok_or("it has no input")?;
        self.sources.get(tensor).copied().ok_or_else(|| format!("tensor {tensor} was not computed before it"))
    }

    fn value(&self, inputs: &[i32]) -> Result<(usize, Shape, Quantization), Fault> {
        match self.source(inputs)? {
            Source::Value(value) => {
                let (shape, quantization) = self.network.value(value).ok_or("its input has no shape")?;
                Ok((value, shape, quantization))
            }
            _ => Err("its input is padded or sliced, which is supported before CONV_2D and ADD only".into()),
        }
    }

    fn push(&mut self, tensor: &Tensor<'_>, output: i32, source: usize, kind: Kind) {
        // Converters name a tensor after everything fused into it; the first part says where it began.
        let name = tensor.name.split(';').next().unwrap_or_default().to_owned();
        self.network.layers.push(Layer { name, source, kind });
        self.sources.insert(output, Source::Value(self.network.layers.len()));
    }

    fn conv(&mut self, inputs: &[i32], output: i32, options: &Table<'f>) -> Result<(), Fault> {
        let (value, around, sizes) = match self.source(inputs)? {
            Source::Value(value) => (value, [0; 2], [0; 2]),
            Source::Padded { value, before, after } => (value, before, [before[0] + after[0], before[1] + after[1]]),
            Source::Sliced { .. } => return Err("its input is sliced, which is supported before ADD only".into()),
        };
        let (input, _) = self.network.value(value).ok_or("its input has no shape")?;
        let tensor = self.graph.tensor(output)?;
        let weights = self.graph.tensor(*inputs.get(1).ok_or("it has no weights")?)?;
        let map = tensor.map()?;
        let &[c_out, kernel, kernel_w, c_in] = weights.shape.as_slice() else {
            return Err(weights.fault(format_args!("shape {:?}, four dimensions needed", weights.shape)));
        };
        let strides = [options.i32(field::conv::STRIDE_H, 0)?, options.i32(field::conv::STRIDE_W, 0)?];
        let dilation = [options.i32(field::conv::DILATION_H, 1)?, options.i32(field::conv::DILATION_W, 1)?];
        if kernel != kernel_w || strides[0] != strides[1] || dilation != [1, 1] {
            return Err(format!(
                "kernel {kernel}x{kernel_w}, strides {strides:?}, dilation {dilation:?}: only square and undilated"
            ));
        }
        if i64::from(c_in) != input.c as i64 || i64::from(c_out) != map.c as i64 {
            return Err(
                weights.fault(format_args!("{c_in} to {c_out} channels between maps of {} and {}", input.c, map.c))
            );
        }
        let padding = options.i8(field::conv::PADDING)?;
        if padding == PADDING_SAME && sizes != [0; 2] {
            return Err("its input is padded twice".into());
        }
        let window = window(input, map, kernel, strides[0], padding, around, sizes)?;
        let conv = self.layer(inputs, &tensor, &weights, window, options.i8(field::conv::ACTIVATION)?, false)?;
        self.push_conv(output, value, conv)
    }

    fn fully_connected(&mut self, inputs: &[i32], output: i32, options: &Table<'f>) -> Result<(), Fault> {
        let (value, input, _) = self.value(inputs)?;
        let tensor = self.graph.tensor(output)?;
        let weights = self.graph.tensor(*inputs.get(1).ok_or("it has no weights")?)?;
        let map = tensor.map()?;
        if (input.h, input.w) != (1, 1) || (map.h, map.w) != (1, 1) {
            return Err(format!("from {input} to {map}: only vectors are supported"));
        }
        if options.i8(field::fully_connected::WEIGHTS_FORMAT)? != 0 {
            return Err("its weights are shuffled".into());
        }
        let shape = [map.c as i64, input.c as i64];
        if weights.shape.iter().map(|d| i64::from(*d)).ne(shape) {
            return Err(weights.fault(format_args!("shape {:?}, {shape:?} needed", weights.shape)));
        }
        let window = window(input, map, 1, 1, PADDING_VALID, [0; 2], [0; 2])?;
        let conv = self.layer(inputs, &tensor, &weights, window, options.i8(field::ACTIVATION)?, true)?;
        self.push_conv(output, value, conv)
    }

    fn layer(
        &self,
        inputs: &[i32],
        tensor: &Tensor<'_>,
        weights: &Tensor<'_>,
        window: Window,
        activation: i8,
        fully_connected: bool,
    ) -> Result<QuantizedConv, Fault> {
        let c = window.output.c;
        let (values, scales) = weights.weights(c)?;
        if values.len() != window.weight_len() {
            return Err(weights.fault(format_args!("{} weights, {} needed", values.len(), window.weight_len())));
        }
        let bias = match inputs.get(2) {
            Some(&index) if index >= 0 => {
                let tensor = self.graph.tensor(index)?;
                let bias = tensor.integers()?;
                if bias.len() != c {
                    return Err(tensor.fault(format_args!("{} biases for {c} channels", bias.len())));
                }
                bias
            }
            _ => vec![0; c],
        };
        let output = stored(tensor, activation)?;
        Ok(QuantizedConv { window, weights: values, scales, bias, output, shortcut: None, fully_connected })
    }

    /// Appends a convolution, together with the addition that reads it if that can be computed now.
    fn push_conv(&mut self, output: i32, value: usize, mut conv: QuantizedConv) -> Result<(), Fault> {
        let mut result = output;
        if let Some(&(1, reader)) = self.readers.get(&output)
            && reader < self.graph.operators.len()
        {
            let op = self.graph.operators.table(reader)?;
            let operands = inputs(&op)?;
            let other = operands.iter().find(|tensor| **tensor != output);
            let other = other.and_then(|tensor| Some((*tensor, *self.sources.get(tensor)?)));
            if self.graph.code(&op)? == operator::ADD
                && operands.len() == 2
                && let Some((tensor, source)) = other
            {
                let (shortcut, sum) = self.addition(&op, tensor, source, conv.window.output)?;
                conv.shortcut = Some(shortcut);
                result = sum;
                self.fused.push(reader);
            }
        }
        let tensor = self.graph.tensor(output)?;
        self.push(&tensor, result, value, Kind::Conv(conv));
        Ok(())
    }

    fn addition(&self, op: &Table<'f>, other: i32, source: Source, map: Shape) -> Result<(Shortcut, i32), Fault> {
        let outputs = op.vector(field::operator::OUTPUTS, 4)?;
        let sum = outputs.i32(0)?;
        if outputs.len() != 1 || self.sources.contains_key(&sum) {
            return Err("the addition that follows has no output of its own".into());
        }
        let tensor = self.graph.tensor(sum)?;
        let shapes = [self.graph.tensor(other)?.map()?, tensor.map()?];
        if shapes != [map; 2] {
            return Err(
                tensor.fault(format_args!("{} added to {map} gives {}: shapes must be equal", shapes[0], shapes[1]))
            );
        }
        let (value, stride, before) = match source {
            Source::Value(value) => (value, 1, 0),
            Source::Sliced { value, stride, before } => (value, stride, before),
            Source::Padded { .. } => return Err("a map with padded rows cannot be added".into()),
        };
        let activation =
            op.table(field::operator::OPTIONS)?.map_or(Ok(activation::NONE), |o| o.i8(field::ACTIVATION))?;
        Ok((Shortcut { value, stride, before, output: stored(&tensor, activation)? }, sum))
    }

    fn pool(&mut self, code: i32, inputs: &[i32], output: i32, options: &Table<'f>) -> Result<(), Fault> {
        let (value, input, quantization) = self.value(inputs)?;
        let tensor = self.graph.tensor(output)?;
        let map = tensor.map()?;
        let filter = [options.i32(field::pool::FILTER_H, 0)?, options.i32(field::pool::FILTER_W, 0)?];
        let strides = [options.i32(field::pool::STRIDE_H, 0)?, options.i32(field::pool::STRIDE_W, 0)?];
        if options.i8(field::pool::ACTIVATION)? != activation::NONE || tensor.activation()? != quantization {
            return Err(tensor.fault("a pool must keep its input's encoding and have no activation"));
        }
        if code == operator::AVERAGE_POOL_2D {
            let whole = [input.h as i64, input.w as i64];
            if filter.map(i64::from) != whole || map != Shape::new(1, 1, input.c) {
                return Err(format!("filter {filter:?} on {input} to {map}: only the whole map is supported"));
            }
            self.push(&tensor, output, value, Kind::GlobalAveragePool);
            return Ok(());
        }
        if filter[0] != filter[1] || strides[0] != strides[1] || map.c != input.c {
            return Err(format!("filter {filter:?}, strides {strides:?}, {input} to {map}: only square ones"));
        }
        let padding = options.i8(field::pool::PADDING)?;
        let window = window(input, map, filter[0], strides[0], padding, [0; 2], [0; 2])?;
        self.push(&tensor, output, value, Kind::MaxPool(window));
        Ok(())
    }

    fn reshape(&mut self, inputs: &[i32], output: i32) -> Result<(), Fault> {
        let (value, input, quantization) = self.value(inputs)?;
        let tensor = self.graph.tensor(output)?;
        if tensor.map()? != input || tensor.activation()? != quantization {
            return Err(tensor.fault(format_args!("{input} becomes {:?}: only 1x1 maps become vectors", tensor.shape)));
        }
        self.sources.insert(output, Source::Value(value));
        Ok(())
    }

    fn pad(&mut self, inputs: &[i32], output: i32) -> Result<(), Fault> {
        let &[from, by] = inputs else { return Err(format!("{} inputs, 2 needed", inputs.len())) };
        let (tensor, from) = (self.graph.tensor(output)?, self.graph.tensor(from)?);
        let pads = self.graph.tensor(by)?.integers()?;
        if pads.len() != 8 || pads.iter().any(|p| !(0..=1 << 14).contains(p)) || pads[..2] != [0, 0] {
            return Err(format!("padding {pads:?}: four pairs without a sign, none for the batch, needed"));
        }
        let pad = |i: usize| pads[i] as usize;
        let (input, map) = (from.map()?, tensor.map()?);
        let padded = Shape::new(input.h + pad(2) + pad(3), input.w + pad(4) + pad(5), input.c + pad(6) + pad(7));
        if map != padded || tensor.activation()? != from.activation()? {
            return Err(tensor.fault(format_args!("{map}, where padding {input} gives {padded}, or another encoding")));
        }
        let source = match self.source(inputs)? {
            Source::Value(value) if pads[6..] == [0, 0] => {
                Source::Padded { value, before: [pad(2), pad(4)], after: [pad(3), pad(5)] }
            }
            Source::Value(value) if pads[2..6] == [0; 4] => Source::Sliced { value, stride: 1, before: pad(6) },
            Source::Sliced { value, stride, before } if pads[2..6] == [0; 4] => {
                Source::Sliced { value, stride, before: before + pad(6) }
            }
            _ => return Err(format!("padding {pads:?} of rows or columns and channels at once is not supported")),
        };
        self.sources.insert(output, source);
        Ok(())
    }

    fn slice(&mut self, inputs: &[i32], output: i32, options: &Table<'f>) -> Result<(), Fault> {
        let (value, input, quantization) = self.value(inputs)?;
        let tensor = self.graph.tensor(output)?;
        let &[_, begin, end, strides] = inputs else { return Err(format!("{} inputs, 4 needed", inputs.len())) };
        let integers = |tensor| self.graph.tensor(tensor)?.integers();
        let (begin, end, strides) = (integers(begin)?, integers(end)?, integers(strides)?);
        let mut masks = [0; 5];
        for (mask, at) in masks.iter_mut().zip(field::strided_slice::MASKS) {
            *mask = options.i32(at, 0)?;
        }
        let sizes = [1, input.h, input.w, input.c];
        let whole = |axis: usize| {
            let masked = |mask: i32| mask >> axis & 1 == 1;
            (masked(masks[0]) || begin.get(axis) == Some(&0))
                && (masked(masks[1]) || end.get(axis).is_some_and(|e| *e as i64 == sizes[axis] as i64))
        };
        let four = [&begin, &end, &strides].iter().all(|v| v.len() == 4);
        if !four || masks[2..] != [0; 3] || !(0..4).all(whole) {
            return Err("only slices of a whole map are supported".into());
        }
        let stride = match strides[..] {
            [1, a, b, 1] if a == b && (1..=64).contains(&a) => a as usize,
            _ => return Err(format!("strides {strides:?}: equal ones of rows and columns, 1 to 64, needed")),
        };
        let map = Shape::new(input.h.div_ceil(stride), input.w.div_ceil(stride), input.c);
        if tensor.map()? != map || tensor.activation()? != quantization {
            return Err(tensor.fault(format_args!("the slice of {input} must be {map} and keep its encoding")));
        }
        self.sources.insert(output, Source::Sliced { value, stride, before: 0 });
        Ok(())
    }

    fn softmax(&mut self, inputs: &[i32], output: i32, options: &Table<'f>) -> Result<(), Fault> {
        let (value, input, quantization) = self.value(inputs)?;
        let tensor = self.graph.tensor(output)?;
        let beta = options.f32(field::softmax::BETA)?;
        if (input.h, input.w) != (1, 1) || tensor.map()? != input {
            return Err(tensor.fault(format_args!("softmax of {input}: only vectors are supported")));
        }
        let encoding = tensor.activation()?;
        if encoding.zero_point != -128 || (encoding.scale * 256.0 - 1.0).abs() > 0.001 {
            return Err(tensor.fault("a softmax has scale 1/256 and zero point -128"));
        }
        let softmax = Softmax::new(beta, quantization.scale);
        let refuse = || format!("beta {beta} with scale {} is not usable", quantization.scale);
        self.softmax = Some(softmax.ok_or_else(refuse)?);
        self.sources.insert(output, Source::Value(value));
        Ok(())
    }
}

fn inputs(op: &Table<'_>) -> Result<Vec<i32>, Fault> {
    let inputs = op.vector(field::operator::INPUTS, 4)?;
    if inputs.len() > 16 {
        return Err(format!("an operator with {} inputs", inputs.len()));
    }
    Ok(inputs.i32s()?)
}

/// The encoding of a result, clamped as its activation asks.
fn stored(tensor: &Tensor<'_>, function: i8) -> Result<Stored, Fault> {
    let quantization = tensor.activation()?;
    let at = |real: f32| {
        let steps = (real / quantization.scale).round() + f32::from(quantization.zero_point);
        steps.clamp(-128.0, 127.0) as i8
    };
    let (min, max) = match function {
        activation::NONE => (-128, 127),
        activation::RELU => (at(0.0), 127),
        activation::RELU6 => (at(0.0), at(6.0)),
        activation::RELU_N1_TO_1 => (at(-1.0), at(1.0)),
        other => return Err(tensor.fault(format_args!("activation function {other} is not supported"))),
    };
    Ok(Stored { quantization, min, max })
}

/// The window of an operator with TensorFlow's padding; `around` are explicit rows and columns before the map,
/// `sizes` all of them.
fn window(
    input: Shape,
    output: Shape,
    kernel: i32,
    stride: i32,
    padding: i8,
    around: [usize; 2],
    sizes: [usize; 2],
) -> Result<Window, Fault> {
    let bounded = |v: i32| usize::try_from(v).ok().filter(|v| (1..=64).contains(v));
    let (Some(kernel), Some(stride)) = (bounded(kernel), bounded(stride)) else {
        return Err(format!("kernel {kernel}, stride {stride}: 1 to 64 needed"));
    };
    // Extent of the output, and padding before the map.
    let axis = |n: usize, before: usize, all: usize| match padding {
        PADDING_SAME => {
            let out = n.div_ceil(stride);
            Ok((out, ((out - 1) * stride + kernel).saturating_sub(n) / 2))
        }
        PADDING_VALID if n + all >= kernel => Ok(((n + all - kernel) / stride + 1, before)),
        PADDING_VALID => Err(format!("kernel {kernel} is larger than its input {input}")),
        other => Err(format!("padding kind {other} is not known")),
    };
    let (h, pad_top) = axis(input.h, around[0], sizes[0])?;
    let (w, pad_left) = axis(input.w, around[1], sizes[1])?;
    let window = Window { input, output: Shape::new(h, w, output.c), kernel, stride, pad_top, pad_left };
    if window.output != output {
        return Err(format!("its output is {output}, {} expected", window.output));
    }
    if !window.is_valid() {
        return Err(format!(
            "{input} to {output} with kernel {kernel}, stride {stride} is too large or padded too far"
        ));
    }
    Ok(window)
}
