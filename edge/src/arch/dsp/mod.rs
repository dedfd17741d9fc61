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

pub use transform::{input_of_quad, weights_of_quad};

use crate::arch::winograd::{Place, Rescale, Sum};

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
    if lane >= 8 || place.last() >= y.len() {
        return false;
    }
    let task = output::Task::new(bias, rescale, sum, place);
    // SAFETY: `lane < 8` leaves 35 * 8 words behind the first sum; the last output is inside `y`; the
    // tables are arrays of 256.
    unsafe {
        let (m, y) = (m.as_ptr().cast::<i32>().add(lane), y.as_mut_ptr().add(place.start));
        match sum {
            None => output::plain(m, y, &task),
            Some(_) => output::with_sum(m, y, &task),
        }
    }
    true
}
