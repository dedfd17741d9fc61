//! A quantized network with its real scales: what the quantizer makes, what a .tflite file holds, and
//! what becomes a model file.

pub use residual_core::quant::Quantization;
use residual_core::{
    geom::Shape,
    quant::{Add, Conv, Encoding, Mean, Requant, Rounding, Window},
    rsd::{AlignedBytes, Builder, FormatError, Preprocessing},
};

/// The result of an op: its encoding and the values that are produced.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stored {
    /// how it is encoded
    pub quantization: Quantization,
    /// smallest value produced
    pub min: i8,
    /// largest value produced
    pub max: i8,
}

impl Stored {
    /// Any value of this encoding.
    pub fn full(quantization: Quantization) -> Self {
        Stored { quantization, min: -128, max: 127 }
    }

    /// Nothing below 0.0.
    pub fn relu(quantization: Quantization) -> Self {
        Stored { quantization, min: quantization.zero_point, max: 127 }
    }

    pub(crate) fn encoding(self) -> Encoding {
        Encoding { zero_point: self.quantization.zero_point, min: self.min, max: self.max }
    }
}

/// The shortcut a convolution adds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shortcut {
    /// the value that is added
    pub value: usize,
    /// stride of both axes into it
    pub stride: usize,
    /// zero channels before its own
    pub before: usize,
    /// the sum
    pub output: Stored,
}

/// A convolution or fully connected layer.
#[derive(Clone, Debug, PartialEq)]
pub struct QuantizedConv {
    /// its geometry
    pub window: Window,
    /// OHWI, in `-127..=127`
    pub weights: Vec<i8>,
    /// per output channel, or one for all
    pub scales: Vec<f32>,
    /// per output channel, at scale `input * weight`
    pub bias: Vec<i32>,
    /// what the convolution itself produces
    pub output: Stored,
    /// what is added to it
    pub shortcut: Option<Shortcut>,
    /// a FULLY_CONNECTED operator in TensorFlow Lite; there the product of the input's and a single
    /// weight scale is rounded to f32, which decides the last bit of the multiplier
    pub fully_connected: bool,
}

/// What an op computes.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// convolution or fully connected layer
    Conv(QuantizedConv),
    /// maximum of each window
    MaxPool(Window),
    /// mean of each channel
    GlobalAveragePool,
    /// mean of each channel, rescaled to an encoding of its own: TensorFlow Lite's MEAN
    Mean(Quantization),
}

/// An op; its result is value `index + 1`.
#[derive(Clone, Debug, PartialEq)]
pub struct Layer {
    /// its name
    pub name: String,
    /// the value it reads
    pub source: usize,
    /// what it computes
    pub kind: Kind,
}

/// A quantized network.
#[derive(Clone, Debug, PartialEq)]
pub struct Network {
    /// shape of the input
    pub input: Shape,
    /// encoding of the input
    pub quantization: Quantization,
    /// ops in order
    pub layers: Vec<Layer>,
    /// the architecture's name, or nothing
    pub architecture: String,
    /// class names in the order of the outputs, if they are known
    pub classes: Vec<String>,
    /// how pictures become inputs
    pub preprocessing: Option<Preprocessing>,
}

impl Network {
    /// Shape and encoding of value `index`: 0 is the input, `i + 1` the result of op `i`.
    pub fn value(&self, index: usize) -> Option<(Shape, Quantization)> {
        let Some(mut at) = index.checked_sub(1) else { return Some((self.input, self.quantization)) };
        let own = match &self.layers.get(at)?.kind {
            Kind::Conv(conv) => Some(conv.window.output),
            Kind::MaxPool(window) => Some(window.output),
            Kind::GlobalAveragePool | Kind::Mean(_) => None,
        };
        // Pools keep their input's encoding, and global ones its channels.
        let (mut channels, mut encoding) = (None, None);
        loop {
            let layer = self.layers.get(at)?;
            if let Kind::MaxPool(window) = &layer.kind {
                channels = channels.or(Some(window.output.c));
            }
            if let Kind::Mean(output) = &layer.kind {
                encoding = encoding.or(Some(*output));
            }
            if let Kind::Conv(conv) = &layer.kind {
                let stored = conv.shortcut.map_or(conv.output, |s| s.output);
                let c = channels.unwrap_or(conv.window.output.c);
                return Some((own.unwrap_or(Shape::new(1, 1, c)), encoding.unwrap_or(stored.quantization)));
            }
            // An op reads only what was computed before it.
            let Some(before) = layer.source.checked_sub(1) else {
                let c = channels.unwrap_or(self.input.c);
                return Some((own.unwrap_or(Shape::new(1, 1, c)), encoding.unwrap_or(self.quantization)));
            };
            at = Some(before).filter(|before| *before < at)?;
        }
    }

    /// The smallest number that value `index` may hold.
    pub fn least(&self, index: usize) -> i8 {
        let mut at = index;
        while let Some(layer) = at.checked_sub(1).and_then(|layer| self.layers.get(layer)) {
            match &layer.kind {
                Kind::Conv(conv) => return conv.shortcut.map_or(conv.output, |s| s.output).min,
                // A mean may round to less than its smallest input.
                Kind::Mean(_) => return i8::MIN,
                Kind::MaxPool(_) | Kind::GlobalAveragePool if layer.source < at => at = layer.source,
                _ => return i8::MIN,
            }
        }
        i8::MIN
    }

    /// The model file.
    ///
    /// # Errors
    /// What [`Builder`] and the view report: a value that does not exist, geometry that does not fit.
    pub fn to_model(&self) -> Result<AlignedBytes, FormatError> {
        let Quantization { scale, zero_point } = self.quantization;
        let mut model = Builder::new(self.input, scale, zero_point);
        for (index, layer) in self.layers.iter().enumerate() {
            let (name, source) = (layer.name.as_str(), layer.source);
            let missing = FormatError::Op { index, reason: "it reads a value that does not exist yet" };
            let scale_fault = FormatError::Op { index, reason: "its scales do not give a usable multiplier" };
            match &layer.kind {
                Kind::MaxPool(window) => model.max_pool(name, source, window)?,
                Kind::GlobalAveragePool => model.global_average_pool(name, source)?,
                Kind::Mean(output) => {
                    let (input, from) = self.value(source).ok_or(missing)?;
                    let scale = f64::from(from.scale) / f64::from(output.scale);
                    let factor = Mean::factor(scale, input.h * input.w).ok_or(scale_fault)?;
                    let (input_zero, output_zero) = (from.zero_point, output.zero_point);
                    model.mean(name, source, &Mean { input, input_zero, factor, output_zero }, output.scale)?
                }
                Kind::Conv(conv) => {
                    let (_, input) = self.value(source).ok_or(missing)?;
                    let factors = conv.factors(input).ok_or(scale_fault)?;
                    let mult: Vec<i32> = factors.iter().map(|f| f.mult).collect();
                    let shift: Vec<i8> = factors.iter().map(|f| f.shift).collect();
                    let add = match conv.shortcut {
                        None => None,
                        Some(shortcut) => {
                            let (map, from) = self.value(shortcut.value).ok_or(missing)?;
                            Some(conv.add(shortcut, map, from).ok_or(scale_fault)?)
                        }
                    };
                    let packed = Conv {
                        window: conv.window,
                        input_zero: input.zero_point,
                        weights: &conv.weights,
                        bias: &conv.bias,
                        mult: &mult,
                        shift: &shift,
                        rounding: if conv.fully_connected { Rounding::Once } else { Rounding::Twice },
                        output: conv.output.encoding(),
                        add,
                    };
                    let shortcut = conv.shortcut.map(|s| (s.value, s.output.quantization.scale));
                    model.conv(name, source, &packed, conv.output.quantization.scale, shortcut)?
                }
            };
        }
        model.architecture(&self.architecture).classes(self.classes.iter().map(String::as_str));
        if let Some(preprocessing) = self.preprocessing {
            model.preprocessing(preprocessing);
        }
        model.finish()
    }
}

impl QuantizedConv {
    /// The weight scale of `channel`.
    pub fn scale(&self, channel: usize) -> f32 {
        self.scales.get(channel).or(self.scales.last()).copied().unwrap_or_default()
    }

    /// The rescaling factors, as TensorFlow Lite derives them from the scales.
    fn factors(&self, input: Quantization) -> Option<Vec<Requant>> {
        let output = f64::from(self.output.quantization.scale);
        let single = self.fully_connected && self.scales.len() == 1;
        (0..self.window.output.c)
            .map(|channel| {
                let weight = self.scale(channel);
                let product = match single {
                    true => f64::from(input.scale * weight),
                    false => f64::from(input.scale) * f64::from(weight),
                };
                Requant::from_scale(product / output)
            })
            .collect()
    }

    fn add(&self, shortcut: Shortcut, map: Shape, from: Quantization) -> Option<Add> {
        let scale = |q: Quantization| f64::from(q.scale);
        let output = shortcut.output.quantization;
        let [rescale_conv, rescale_shortcut, rescale_sum] =
            Add::factors(scale(self.output.quantization), scale(from), scale(output))?;
        Some(Add {
            shortcut: map,
            stride: shortcut.stride,
            before: shortcut.before,
            shortcut_zero: from.zero_point,
            rescale_conv,
            rescale_shortcut,
            rescale_sum,
            output: shortcut.output.encoding(),
        })
    }
}
