//! Writing .tflite files.

use std::collections::BTreeMap;

use flatbuffers::{FlatBufferBuilder, TableFinishedWIPOffset, WIPOffset};
use residual_core::{geom::Shape, quant::Window};

use super::schema::{
    IDENTIFIER, PADDING_SAME, PADDING_VALID, TYPE_INT8, TYPE_INT32, VERSION, activation, field, operator, options,
};
use crate::quantized::{Kind, Network, Quantization, QuantizedConv, Stored};

/// Why a network cannot be written as a .tflite file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("layer `{layer}` cannot be written as TensorFlow Lite: {reason}")]
pub struct ExportError {
    /// the layer
    pub layer: String,
    /// what the format lacks
    pub reason: &'static str,
}

type Offset = WIPOffset<TableFinishedWIPOffset>;

/// A network as the bytes of a .tflite file.
///
/// Padding that TensorFlow's `SAME` does not give becomes a PAD operator, option A's shortcut a
/// STRIDED_SLICE and a PAD.
///
/// # Errors
/// [`ExportError`] for clamps that are neither none nor ReLU, and for values that do not exist.
pub fn export(network: &Network) -> Result<Vec<u8>, ExportError> {
    let mut writer = Writer::default();
    let (shape, encoding) = (network.input, network.quantization);
    let mut values = vec![writer.map("input", shape, encoding)];
    for layer in &network.layers {
        let fail = |reason| ExportError { layer: layer.name.clone(), reason };
        let missing = || fail("it reads a value that does not exist");
        let value = |index: usize| Some((*values.get(index)?, network.value(index)?));
        let (x, (input, encoding)) = value(layer.source).ok_or_else(missing)?;
        let y = match &layer.kind {
            Kind::Conv(conv) => {
                // The shortcut's operators come first: an addition is read as part of the convolution before it.
                let added = match conv.shortcut {
                    None => None,
                    Some(shortcut) => {
                        let (other, (map, from)) = value(shortcut.value).ok_or_else(missing)?;
                        let output = conv.window.output;
                        let (stride, before) = (shortcut.stride, shortcut.before);
                        Some((shortcut, writer.shortcut(&layer.name, other, map, from, stride, before, output)))
                    }
                };
                let y = writer.conv(&layer.name, x, input, encoding, conv).map_err(fail)?;
                match added {
                    None => y,
                    Some((shortcut, other)) => {
                        let act = Field::I8(field::ACTIVATION, function(shortcut.output).map_err(fail)?);
                        let (name, encoding) = (format!("{}/add", layer.name), shortcut.output.quantization);
                        let sum = writer.map(&name, conv.window.output, encoding);
                        writer.operator(operator::ADD, &[y, other], sum, options::ADD, vec![act]);
                        sum
                    }
                }
            }
            Kind::MaxPool(window) => {
                // PAD writes zeros, which never win where nothing is below them.
                if padding(window).is_err() && network.least(layer.source) < encoding.zero_point {
                    return Err(fail("a padded max pool must follow a ReLU"));
                }
                let (x, kind) = writer.padded(&layer.name, x, window, encoding);
                let y = writer.map(&layer.name, window.output, encoding);
                let side = window.kernel as i32;
                writer.pool(operator::MAX_POOL_2D, x, y, kind, window.stride as i32, [side; 2]);
                y
            }
            Kind::GlobalAveragePool => {
                let y = writer.map(&layer.name, Shape::new(1, 1, input.c), encoding);
                let whole = [input.h as i32, input.w as i32];
                writer.pool(operator::AVERAGE_POOL_2D, x, y, PADDING_VALID, 1, whole);
                y
            }
            Kind::Mean(output) => {
                let axes = writer.integers(&format!("{}/axes", layer.name), &[2], &[1, 2]);
                let y = writer.map(&layer.name, Shape::new(1, 1, input.c), *output);
                let keep = vec![Field::I8(field::mean::KEEP_DIMS, 1)];
                writer.operator(operator::MEAN, &[x, axes], y, options::REDUCER, keep);
                y
            }
        };
        values.push(y);
    }
    let mut last = values.last().copied().unwrap_or_default();
    if let Some((shape, encoding)) = network.value(network.layers.len()) {
        let vector = writer.tensor(
            "output",
            &[1, shape.elements() as i32],
            TYPE_INT8,
            &[],
            Some((&[encoding.scale], i64::from(encoding.zero_point))),
        );
        let shape = writer.integers("output/shape", &[2], &[1, shape.elements() as i32]);
        writer.operator(operator::RESHAPE, &[last, shape], vector, options::RESHAPE, Vec::new());
        last = vector;
    }
    Ok(writer.finish(values.first().copied().unwrap_or_default(), last))
}

/// NONE or RELU.
fn function(stored: Stored) -> Result<i8, &'static str> {
    match (stored.min, stored.max) {
        (-128, 127) => Ok(activation::NONE),
        (min, 127) if min == stored.quantization.zero_point => Ok(activation::RELU),
        _ => Err("its clamp is neither none nor ReLU"),
    }
}

/// TensorFlow's name for a window's padding, or the rows and columns to add before and after.
fn padding(window: &Window) -> Result<i8, [i32; 4]> {
    let Window { input, output, kernel, stride, pad_top, pad_left } = *window;
    let need = |out: usize| (out - 1) * stride + kernel;
    let after = |n: usize, out: usize, pad: usize| need(out).saturating_sub(n + pad);
    let same = |n: usize, out: usize, pad: usize| out == n.div_ceil(stride) && pad == need(out).saturating_sub(n) / 2;
    if same(input.h, output.h, pad_top) && same(input.w, output.w, pad_left) {
        return Ok(PADDING_SAME);
    }
    let pads = [pad_top, after(input.h, output.h, pad_top), pad_left, after(input.w, output.w, pad_left)];
    if pads == [0; 4] { Ok(PADDING_VALID) } else { Err(pads.map(|p| p as i32)) }
}

/// A field of an operator's options.
pub(super) enum Field {
    I8(usize, i8),
    I32(usize, i32),
}

/// A file as it grows.
#[derive(Default)]
pub(super) struct Writer {
    fbb: FlatBufferBuilder<'static>,
    tensors: Vec<Offset>,
    operators: Vec<Offset>,
    /// buffer 0 is empty, as the schema asks
    buffers: Vec<Offset>,
    codes: BTreeMap<i32, u32>,
}

/// Where field `index` lies in a vtable.
const fn slot(index: usize) -> u16 {
    (4 + 2 * index) as u16
}

impl Writer {
    fn buffer(&mut self, data: &[u8]) -> u32 {
        if self.buffers.is_empty() {
            let start = self.fbb.start_table();
            self.buffers.push(self.fbb.end_table(start));
        }
        if data.is_empty() {
            return 0;
        }
        let data = self.fbb.create_vector(data);
        let start = self.fbb.start_table();
        self.fbb.push_slot_always(slot(field::buffer::DATA), data);
        self.buffers.push(self.fbb.end_table(start));
        self.buffers.len() as u32 - 1
    }

    /// A tensor; scales of more than one go with the first dimension.
    pub(super) fn tensor(
        &mut self,
        name: &str,
        shape: &[i32],
        kind: i8,
        data: &[u8],
        encoding: Option<(&[f32], i64)>,
    ) -> i32 {
        let buffer = self.buffer(data);
        let name = self.fbb.create_string(name);
        let shape = self.fbb.create_vector(shape);
        let quantization = encoding.map(|(scales, zero)| {
            let zeros = self.fbb.create_vector(&vec![zero; scales.len()]);
            let scales = self.fbb.create_vector(scales);
            let start = self.fbb.start_table();
            self.fbb.push_slot_always(slot(field::quantization::SCALE), scales);
            self.fbb.push_slot_always(slot(field::quantization::ZERO_POINT), zeros);
            self.fbb.end_table(start)
        });
        let start = self.fbb.start_table();
        self.fbb.push_slot_always(slot(field::tensor::SHAPE), shape);
        self.fbb.push_slot_always(slot(field::tensor::TYPE), kind);
        self.fbb.push_slot_always(slot(field::tensor::BUFFER), buffer);
        self.fbb.push_slot_always(slot(field::tensor::NAME), name);
        if let Some(quantization) = quantization {
            self.fbb.push_slot_always(slot(field::tensor::QUANTIZATION), quantization);
        }
        self.tensors.push(self.fbb.end_table(start));
        self.tensors.len() as i32 - 1
    }

    pub(super) fn map(&mut self, name: &str, shape: Shape, encoding: Quantization) -> i32 {
        let shape = [1, shape.h as i32, shape.w as i32, shape.c as i32];
        self.tensor(name, &shape, TYPE_INT8, &[], Some((&[encoding.scale], i64::from(encoding.zero_point))))
    }

    pub(super) fn integers(&mut self, name: &str, shape: &[i32], values: &[i32]) -> i32 {
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.tensor(name, shape, TYPE_INT32, &bytes, None)
    }

    pub(super) fn operator(&mut self, code: i32, inputs: &[i32], output: i32, kind: u8, fields: Vec<Field>) {
        let next = self.codes.len() as u32;
        let index = *self.codes.entry(code).or_insert(next);
        let inputs = self.fbb.create_vector(inputs);
        let outputs = self.fbb.create_vector(&[output]);
        let start = self.fbb.start_table();
        for field in fields {
            match field {
                Field::I8(index, value) => self.fbb.push_slot_always(slot(index), value),
                Field::I32(index, value) => self.fbb.push_slot_always(slot(index), value),
            }
        }
        let options = self.fbb.end_table(start);
        let start = self.fbb.start_table();
        self.fbb.push_slot_always(slot(field::operator::OPCODE), index);
        self.fbb.push_slot_always(slot(field::operator::INPUTS), inputs);
        self.fbb.push_slot_always(slot(field::operator::OUTPUTS), outputs);
        self.fbb.push_slot_always(slot(field::operator::OPTIONS_TYPE), kind);
        self.fbb.push_slot_always(slot(field::operator::OPTIONS), options);
        self.operators.push(self.fbb.end_table(start));
    }

    /// The input of a window, padded if TensorFlow has no name for its padding, and that name.
    fn padded(&mut self, name: &str, x: i32, window: &Window, encoding: Quantization) -> (i32, i8) {
        match padding(window) {
            Ok(kind) => (x, kind),
            Err([top, bottom, left, right]) => {
                let Shape { h, w, c } = window.input;
                let padded = Shape::new(h + (top + bottom) as usize, w + (left + right) as usize, c);
                let y = self.pad(&format!("{name}/pad"), x, padded, encoding, [top, bottom, left, right, 0, 0]);
                (y, PADDING_VALID)
            }
        }
    }

    fn pad(&mut self, name: &str, x: i32, shape: Shape, encoding: Quantization, pads: [i32; 6]) -> i32 {
        let all: Vec<i32> = [0, 0].into_iter().chain(pads).collect();
        let by = self.integers(&format!("{name}/by"), &[4, 2], &all);
        let y = self.map(name, shape, encoding);
        self.operator(operator::PAD, &[x, by], y, options::PAD, Vec::new());
        y
    }

    fn conv(
        &mut self,
        name: &str,
        x: i32,
        input: Shape,
        encoding: Quantization,
        conv: &QuantizedConv,
    ) -> Result<i32, &'static str> {
        let window = &conv.window;
        let (k, c) = (window.kernel as i32, window.output.c as i32);
        let act = function(conv.output)?;
        let weights: Vec<u8> = conv.weights.iter().map(|w| *w as u8).collect();
        let dense = conv.fully_connected && input.h * input.w == 1;
        let shape: &[i32] = if dense { &[c, input.c as i32] } else { &[c, k, k, input.c as i32] };
        let w = self.tensor(&format!("{name}/weights"), shape, TYPE_INT8, &weights, Some((&conv.scales, 0)));
        let bytes: Vec<u8> = conv.bias.iter().flat_map(|v| v.to_le_bytes()).collect();
        let scales: Vec<f32> = conv.scales.iter().map(|s| s * encoding.scale).collect();
        let b = self.tensor(&format!("{name}/bias"), &[c], TYPE_INT32, &bytes, Some((&scales, 0)));
        if dense {
            let q = conv.output.quantization;
            let vector = |c: usize| [1, c as i32];
            let from = self.tensor(
                &format!("{name}/vector"),
                &vector(input.c),
                TYPE_INT8,
                &[],
                Some((&[encoding.scale], i64::from(encoding.zero_point))),
            );
            let to = self.integers(&format!("{name}/shape"), &[2], &vector(input.c));
            self.operator(operator::RESHAPE, &[x, to], from, options::RESHAPE, Vec::new());
            let y = self.tensor(
                name,
                &vector(window.output.c),
                TYPE_INT8,
                &[],
                Some((&[q.scale], i64::from(q.zero_point))),
            );
            self.operator(
                operator::FULLY_CONNECTED,
                &[from, w, b],
                y,
                options::FULLY_CONNECTED,
                vec![Field::I8(field::ACTIVATION, act)],
            );
            return Ok(y);
        }
        let (x, kind) = self.padded(name, x, window, encoding);
        let y = self.map(name, window.output, conv.output.quantization);
        let stride = window.stride as i32;
        let fields = vec![
            Field::I8(field::conv::PADDING, kind),
            Field::I32(field::conv::STRIDE_W, stride),
            Field::I32(field::conv::STRIDE_H, stride),
            Field::I8(field::conv::ACTIVATION, act),
            Field::I32(field::conv::DILATION_W, 1),
            Field::I32(field::conv::DILATION_H, 1),
        ];
        self.operator(operator::CONV_2D, &[x, w, b], y, options::CONV, fields);
        Ok(y)
    }

    /// A shortcut in the shape of what it is added to.
    #[allow(clippy::too_many_arguments)] // the fields of a shortcut and of its value
    fn shortcut(
        &mut self,
        name: &str,
        x: i32,
        map: Shape,
        encoding: Quantization,
        stride: usize,
        before: usize,
        output: Shape,
    ) -> i32 {
        let mut x = x;
        if stride != 1 {
            let name = format!("{name}/slice");
            let integers = |shape: Shape, batch: i32| [batch, shape.h as i32, shape.w as i32, shape.c as i32];
            let begin = self.integers(&format!("{name}/begin"), &[4], &[0; 4]);
            let end = self.integers(&format!("{name}/end"), &[4], &integers(map, 1));
            let steps = self.integers(&format!("{name}/strides"), &[4], &[1, stride as i32, stride as i32, 1]);
            let y = self.map(&name, Shape::new(output.h, output.w, map.c), encoding);
            self.operator(operator::STRIDED_SLICE, &[x, begin, end, steps], y, options::STRIDED_SLICE, Vec::new());
            x = y;
        }
        if map.c == output.c {
            return x;
        }
        let after = output.c.saturating_sub(map.c + before);
        self.pad(&format!("{name}/channels"), x, output, encoding, [0, 0, 0, 0, before as i32, after as i32])
    }

    pub(super) fn pool(&mut self, code: i32, x: i32, y: i32, padding: i8, stride: i32, filter: [i32; 2]) {
        let fields = vec![
            Field::I8(field::pool::PADDING, padding),
            Field::I32(field::pool::STRIDE_W, stride),
            Field::I32(field::pool::STRIDE_H, stride),
            Field::I32(field::pool::FILTER_W, filter[1]),
            Field::I32(field::pool::FILTER_H, filter[0]),
        ];
        self.operator(code, &[x], y, options::POOL, fields);
    }

    pub(super) fn finish(mut self, input: i32, output: i32) -> Vec<u8> {
        let mut codes: Vec<(i32, u32)> = self.codes.iter().map(|(code, index)| (*code, *index)).collect();
        codes.sort_by_key(|(_, index)| *index);
        let fbb = &mut self.fbb;
        let codes: Vec<Offset> = codes
            .into_iter()
            .map(|(code, _)| {
                let version = match code {
                    // int8 versions
                    operator::CONV_2D => 3,
                    operator::FULLY_CONNECTED => 4,
                    operator::RESHAPE => 1,
                    _ => 2,
                };
                let start = fbb.start_table();
                fbb.push_slot_always(slot(field::operator_code::DEPRECATED), code as i8);
                fbb.push_slot_always(slot(field::operator_code::VERSION), version);
                fbb.push_slot_always(slot(field::operator_code::BUILTIN), code);
                fbb.end_table(start)
            })
            .collect();
        let (tensors, operators) = (fbb.create_vector(&self.tensors), fbb.create_vector(&self.operators));
        let (inputs, outputs) = (fbb.create_vector(&[input]), fbb.create_vector(&[output]));
        let name = fbb.create_string("main");
        let start = fbb.start_table();
        fbb.push_slot_always(slot(field::subgraph::TENSORS), tensors);
        fbb.push_slot_always(slot(field::subgraph::INPUTS), inputs);
        fbb.push_slot_always(slot(field::subgraph::OUTPUTS), outputs);
        fbb.push_slot_always(slot(field::subgraph::OPERATORS), operators);
        fbb.push_slot_always(slot(field::subgraph::NAME), name);
        let graph = fbb.end_table(start);
        let graphs = fbb.create_vector(&[graph]);
        let (codes, buffers) = (fbb.create_vector(&codes), fbb.create_vector(&self.buffers));
        let description = fbb.create_string("residual");
        let start = fbb.start_table();
        fbb.push_slot_always(slot(field::model::VERSION), VERSION);
        fbb.push_slot_always(slot(field::model::OPERATOR_CODES), codes);
        fbb.push_slot_always(slot(field::model::SUBGRAPHS), graphs);
        fbb.push_slot_always(slot(field::model::DESCRIPTION), description);
        fbb.push_slot_always(slot(field::model::BUFFERS), buffers);
        let model = fbb.end_table(start);
        fbb.finish(model, Some(IDENTIFIER));
        fbb.finished_data().to_vec()
    }
}
