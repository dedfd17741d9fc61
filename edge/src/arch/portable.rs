//! Products of pairs in plain Rust.

use super::{
    split, unpack,
    winograd::{Rescale, Sum},
};

/// Writes one pixel's inputs less their zero point, `words`, into slot `p` of `pixels` in the interleaved
/// pairs `x`; `x` starts at the first of them.
#[inline(never)]
pub fn interleave(words: &[u32], zero: i8, p: usize, pixels: usize, x: &mut [u32]) {
    // Subtracting the zero point from both halves of a linear pair.
    let offset = ((i32::from(zero) + 128) as u32).wrapping_mul(0x0001_0001);
    let mut x = x.get_mut(p..).unwrap_or_default();
    for word in words {
        let (even, odd) = unpack(*word);
        let Some((slots, rest)) = x.split_at_mut_checked(pixels) else { break };
        slots.iter_mut().take(1).for_each(|slot| *slot = split(even.wrapping_sub(offset)));
        rest.iter_mut().take(1).for_each(|slot| *slot = split(odd.wrapping_sub(offset)));
        x = rest.get_mut(pixels..).unwrap_or_default();
    }
}

/// [`dot4`] for `P` pixels.
#[inline(never)]
fn dot<const P: usize>(weights: &[i8], x: &[u32], bias: i32) -> [i32; P] {
    let mut acc = [bias; P];
    for (w, x) in weights.chunks_exact(4).zip(x.chunks_exact(2 * P)) {
        let &[w0, w1, w2, w3] = w else { continue };
        let (w0, w1, w2, w3) = (i32::from(w0), i32::from(w1), i32::from(w2), i32::from(w3));
        let (even, odd) = x.split_at(P);
        for ((acc, even), odd) in acc.iter_mut().zip(even).zip(odd) {
            let low = i32::from(*even as i16).wrapping_mul(w0).wrapping_add(i32::from(*odd as i16).wrapping_mul(w1));
            let high = (*even as i32 >> 16).wrapping_mul(w2).wrapping_add((*odd as i32 >> 16).wrapping_mul(w3));
            *acc = acc.wrapping_add(low).wrapping_add(high);
        }
    }
    acc
}

/// Both halves of a pair.
#[cfg(not(residual_kernels = "mla"))]
#[inline(always)]
fn halves(pair: u32) -> (i32, i32) {
    (i32::from(pair as i16), pair as i32 >> 16)
}

/// The products of Winograd's domain: `m[position][channel][tile] = sum_pairs u * v`.
///
/// `u` is `[pair][36][2 channels]`, `v` is `[pair][36][4 tiles]`; sums are modulo 2^32.
#[cfg(not(residual_kernels = "mla"))]
#[inline(never)]
pub fn products(u: &[u32], v: &[u32], m: &mut [[i32; 8]; 36]) {
    let pairs = (u.len() / 72).min(v.len() / 144);
    for (position, m) in m.iter_mut().enumerate() {
        // Two tiles at a time: their sums and the weights are as much as 13 registers hold.
        for tile in [0, 2] {
            let mut acc = [0i32; 4];
            for pair in 0..pairs {
                // SAFETY: `72 pair + 2 position + 1 < 72 pairs <= u.len()`.
                let u = unsafe { u.get_unchecked(72 * pair + 2 * position..).get_unchecked(..2) };
                // SAFETY: `144 pair + 4 position + tile + 1 < 144 pairs <= v.len()`.
                let v = unsafe { v.get_unchecked(144 * pair + 4 * position + tile..).get_unchecked(..2) };
                let (a, b) = (halves(u[0]), halves(u[1]));
                for (t, v) in v.iter().enumerate() {
                    let v = halves(*v);
                    acc[t] = acc[t].wrapping_add(a.0.wrapping_mul(v.0)).wrapping_add(a.1.wrapping_mul(v.1));
                    acc[2 + t] = acc[2 + t].wrapping_add(b.0.wrapping_mul(v.0)).wrapping_add(b.1.wrapping_mul(v.1));
                }
            }
            (m[tile], m[tile + 1], m[tile + 4], m[tile + 5]) = (acc[0], acc[1], acc[2], acc[3]);
        }
    }
}

/// `out[p] = bias + sum_k weights[k] * x[p][k]` for 4 pixels.
///
/// `x` holds, for every four inputs, the pairs `(0, 2)` of all pixels, then `(1, 3)` of all pixels.
/// The last word of weights may reach past its row; the inputs there are 0.
pub fn dot4(weights: &[i8], x: &[u32], bias: i32) -> [i32; 4] {
    dot(weights, x, bias)
}

#[cfg(residual_kernels = "mla")]
use super::mla::dot8;

#[cfg(not(residual_kernels = "mla"))]
fn dot8(weights: &[i8], x: &[u32], bias: i32) -> [i32; 8] {
    dot(weights, x, bias)
}

/// Sums of 8 pixels, and how they become bytes.
pub struct Eight<'t> {
    sum: Option<Sum<'t>>,
    stride: usize,
    sums: [i32; 8],
}

impl<'t> Eight<'t> {
    /// For pixels `stride` bytes apart. With a `sum`, every rescaling must be offset by 128
    /// ([`Sum::apply`]).
    pub fn new(sum: Option<Sum<'t>>, stride: usize) -> Self {
        Eight { sum, stride, sums: [0; 8] }
    }

    /// As [`dot4`] for 8 pixels.
    pub fn sums(&mut self, weights: &[i8], x: &[u32], bias: i32) -> &mut [i32; 8] {
        self.sums = dot8(weights, x, bias);
        &mut self.sums
    }

    /// As [`Eight::sums`], rescaled and stored at multiples of the stride in `y`; with a sum, the bytes there
    /// are the shortcut. `false` if one lies outside.
    #[inline(always)]
    pub fn store(&mut self, weights: &[i8], x: &[u32], bias: i32, rescale: &Rescale, y: &mut [i8]) -> bool {
        if y.len() <= self.stride.saturating_mul(7) {
            return false;
        }
        let sums = dot8(weights, x, bias).into_iter();
        let stored = y.iter_mut().step_by(self.stride.max(1)).zip(sums);
        match &self.sum {
            None => stored.for_each(|(y, sum)| *y = rescale.apply(sum << 1).clamp(-128, 127) as i8),
            Some(add) => stored.for_each(|(y, sum)| *y = add.apply(rescale.apply(sum << 1), *y)),
        }
        true
    }
}
