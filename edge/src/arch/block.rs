//! Two channels by four pixels at a time in plain Rust. Contracts as in `dsp`.

use core::ops::Range;

use super::{
    interleave,
    winograd::{Rescale, Sum},
};

#[cfg(residual_kernels = "mla")]
use super::mla::add_products;

/// Adds the products of both channels and four pixels, `weights[pair][2]` and `x[pair][4]`, to `sums[channel][pixel]`.
#[cfg(not(residual_kernels = "mla"))]
#[inline(never)]
fn add_products(weights: &[u32], x: &[u32], sums: &mut [[i32; 4]; 2]) {
    let halves = |pair: u32| (i32::from(pair as i16), pair as i32 >> 16);
    let [first, second] = sums;
    // Two pixels at a time: their sums and the weights are as much as 13 registers hold.
    for pixel in [0, 2] {
        let mut sums = [first[pixel], first[pixel + 1], second[pixel], second[pixel + 1]];
        for (weights, x) in weights.as_chunks::<2>().0.iter().zip(x.as_chunks::<4>().0) {
            let (a, b) = (halves(weights[0]), halves(weights[1]));
            for p in [0, 1] {
                let x = halves(x[pixel + p]);
                sums[p] = sums[p].wrapping_add(a.0.wrapping_mul(x.0)).wrapping_add(a.1.wrapping_mul(x.1));
                sums[2 + p] = sums[2 + p].wrapping_add(b.0.wrapping_mul(x.0)).wrapping_add(b.1.wrapping_mul(x.1));
            }
        }
        (first[pixel], first[pixel + 1], second[pixel], second[pixel + 1]) = (sums[0], sums[1], sums[2], sums[3]);
    }
}

/// Two channels by four pixels, and how they become bytes.
pub struct Block<'t> {
    sum: Option<Sum<'t>>,
    pairs: usize,
    stride: usize,
    sums: [i32; 8],
}

impl<'t> Block<'t> {
    /// For `pairs` pairs of inputs and pixels `stride` bytes apart. With a `sum`, every rescaling must be offset by 128
    /// ([`Sum`]).
    pub fn new(sum: Option<Sum<'t>>, pairs: usize, stride: usize) -> Self {
        Block { sum, pairs, stride, sums: [0; 8] }
    }

    /// Twice the sums of two channels of four pixels, and what rescales the channels.
    #[inline(always)]
    fn twice(&self, block: &[u32], x: &[u32]) -> Option<([[i32; 4]; 2], [Rescale; 2])> {
        let (biases, rest) = block.split_first_chunk::<2>()?;
        let (weights, rescalings) = rest.split_last_chunk::<6>()?;
        let mut sums = biases.map(|bias| [bias as i32; 4]);
        add_products(weights, x.get(..4 * self.pairs)?, &mut sums);
        let [m0, h0, s0, m1, h1, s1] = *rescalings;
        let rescale = |mult, half, shift| Rescale { mult: mult as i32, half: half as i32, shift };
        Some((sums, [rescale(m0, h0, s0), rescale(m1, h1, s1)]))
    }

    /// The sums of two channels of four pixels.
    pub fn sums(&mut self, weights: &[u32], x: &[u32]) -> &[i32; 8] {
        if let Some((sums, _)) = weights.get(..block_words(self.pairs)).and_then(|block| self.twice(block, x)) {
            self.sums.iter_mut().zip(sums.as_flattened()).for_each(|(sum, twice)| *sum = *twice >> 1);
        }
        &self.sums
    }

    /// Computes all channels of `weights` and stores them side by side at multiples of the stride in `y`; with a sum, the
    /// bytes there are the shortcut. `false` if one lies outside.
    pub fn store(&mut self, weights: &[u32], x: &[u32], y: &mut [i8]) -> bool {
        let blocks = weights.chunks_exact(block_words(self.pairs).max(1));
        if y.len() < self.stride.saturating_mul(3).saturating_add(2 * blocks.len()) {
            return false;
        }
        for (index, block) in blocks.enumerate() {
            let Some((sums, rescalings)) = self.twice(block, x) else { return false };
            for ((j, sums), rescale) in sums.into_iter().enumerate().zip(rescalings) {
                let own = y.get_mut(2 * index + j..).unwrap_or_default();
                let stored = own.iter_mut().step_by(self.stride.max(1)).zip(sums);
                match &self.sum {
                    None => stored.for_each(|(y, twice)| *y = rescale.apply(twice).clamp(-128, 127) as i8),
                    Some(sum) => stored.for_each(|(y, twice)| *y = sum.apply(rescale.apply(twice), *y)),
                }
            }
        }
        true
    }
}

/// Words of two channels' weights in pairs, their biases and rescalings.
pub const fn block_words(pairs: usize) -> usize {
    2 * pairs + 8
}

/// Writes the weights of channel `j` of two to `block`, and around them its bias and rescaling. `None` if `weights` do not
/// fill the block, but for the last bytes of a word.
pub fn pack(block: &mut [u32], j: usize, weights: &[i8], bias: i32, rescale: Rescale) -> Option<()> {
    let quads = weights.as_chunks::<4>().0;
    if quads.is_empty() || block.len() != block_words(2 * quads.len()) {
        return None;
    }
    let (biases, rest) = block.split_first_chunk_mut::<2>()?;
    let (pairs, rescalings) = rest.split_last_chunk_mut::<6>()?;
    *biases.get_mut(j)? = (bias as u32) << 1;
    *rescalings.as_chunks_mut::<3>().0.get_mut(j)? = [rescale.mult as u32, rescale.half as u32, rescale.shift];
    let twice = |low: i8, high: i8| (i32::from(low) << 1 & 0xffff | i32::from(high) << 17) as u32;
    for (pairs, quad) in pairs.as_chunks_mut::<4>().0.iter_mut().zip(quads) {
        *pairs.get_mut(j)? = twice(quad[0], quad[2]);
        *pairs.get_mut(2 + j)? = twice(quad[1], quad[3]);
    }
    Some(())
}

/// The windows of a layer's pixels.
pub struct Windows {
    words: usize,
    line: usize,
    step: usize,
    pitch: usize,
    zero: i8,
}

impl Windows {
    /// Windows of `words` words with lines of `line` bytes, `step` apart on a map with lines of `pitch` bytes.
    pub fn new(words: usize, line: usize, step: usize, pitch: usize, zero: i8) -> Self {
        Windows { words, line, step, pitch, zero }
    }

    /// Interleaves windows less the zero point as pixels `pixels` of four in `x`, as [`super::dot4`] takes them. `lines` lines
    /// of `bytes` bytes of each come from the map, where the first one's begin with `map`, to byte `at` of the window; the
    /// others are those in `spare`. `false` if a length does not fit.
    #[inline(never)]
    pub fn collect(
        &mut self,
        (lines, bytes): (usize, usize),
        map: &[i8],
        at: usize,
        spare: &mut [u32],
        pixels: Range<usize>,
        x: &mut [u32],
    ) -> bool {
        let (Some(spare), Some(x)) = (spare.get_mut(..self.words), x.get_mut(..8 * self.words)) else { return false };
        let mut from = map;
        for p in pixels {
            for line in 0..lines {
                let to: &mut [i8] = bytemuck::cast_slice_mut(spare);
                let to = to.get_mut(at + line * self.line..).and_then(|to| to.get_mut(..bytes));
                let own = from.get(line * self.pitch..).and_then(|own| own.get(..bytes));
                let (Some(to), Some(own)) = (to, own) else { return false };
                to.iter_mut().zip(own).for_each(|(to, own)| *to = *own);
            }
            interleave(spare, self.zero, p, 4, x);
            from = from.get(self.step..).unwrap_or_default();
        }
        true
    }
}
