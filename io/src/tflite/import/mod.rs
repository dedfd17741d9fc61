//! A .tflite graph as a list of ops.

mod conv;

use std::collections::BTreeMap;

use residual_core::{geom::Shape, quant::Softmax};

use super::{
    flat::Table,
    schema::{activation, field, operator},
    tensor::{Fault, Graph, Tensor},
};
use crate::quantized::{Kind, Layer, Network, Quantization};
use conv::window;

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
