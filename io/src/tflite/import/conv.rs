//! Convolutions, the classifier, and the additions that become part of them.

use residual_core::{geom::Shape, quant::Window};

use super::{
    super::{
        flat::Table,
        names,
        schema::{PADDING_SAME, PADDING_VALID, activation, field, operator},
        tensor::{Fault, Tensor},
    },
    Reader, Source, inputs,
};
use crate::quantized::{Kind, QuantizedConv, Shortcut, Stored};

/// A value with rows and columns around it.
pub(super) struct Around {
    pub value: usize,
    /// rows and columns before the map
    pub before: [usize; 2],
    /// all rows and columns that are added
    pub sizes: [usize; 2],
    /// what they hold
    pub fill: Option<i8>,
}

impl<'f> Reader<'f> {
    pub(super) fn conv(&mut self, inputs: &[i32], output: i32, options: &Table<'f>) -> Result<(), Fault> {
        let padding = options.i8(field::conv::PADDING)?;
        let Around { value, before, sizes, fill } = self.around(inputs, padding)?;
        let (input, quantization) = self.network.value(value).ok_or("its input has no shape")?;
        if let Some(fill) = fill.filter(|fill| *fill != quantization.zero_point) {
            return Err(format!(
                "its input is padded with {fill}, only 0.0, which is {}, can be",
                quantization.zero_point
            ));
        }
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
        let window = window(input, map, kernel, strides[0], padding, before, sizes)?;
        let conv = self.layer(inputs, &tensor, &weights, window, options.i8(field::conv::ACTIVATION)?, false)?;
        self.push_conv(output, value, conv)
    }

    /// The value a window moves over, and the PAD around it; `padding` is the window's own.
    pub(super) fn around(&self, inputs: &[i32], padding: i8) -> Result<Around, Fault> {
        match self.source(inputs)? {
            Source::Value(value) => Ok(Around { value, before: [0; 2], sizes: [0; 2], fill: None }),
            Source::Padded { .. } if padding == PADDING_SAME => {
                Err("its input is padded twice: convert with padding VALID behind a PAD".into())
            }
            Source::Padded { value, before, after, fill } => {
                Ok(Around { value, before, sizes: [before[0] + after[0], before[1] + after[1]], fill: Some(fill) })
            }
            Source::Sliced { .. } => Err("its input is sliced, which is supported before ADD only".into()),
        }
    }

    pub(super) fn fully_connected(&mut self, inputs: &[i32], output: i32, options: &Table<'f>) -> Result<(), Fault> {
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
        other => {
            let name = names::activation(other);
            return Err(tensor.fault(format_args!("activation {name} is not supported: use ReLU, ReLU6 or none")));
        }
    };
    Ok(Stored { quantization, min, max })
}

/// The window of an operator with TensorFlow's padding; `around` are explicit rows and columns before the map,
/// `sizes` all of them.
pub(super) fn window(
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
