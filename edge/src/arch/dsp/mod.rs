//! SMLAD kernels for Cortex-M4, M7 and M33. Names and contracts as in `portable`.

/// Module-level assembly does not inherit `-C target-cpu`, and ARMv8-M's baseline lacks the extension.
#[cfg(residual_v8m)]
macro_rules! cpu {
    () => {
        ".cpu cortex-m33"
    };
}
#[cfg(not(residual_v8m))]
macro_rules! cpu {
    () => {
        ""
    };
}
use cpu;

mod assembly;
mod output;
mod transform;

pub use output::Finish;
pub use transform::{input_of_quad, weights_of_quad};

use super::winograd::Rescale;

/// `out[p] = bias + sum_k weights[k] * x[p][k]` for `P` pixels, 4 or 8.
///
/// `x` holds, for every four inputs, the pairs `(0, 2)` of all pixels, then `(1, 3)` of all pixels.
/// The last word of weights may reach past its row; the inputs there are 0.
#[inline(always)]
pub fn dot<const P: usize>(weights: &[i8], x: &[u32], bias: i32) -> [i32; P] {
    let mut acc = [bias; P];
    let quads = (weights.len() / 4).min(x.len() / (2 * P));
    if quads > 0 {
        let end = x.get(..quads * 2 * P).unwrap_or_default().as_ptr_range().end;
        // SAFETY: `weights` holds `4 quads` bytes, `x` holds `2 P quads` words and ends at `end`, `acc`
        // is the array of `P` accumulators the variant for `P` works on, `quads > 0`.
        unsafe {
            match P {
                4 => assembly::dot4(weights.as_ptr(), x.as_ptr(), acc.as_mut_ptr(), end),
                8 => assembly::dot8(weights.as_ptr(), x.as_ptr(), acc.as_mut_ptr(), end),
                _ => {}
            }
        }
    }
    acc
}

/// The products of Winograd's domain: `m[position][channel][tile] = sum_pairs u * v`.
///
/// `u` is `[pair][36][2 channels]`, `v` is `[pair][36][4 tiles]`; sums are modulo 2^32. The number of
/// pairs is even and at least 2.
#[inline(always)]
pub fn products(u: &[u32], v: &[u32], m: &mut [[i32; 8]; 36]) {
    let pairs = (u.len() / 72).min(v.len() / 144) & !1;
    if pairs >= 2 {
        let frame = assembly::Frame::new(pairs, m.as_mut_ptr().cast());
        // SAFETY: `u` holds `72 pairs` words and `v` holds `144 pairs`, `m` the 288 sums `frame`
        // describes; `pairs` is even and at least 2.
        unsafe { assembly::products(u.as_ptr(), v.as_ptr(), &frame) };
    }
}

/// As [`dot`] for 8 pixels, rescaled and stored at multiples of `stride` in `y`. `false` if one lies
/// outside.
#[inline(always)]
pub fn dot_store(weights: &[i8], x: &[u32], bias: i32, rescale: &Rescale, y: &mut [i8], stride: usize) -> bool {
    let quads = (weights.len() / 4).min(x.len() / 16);
    if quads == 0 || y.len() <= 7 * stride {
        return false;
    }
    let end = x.get(..quads * 16).unwrap_or_default().as_ptr_range().end;
    let task = assembly::Task {
        bias,
        mult: rescale.mult,
        half: rescale.half,
        y: y.as_mut_ptr(),
        stride,
        shift: rescale.shift,
    };
    // SAFETY: `weights` holds `4 quads` bytes, `x` holds `16 quads` words and ends at `end`, `quads > 0`;
    // the last output, at `7 stride`, is inside `y`.
    unsafe { assembly::dot8_store(weights.as_ptr(), x.as_ptr(), &task, end) };
    true
}
