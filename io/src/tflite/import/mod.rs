//! A .tflite graph as a list of ops.

mod conv;
mod ends;
mod pad;
mod pool;
mod shape;

use std::collections::BTreeMap;

use residual_core::{geom::Shape, quant::Softmax};

use super::{
    End,
    flat::Table,
    schema::{TYPE_INT8, TYPE_INT32, TYPE_INT64, field, operator},
    tensor::{Fault, Graph, Tensor},
};
use crate::quantized::{Kind, Layer, Network, Quantization};

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
    /// what the file's input becomes the network's by
    pub input: End,
    /// what the network's output, or the softmax's, becomes the file's by
    pub output: End,
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
    /// rows and columns around a value
    Padded {
        value: usize,
        before: [usize; 2],
        after: [usize; 2],
        /// what they hold
        fill: i8,
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
    /// operators that became part of another op or of an end
    fused: Vec<usize>,
    /// results of operators that compute shapes
    integers: BTreeMap<i32, Vec<i32>>,
    network: Network,
    softmax: Option<Softmax>,
    input: End,
    output: Option<End>,
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
        let (input, end, fused) = ends::input(&graph, &readers)?;
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
        let integers = BTreeMap::new();
        let fused = fused.into_iter().collect();
        Ok(Reader { graph, sources, readers, fused, integers, network, softmax: None, input: end, output: None })
    }

    fn read(mut self) -> Result<Imported, Fault> {
        for index in 0..self.graph.operators.len() {
            let op = self.graph.operators.table(index)?;
            let code = self.graph.code(&op)?;
            if self.fused.contains(&index) {
                continue;
            }
            let end = matches!(code, operator::QUANTIZE | operator::DEQUANTIZE);
            let late = self.output.is_some() || (self.softmax.is_some() && !end);
            let result = if late { Err("it follows the network's output".into()) } else { self.operator(code, &op) };
            if let Err(reason) = result {
                return Err(format!("operator {index} ({}): {reason}", self.graph.operator_name(&op)?));
            }
        }
        let output = self.graph.outputs.i32(0)?;
        match self.sources.get(&output) {
            Some(Source::Value(value)) if *value == self.network.layers.len() => {}
            _ => return Err("the graph's output is not the result of its last operator".into()),
        }
        let Reader { network, softmax, input, output, .. } = self;
        Ok(Imported { network, softmax, input, output: output.unwrap_or(End::Int8) })
    }

    fn operator(&mut self, code: i32, op: &Table<'f>) -> Result<(), Fault> {
        let outputs = op.vector(field::operator::OUTPUTS, 4)?;
        if outputs.len() != 1 {
            return Err(format!("{} outputs, 1 needed", outputs.len()));
        }
        let output = outputs.i32(0)?;
        if self.sources.contains_key(&output) || self.integers.contains_key(&output) {
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
            operator::MEAN => self.mean(&inputs, output),
            operator::RESHAPE | operator::SQUEEZE => self.reshape(&inputs, output),
            operator::PAD | operator::PADV2 => self.pad(&inputs, output),
            operator::STRIDED_SLICE if self.graph.tensor(output)?.kind == TYPE_INT8 => {
                self.slice(&inputs, output, &options()?)
            }
            operator::STRIDED_SLICE => self.slice_integers(&inputs, output, &options()?),
            operator::SHAPE => self.shape(&inputs, output),
            operator::PACK => self.pack(&inputs, output),
            operator::SOFTMAX => self.softmax(&inputs, output, &options()?),
            operator::QUANTIZE | operator::DEQUANTIZE => self.convert(code, &inputs, output),
            operator::MIRROR_PAD => Err("a mirrored border is not supported: pad with zeros before converting".into()),
            _ => self.unsupported(output),
        }
    }

    /// Why an operator that no residual network needs is refused.
    fn unsupported(&self, output: i32) -> Result<(), Fault> {
        let tensor = self.graph.tensor(output)?;
        Err(match tensor.kind {
            TYPE_INT32 | TYPE_INT64 => "it computes a shape: convert with a fixed batch of 1".into(),
            TYPE_INT8 => {
                "not supported: leave it out or fold it into a neighbour before converting; int8 networks may \
                          hold CONV_2D, ADD, MAX_POOL_2D, AVERAGE_POOL_2D, MEAN, FULLY_CONNECTED, PAD, RESHAPE, SOFTMAX"
                    .into()
            }
            _ => match tensor.activation() {
                Err(reason) => reason,
                Ok(_) => "not supported".into(),
            },
        })
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
            _ => {
                Err("its input is padded or sliced, which is supported before CONV_2D, MAX_POOL_2D and ADD only".into())
            }
        }
    }

    fn push(&mut self, tensor: &Tensor<'_>, output: i32, source: usize, kind: Kind) {
        // Converters name a tensor after everything fused into it; the first part says where it began.
        let name = tensor.name.split(';').next().unwrap_or_default().to_owned();
        self.network.layers.push(Layer { name, source, kind });
        self.sources.insert(output, Source::Value(self.network.layers.len()));
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
