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
    simd::{Tile, int8::Finish},
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
    /// bias, multiplier, left shift, right shift
    lanes: [&'p [i32]; 4],
}

impl<'p> Numbers<'p> {
    /// Words before the rows.
    const HEAD: usize = 3;

    /// Words for `channels` channels, whole vectors.
    const fn len(channels: usize) -> usize {
        Numbers::HEAD + 4 * channels
    }

    /// Of packed weights, and what lies behind them.
    fn read(packed: &'p [i32], channels: usize) -> (Self, &'p [i32]) {
        let (numbers, rest) = packed.split_at(Numbers::len(channels));
        let (head, lanes) = numbers.split_at(Numbers::HEAD);
        let lane = |i: usize| &lanes[i * channels..(i + 1) * channels];
        let lanes = [lane(0), lane(1), lane(2), lane(3)];
        (Numbers { zero: head[0], plain: head[1] != 0, parts: head[2] as usize, lanes }, rest)
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
        head.copy_from_slice(&[conv.input_zero.into(), plain.into(), parts as i32]);
        for o in 0..conv.window.output.c {
            let shift = i32::from(conv.shift[o]);
            let numbers = [conv.bias[o], conv.mult[o], shift.max(0), (-shift).max(0)];
            numbers.into_iter().enumerate().for_each(|(i, n)| lanes[i * channels + o] = n);
        }
        (&mut lanes[..channels], rest)
    }

    fn finish(&self, epilogue: &'p quant::Epilogue) -> Finish<'p> {
        Finish { lanes: self.lanes, epilogue, plain: self.plain }
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
