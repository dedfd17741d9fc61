//! int8 by the definition in [`crate::quant`], byte for byte.

mod direct;
mod pack;
mod pools;
#[cfg(test)]
mod tests;
mod winograd;

use core::ops::Deref;

pub use direct::Int8Direct;
pub(crate) use pools::{average_pool_int8, max_pool_int8, mean_int8};
pub use winograd::Int8Winograd;

use super::ConvKernel;
use crate::{
    Error, Isa,
    geom::Window,
    quant::{self, Conv},
    simd::{
        Tile,
        int8::{Affine, Finish, factor},
    },
};

/// An int8 kernel for one instruction set.
#[derive(Clone, Copy)]
pub enum Int8 {
    /// any side, stride and padding
    Direct(Int8Direct),
    /// 3x3, stride 1
    Winograd(Int8Winograd),
}

impl Int8 {
    /// The kernels of `isa`.
    pub fn all(isa: Isa) -> [Int8; 3] {
        [
            Int8::Direct(Int8Direct::new(isa)),
            Int8::Winograd(Int8Winograd::new(isa, Tile::Two)),
            Int8::Winograd(Int8Winograd::new(isa, Tile::Four)),
        ]
    }
}

impl Deref for Int8 {
    type Target = dyn ConvKernel<i8>;

    fn deref(&self) -> &Self::Target {
        match self {
            Int8::Direct(kernel) => kernel,
            Int8::Winograd(kernel) => kernel,
        }
    }
}

/// What begins packed weights: numbers of the layer, then four rows of numbers per channel.
struct Numbers<'p> {
    zero: i32,
    plain: bool,
    /// parts into which the input channels are divided
    parts: usize,
    affine: Option<Affine>,
    /// see [`Finish`]
    lanes: [&'p [i32]; 6],
}

impl<'p> Numbers<'p> {
    /// Words before the rows: what follows stays aligned.
    const HEAD: usize = 16;
    const ROWS: usize = 6;

    /// Words for `channels` channels, whole vectors.
    const fn len(channels: usize) -> usize {
        Numbers::HEAD + Numbers::ROWS * channels
    }

    /// Of packed weights, and what lies behind them.
    fn read(packed: &'p [i32], channels: usize) -> (Self, &'p [i32]) {
        let (numbers, rest) = packed.split_at(Numbers::len(channels));
        let (head, lanes) = numbers.split_at(Numbers::HEAD);
        let ([zero, plain, parts, is_affine], affine) = (head.first_chunk().copied().unwrap_or_default(), &head[4..]);
        let affine = affine.first_chunk().filter(|_| is_affine != 0).copied().map(Affine::from_words);
        let lanes = core::array::from_fn(|i| &lanes[i * channels..(i + 1) * channels]);
        (Numbers { zero, plain: plain != 0, parts: parts as usize, affine, lanes }, rest)
    }

    /// Writes those of `conv`: the biases, and what lies behind the numbers.
    fn write<'q>(
        conv: &Conv<'_>,
        parts: usize,
        channels: usize,
        packed: &'q mut [i32],
    ) -> (&'q mut [i32], &'q mut [i32]) {
        let (numbers, rest) = packed.split_at_mut(Numbers::len(channels));
        numbers.fill(0);
        let (head, lanes) = numbers.split_at_mut(Numbers::HEAD);
        let plain = Finish::is_plain(conv.rounding, conv.shift);
        let affine = conv.add.filter(|_| plain).and_then(|add| Affine::of(conv.output, &add));
        head[..4].copy_from_slice(&[conv.input_zero.into(), plain.into(), parts as i32, affine.is_some().into()]);
        head[4..4 + Affine::WORDS].copy_from_slice(&affine.unwrap_or_default().words());
        for o in 0..conv.window.output.c {
            let (mult, shift) = (conv.mult[o], i32::from(conv.shift[o]));
            let [scale, half] = if plain { factor(mult, -shift) } else { [0; 2] };
            let numbers: [i32; Numbers::ROWS] = [conv.bias[o], mult, shift.max(0), (-shift).max(0), scale, half];
            numbers.into_iter().enumerate().for_each(|(i, n)| lanes[i * channels + o] = n);
        }
        (&mut lanes[..channels], rest)
    }

    fn finish(&self, epilogue: &'p quant::Epilogue) -> Finish<'p> {
        Finish { lanes: self.lanes, epilogue, plain: self.plain, affine: self.affine }
    }
}

/// Checks what every `prepack` depends on: the geometry and the lengths of the slices.
fn check_prepack(kernel: &impl ConvKernel<i8>, g: &Window, conv: &Conv<'_>, packed: usize) -> Result<(), Error> {
    let need = kernel.packed_len(g);
    if need != packed {
        return Err(Error::BufferLength { what: "packed weight buffer", need, got: packed });
    }
    if conv.window != *g || !conv.is_consistent() {
        return Err(Error::BufferLength { what: "weight", need: g.weight_len(), got: conv.weights.len() });
    }
    Ok(())
}
