//! Products of pairs and the output transform in plain Rust.
#![allow(clippy::needless_range_loop)] // rows and columns of small matrices

use super::winograd::{Place, Rescale, Sum, in_memory};

#[inline(always)]
fn dot_pair(a: u32, b: u32, acc: i32) -> i32 {
    let low = i32::from(a as i16).wrapping_mul(i32::from(b as i16));
    let high = (a as i32 >> 16).wrapping_mul(b as i32 >> 16);
    acc.wrapping_add(low).wrapping_add(high)
}

/// `out[p] = bias + sum_k weights[k] * x[p][k]` for `P` pixels.
///
/// `x` holds, for every four inputs, the pairs `(0, 2)` of all pixels, then `(1, 3)` of all pixels.
/// The last word of weights may reach past its row; the inputs there are 0.
#[inline(never)]
pub fn dot<const P: usize>(weights: &[i8], x: &[u32], bias: i32) -> [i32; P] {
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

/// The products of Winograd's domain: `m[position][channel][tile] = sum_pairs u * v`.
///
/// `u` is `[pair][36][2 channels]`, `v` is `[pair][36][4 tiles]`; sums are modulo 2^32.
#[inline(never)]
pub fn products(u: &[u32], v: &[u32], m: &mut [[i32; 8]; 36]) {
    for (position, m) in m.iter_mut().enumerate() {
        let mut acc = [0; 8];
        let us = u.get(2 * position..).unwrap_or_default().chunks(72);
        let vs = v.get(4 * position..).unwrap_or_default().chunks(144);
        for (u, v) in us.zip(vs) {
            let (&[u0, u1, ..], &[v0, v1, v2, v3, ..]) = (u, v) else { continue };
            for (t, v) in [v0, v1, v2, v3].into_iter().enumerate() {
                acc[t] = dot_pair(u0, v, acc[t]);
                acc[4 + t] = dot_pair(u1, v, acc[4 + t]);
            }
        }
        *m = acc;
    }
}

/// `A^T` times a column.
#[inline(always)]
fn at(m: [i32; 6]) -> [i32; 4] {
    let [y0, y1, y2, y3] = at_reduced(m);
    [y0, y1 << 1, y2 << 2, y3 << 2]
}

/// [`at`], its rows divided by 1, 2, 4 and 4: see [`REDUCED`].
#[inline(always)]
fn at_reduced(m: [i32; 6]) -> [i32; 4] {
    let s = |a: i32, b: i32| a.wrapping_add(b);
    let d = |a: i32, b: i32| a.wrapping_sub(b);
    let (p, q) = (s(m[1], m[2]), d(m[1], m[2]));
    let (r, t) = (s(m[3], m[4]), d(m[3], m[4]));
    [d(s(r, m[0] << 1), p << 2), d(t, q << 1), d(r, p), d(s(t, m[5]) << 1, q)]
}

/// Binary logarithms of what [`at_reduced`] divides by.
const REDUCED: [u32; 4] = [0, 1, 2, 2];

/// 9 times this is 1 modulo 2^32.
const INVERSE_OF_9: i32 = 0x38e3_8e39;

/// Transforms the sums `m[position][lane]` of one tile and channel into 16 outputs. With a `sum` the
/// bytes in `y` are the shortcut; its rescaling must then be offset by 128 ([`Sum::apply`]). `false`
/// if a place lies outside `y`.
#[inline(always)]
pub fn transform_output(
    m: &[[i32; 8]; 36],
    lane: usize,
    bias: i32,
    rescale: &Rescale,
    sum: Option<&Sum<'_>>,
    y: &mut [i8],
    place: Place,
) -> bool {
    let Place { start, pixel_stride, row_stride } = place;
    if lane >= 8 || place.last() >= y.len() {
        return false;
    }
    let column = |x: usize| {
        let m = |y: usize| m[6 * y + x][lane];
        at([m(0), m(1), m(2), m(3), m(4), m(5)])
    };
    let mut t = [column(0), column(1), column(2), column(3), column(4), column(5)];
    let t = in_memory(&mut t);
    let twice_bias = bias << 1;
    for r in 0..4 {
        let row = [t[0][r], t[1][r], t[2][r], t[3][r], t[4][r], t[5][r]];
        for (c, value) in at_reduced(row).into_iter().enumerate() {
            // 576 sum, times the inverse of 9, is 64 sum; a shift by 5 leaves twice the sum.
            let twice = (value.wrapping_mul(INVERSE_OF_9) >> (5 - REDUCED[c])).wrapping_add(twice_bias);
            let value = rescale.apply(twice);
            // SAFETY: `r, c <= 3`, so the index is at most `place.last()`, inside `y`.
            let out = unsafe { y.get_unchecked_mut(start + r * row_stride + c * pixel_stride) };
            *out = match sum {
                None => value.clamp(-128, 127) as i8,
                Some(sum) => sum.apply(value, *out),
            };
        }
    }
    true
}
