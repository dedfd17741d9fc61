//! Products of pairs in plain Rust.

use super::winograd::Rescale;

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

/// As [`dot`] for 8 pixels, rescaled and stored at multiples of `stride` in `y`. `false` if one lies
/// outside.
#[inline(always)]
pub fn dot_store(weights: &[i8], x: &[u32], bias: i32, rescale: &Rescale, y: &mut [i8], stride: usize) -> bool {
    if y.len() <= 7 * stride {
        return false;
    }
    let sums = dot::<8>(weights, x, bias);
    for (y, sum) in y.iter_mut().step_by(stride.max(1)).zip(sums) {
        *y = rescale.apply(sum << 1).clamp(-128, 127) as i8;
    }
    true
}
