//! What a step knows before its first image: the int8 network of the weights as they are, and its packed weights.

use std::sync::Mutex;

use residual_core::{
    Error, Name,
    conv::ConvWeights,
    memory::Buffer,
    quant::{self, Add, Requant},
    rsd::View,
    threads::Executor,
};

use super::{
    super::workers::for_each,
    layers::{Conv, Layers, OpKind},
};
use crate::{
    engine::StepError,
    quantize::{Kind, Network, Quantization, QuantizedConv},
};

/// The weights of a convolution for both directions; empty for other layers.
pub(super) struct Packed {
    forward: Buffer,
    data: Buffer,
}

/// The network at one step.
pub(super) struct Step<'s> {
    /// encodings of all values
    pub values: Vec<Quantization>,
    /// of every layer; none for pools
    pub convs: Vec<Option<ConvStep<'s>>>,
}

/// A convolution at one step.
pub(super) struct ConvStep<'s> {
    pub op: quant::Conv<'s>,
    pub forward: &'s [f32],
    pub data: &'s [f32],
    /// encoding of what it reads
    pub input: Quantization,
    /// by output channel: a step of its sums in steps of its result, as the definition has it and in f32
    pub factors: Vec<(Requant, f32)>,
    /// the convolution's own result
    pub output: Rounded,
    pub sum: Option<SumStep>,
}

/// The addition of a shortcut at one step.
pub(super) struct SumStep {
    pub add: Add,
    pub output: Rounded,
    /// a step of the convolution's result and of the shortcut, in steps of the sum
    pub ratios: [f64; 2],
    /// the definition's terms, by the byte less -128
    pub terms: [Vec<i32>; 2],
}

/// What a value is rounded to, in steps from its zero point.
#[derive(Clone, Copy)]
pub(super) struct Rounded {
    pub scale: f32,
    pub zero: i16,
    pub low: f32,
    pub high: f32,
}

impl Rounded {
    fn new(scale: f32, encoding: quant::Encoding) -> Self {
        let zero = i16::from(encoding.zero_point);
        let bound = |end: i8| f32::from(i16::from(end) - zero);
        Rounded { scale, zero, low: bound(encoding.min), high: bound(encoding.max) }
    }

    /// Steps from the zero point.
    pub(super) fn steps(&self, q: i8) -> f32 {
        f32::from(i16::from(q) - self.zero)
    }

    /// What a scale's gradient is multiplied by (Esser et al., section 2.2): without it scales would move faster the
    /// more elements they serve.
    pub(super) fn damping(&self, elements: usize) -> f64 {
        1.0 / (elements as f64 * f64::from(self.high.max(1.0))).sqrt()
    }
}

impl Layers {
    /// Room for the packed weights of all layers.
    pub(super) fn packed(&self) -> Result<Vec<Packed>, Error> {
        let mut all: Vec<_> =
            self.ops.iter().map(|_| Packed { forward: Buffer::new(0), data: Buffer::new(0) }).collect();
        for (index, conv) in self.convs() {
            all[index] = Packed {
                forward: Buffer::try_new(conv.forward.packed_len(&conv.geom))?,
                data: Buffer::try_new(conv.data.map_or(0, |d| d.packed_len()))?,
            };
        }
        Ok(all)
    }

    /// Packs all weights.
    pub(super) fn pack(&self, executor: &dyn Executor, network: &Network, all: &mut [Packed]) -> Result<(), Error> {
        let failed = Mutex::new(Ok(()));
        let mut parts: Vec<(&Conv, &QuantizedConv, &mut Packed)> = Vec::new();
        for ((op, layer), packed) in self.ops.iter().zip(&network.layers).zip(all) {
            if let (OpKind::Conv(conv), Kind::Conv(layer)) = (&op.kind, &layer.kind) {
                parts.push((conv, layer, packed));
            }
        }
        for_each(executor, parts, |_, (conv, layer, packed), _| {
            if let (Err(e), Ok(mut failed)) = (packed.fill(conv, layer), failed.lock()) {
                *failed = Err(e);
            }
        });
        failed.into_inner().unwrap_or(Ok(()))
    }
}

impl Packed {
    fn fill(&mut self, conv: &Conv, layer: &QuantizedConv) -> Result<(), Error> {
        let (area, c) = (conv.geom.kernel * conv.geom.kernel, conv.geom.input.c);
        let mut oihw = vec![0.0; conv.geom.weight_len()];
        for (row, from) in oihw.chunks_exact_mut(area * c).zip(layer.weights.chunks_exact(area * c)) {
            for (tap, pixel) in from.chunks_exact(c).enumerate() {
                pixel.iter().enumerate().for_each(|(i, w)| row[i * area + tap] = f32::from(*w));
            }
        }
        let weights = ConvWeights { oihw: &oihw, scale: &[], bias: &vec![0.0; conv.geom.c_out] };
        conv.forward.prepack(&conv.geom, weights, self.forward.as_mut_slice())?;
        let Some(data) = &conv.data else { return Ok(()) };
        for (o, row) in oihw.chunks_exact_mut(area * c).enumerate() {
            row.iter_mut().for_each(|w| *w *= layer.scale(o));
        }
        data.prepack(&oihw, self.data.as_mut_slice(), &mut vec![0.0; data.scratch_len()])
    }
}

impl<'s> Step<'s> {
    pub(super) fn new(
        layers: &Layers,
        network: &Network,
        view: &View<'s>,
        packed: &'s [Packed],
    ) -> Result<Self, StepError> {
        let values: Vec<_> = (0..=network.layers.len()).filter_map(|index| Some(network.value(index)?.1)).collect();
        let mut convs = Vec::new();
        for (index, (op, packed)) in layers.ops.iter().zip(packed).enumerate() {
            let layer = &network.layers[index];
            let unusable = StepError::Scale(Name::new(&layer.name));
            let (Kind::Conv(quantized), Some(quant::Op::Conv(conv))) = (&layer.kind, view.op(index)) else {
                convs.push(None);
                continue;
            };
            let input = values[op.source];
            let output = Rounded::new(quantized.output.quantization.scale, conv.output);
            let ratio = |o| f64::from(input.scale) * f64::from(quantized.scale(o)) / f64::from(output.scale);
            let sum = match (conv.add, quantized.shortcut) {
                (Some(add), Some(shortcut)) => {
                    let sum = Rounded::new(shortcut.output.quantization.scale, add.output);
                    let other = values.get(shortcut.value).ok_or(unusable)?;
                    Some(SumStep {
                        add,
                        output: sum,
                        ratios: [output.scale, other.scale].map(|scale| f64::from(scale) / f64::from(sum.scale)),
                        terms: [
                            (-128..=127).map(|q| add.conv_term(q, conv.output.zero_point)).collect(),
                            (-128..=127).map(|q| add.shortcut_term(q)).collect(),
                        ],
                    })
                }
                _ => None,
            };
            let factors = conv.mult.iter().zip(conv.shift).map(|(&mult, &shift)| Requant { mult, shift });
            convs.push(Some(ConvStep {
                op: conv,
                forward: packed.forward.as_slice(),
                data: packed.data.as_slice(),
                input,
                factors: factors.enumerate().map(|(o, factor)| (factor, ratio(o) as f32)).collect(),
                output,
                sum,
            }));
        }
        Ok(Step { values, convs })
    }
}
