//! The ops of a quantized network: plain data that borrows its weights.

use super::{Requant, Rounding, saturate};
use crate::geom::{Shape, Window};

/// The int8 encoding of an op's result; ReLU is a clamp (`min = zero_point`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Encoding {
    /// the int8 that means 0.0
    pub zero_point: i8,
    /// smallest value produced
    pub min: i8,
    /// largest value produced
    pub max: i8,
}

impl Encoding {
    /// `value + zero_point`, clamped.
    pub const fn encode(self, value: i32) -> i8 {
        saturate(value, self.zero_point, self.min, self.max)
    }
}

/// A convolution with, if it ends a block, the addition of the block's shortcut. A fully connected
/// layer is the 1x1 convolution of a 1x1 map.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Conv<'m> {
    /// its geometry
    pub window: Window,
    /// the input's int8 for 0.0
    pub input_zero: i8,
    /// OHWI, symmetric: `c_out * kernel * kernel * c_in` values in `-127..=127`
    pub weights: &'m [i8],
    /// per output channel, at scale `input * weight`
    pub bias: &'m [i32],
    /// per output channel: [`Requant::mult`]
    pub mult: &'m [i32],
    /// per output channel: [`Requant::shift`]
    pub shift: &'m [i8],
    /// how sums are rescaled
    pub rounding: Rounding,
    /// what the convolution itself produces
    pub output: Encoding,
    /// what is added to it before it is stored
    pub add: Option<Add>,
}

impl Conv<'_> {
    /// Whether every slice has the length the geometry asks for.
    pub fn is_consistent(&self) -> bool {
        let c = self.window.output.c;
        self.weights.len() == self.window.weight_len()
            && self.bias.len() == c
            && self.mult.len() == c
            && self.shift.len() == c
    }

    /// What happens to its sums.
    pub fn epilogue(&self) -> Epilogue {
        Epilogue { rounding: self.rounding, output: self.output, add: self.add }
    }

    /// What the op stores in the end.
    pub fn stored(&self) -> Encoding {
        self.add.map_or(self.output, |add| add.output)
    }
}

/// What happens to the sums of a convolution, besides its factors per channel.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Epilogue {
    /// how sums are rescaled
    pub rounding: Rounding,
    /// what the convolution itself produces
    pub output: Encoding,
    /// what is added to it before it is stored
    pub add: Option<Add>,
}

/// TFLite's int8 ADD of a convolution's result and a shortcut. Both are shifted left by
/// [`Add::LEFT_SHIFT`] bits, rescaled to a common scale, added, and rescaled to the output's.
///
/// Option A's strided slice and zero padding are part of it: output pixel `(y, x)`, channel `c`
/// adds the shortcut's pixel `(stride y, stride x)`, channel `c - before`, or its zero point where
/// that channel does not exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Add {
    /// the map that is added
    pub shortcut: Shape,
    /// stride of both axes into it
    pub stride: usize,
    /// zero channels before its own
    pub before: usize,
    /// its int8 for 0.0
    pub shortcut_zero: i8,
    /// the convolution's result to the common scale
    pub rescale_conv: Requant,
    /// the shortcut to the common scale
    pub rescale_shortcut: Requant,
    /// the sum to the output's scale
    pub rescale_sum: Requant,
    /// the output
    pub output: Encoding,
}

impl Add {
    /// Bits both inputs are shifted left before they are rescaled.
    pub const LEFT_SHIFT: u32 = 20;

    /// The three factors TFLite derives from the scales of the convolution's result, the shortcut and
    /// the output; `None` if a scale is not a positive finite number.
    pub fn factors(conv: f64, shortcut: f64, output: f64) -> Option<[Requant; 3]> {
        if !(conv > 0.0 && shortcut > 0.0 && output > 0.0) {
            return None;
        }
        let common = 2.0 * conv.max(shortcut);
        let factors = [
            Requant::from_scale(conv / common)?,
            Requant::from_scale(shortcut / common)?,
            Requant::from_scale(common / (f64::from(1u32 << Add::LEFT_SHIFT) * output))?,
        ];
        factors.iter().all(|f| f.shift <= 0).then_some(factors)
    }

    /// The convolution's result `value` (zero point `zero`) at the common scale.
    pub const fn conv_term(&self, value: i8, zero: i8) -> i32 {
        self.rescale_conv.rescale((value as i32 - zero as i32) << Add::LEFT_SHIFT)
    }

    /// The shortcut's `value` at the common scale.
    pub const fn shortcut_term(&self, value: i8) -> i32 {
        self.rescale_shortcut.rescale((value as i32 - self.shortcut_zero as i32) << Add::LEFT_SHIFT)
    }

    /// The sum of two terms as it is stored.
    pub const fn encode(&self, sum: i32) -> i8 {
        self.output.encode(self.rescale_sum.rescale(sum))
    }

    /// Whether the shortcut covers `output` and no rescaling can overflow.
    pub fn is_valid(&self, output: Shape) -> bool {
        let Shape { h, w, c } = self.shortcut;
        let factor = |r: Requant| r.is_valid() && r.shift <= 0;
        (1..=64).contains(&self.stride)
            && h.div_ceil(self.stride) == output.h
            && w.div_ceil(self.stride) == output.w
            && c.checked_add(self.before).is_some_and(|c| c <= output.c)
            && factor(self.rescale_conv)
            && factor(self.rescale_shortcut)
            && factor(self.rescale_sum)
    }
}

/// TFLite's int8 MEAN over rows and columns: a global average pool whose result has an encoding of its own.
///
/// The definition rescales the sum of `x - input_zero` with one factor in which the division by the number of
/// pixels is included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Mean {
    /// the map it reads
    pub input: Shape,
    /// the input's int8 for 0.0
    pub input_zero: i8,
    /// the sum to the output's scale; its mantissa may be any that is not negative
    pub factor: Requant,
    /// the int8 that means 0.0 in the output
    pub output_zero: i8,
}

impl Mean {
    /// Most pixels of a map: the sum of their distances from a zero point fits 32 bits.
    pub const MOST_PIXELS: usize = 1 << 23;

    /// The factor TFLite derives from the quotient of the input's and the output's scale and the number of
    /// pixels; `None` where one of them is not usable.
    pub const fn factor(scale: f64, pixels: usize) -> Option<Requant> {
        if pixels == 0 || pixels > Mean::MOST_PIXELS {
            return None;
        }
        let Some(Requant { mult, shift }) = Requant::from_scale(scale) else { return None };
        let (log, room) = (pixels.ilog2() as i32, 31 + shift as i32);
        let bits = if log < room { log } else { room };
        Some(Requant { mult: (((mult as i64) << bits) / pixels as i64) as i32, shift: shift - bits as i8 })
    }

    /// The sum of one channel's values, each less the input's zero point, as it is stored.
    pub const fn encode(&self, sum: i32) -> i8 {
        saturate(self.factor.rescale(sum), self.output_zero, i8::MIN, i8::MAX)
    }

    /// Whether nothing computed from it overflows.
    pub fn is_valid(&self) -> bool {
        let pixels = self.input.h as u64 * self.input.w as u64;
        let factor = self.factor.mult >= 0 && (-31..=30).contains(&self.factor.shift);
        factor && (1..=Mean::MOST_PIXELS as u64).contains(&pixels)
    }
}

/// An op. Which values it reads and writes is the model's business, not the op's.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Op<'m> {
    /// convolution or fully connected layer
    Conv(Conv<'m>),
    /// maximum of each window; padding never wins
    MaxPool(Window),
    /// mean of each channel over the whole map, rounded half away from zero
    GlobalAveragePool(Shape),
    /// mean of each channel over the whole map, rescaled
    Mean(Mean),
}

impl Op<'_> {
    /// The map it reads.
    pub fn input(&self) -> Shape {
        match self {
            Op::Conv(conv) => conv.window.input,
            Op::MaxPool(window) => window.input,
            Op::GlobalAveragePool(shape) => *shape,
            Op::Mean(mean) => mean.input,
        }
    }

    /// The map it writes.
    pub fn output(&self) -> Shape {
        match self {
            Op::Conv(conv) => conv.window.output,
            Op::MaxPool(window) => window.output,
            Op::GlobalAveragePool(shape) | Op::Mean(Mean { input: shape, .. }) => Shape::new(1, 1, shape.c),
        }
    }

    /// Multiply-adds for one image.
    pub fn macs(&self) -> u64 {
        match self {
            Op::Conv(Conv { window, .. }) => window.macs(),
            _ => 0,
        }
    }
}
