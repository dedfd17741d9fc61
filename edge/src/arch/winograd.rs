//! Exact integer Winograd F(4x4, 3x3) (Lavin & Gray 2016): the three transforms.
//!
//! With every row of the weight transform scaled to the smallest integers,
//!
//! ```text
//!     [ 3  0  0 ]                                    [ 2 -4 -4  1  1  0 ]
//!     [ 1  1  1 ]      the usual B^T (+-1, 2, 4, 5),  [ 0 -4  4  2 -2  0 ]
//! G = [ 1 -1  1 ]                               A^T = [ 0 -4 -4  4  4  0 ]
//!     [ 1  2  4 ]                                    [ 0 -4  4  8 -8  8 ]
//!     [ 1 -2  4 ]
//!     [ 0  0  3 ]
//! ```
//!
//! a 4x4 tile of outputs is `A^T [(G w G^T) * (B^T x B)] A = 576 sum w x`, and transformed weights and
//! inputs fit 16 bits: `|U| <= 7 * 7 * 128`, `|V| <= 68 * 255`. Sums may wrap modulo 2^32: they are
//! multiples of 576 = 9 * 64, so multiplying by the inverse of 9 and shifting by 6 recovers the exact
//! sum as long as it is below 2^25, which up to 112 channels it is (`9 * 112 * 128 * 255 < 2^25`).
//!
//! Transforms work on linear pairs, two channels at a time.

use core::ops::Range;

use super::{input_of_quad, multiply_high, weights_of_quad};

/// Most input channels whose sums are recovered exactly.
pub const MAX_CHANNELS: usize = 112;

/// Words of transformed weights (two output channels) for `channels` inputs.
pub const fn weight_words(channels: usize) -> usize {
    channels / 2 * 72
}

/// Words of four transformed tiles.
pub const fn tile_words(channels: usize) -> usize {
    channels / 2 * 144
}

/// Transforms the 3x3 weights of two output channels, `[9][channels]` each, into
/// `u[pair][36][2]`. `false` if a length does not fit.
#[inline(never)]
pub fn transform_weights(weights: [&[u32]; 2], channels: usize, u: &mut [u32]) -> bool {
    let quads = channels / 4;
    if weights.iter().any(|w| w.len() != 9 * quads) || u.len() != quads * 144 {
        return false;
    }
    for (j, w) in weights.iter().enumerate() {
        for q in 0..quads {
            // SAFETY: the last tap is `8 quads + q < 9 quads`, the length of `w`; the pairs begin at
            // `72 (2 q + half) + j` and reach 70 further, below `144 quads`, the length of `u`.
            unsafe {
                let (w, u) = (w.as_ptr().add(q), u.as_mut_ptr().add(144 * q + j));
                weights_of_quad(w, quads, u);
            }
        }
    }
    true
}

/// The map that is transformed.
#[derive(Clone, Copy, Debug)]
pub struct Map<'m> {
    /// NHWC, four channels a word
    pub words: &'m [u32],
    /// rows
    pub h: usize,
    /// columns
    pub w: usize,
    /// words of a pixel
    pub quads: usize,
    /// padding rows above
    pub pad_top: usize,
    /// padding columns on the left
    pub pad_left: usize,
    /// what stands in the padding
    pub zero: i8,
}

/// Which of six pixels from output `at` on lie on an axis of `extent` pixels, and the place of the first.
fn clip(at: usize, pad: usize, extent: usize) -> (Range<usize>, usize) {
    let from = pad.saturating_sub(at).min(6);
    let to = (extent + pad).saturating_sub(at).min(6);
    (from..to.max(from), (at + from).saturating_sub(pad))
}

/// Transforms the 6x6 pixels under the tile at `(y, x)` into slot `tile` of `v[pair][36][4]`. `false` if a
/// length does not fit.
#[inline(never)]
pub fn transform_input(map: &Map<'_>, (y, x): (usize, usize), tile: usize, v: &mut [u32]) -> bool {
    let Map { words, h, w, quads, pad_top, pad_left, zero } = *map;
    let pixels = h.checked_mul(w).and_then(|n| n.checked_mul(quads));
    if quads > MAX_CHANNELS / 4 || tile >= 4 || v.len() != quads * 288 || pixels.is_none_or(|n| n > words.len()) {
        return false;
    }
    let padding = [u32::from(zero as u8) * 0x0101_0101; MAX_CHANNELS / 4];
    let mut pixels = [[padding.as_ptr(); 6]; 6];
    let ((rows, y), (columns, x)) = (clip(y, pad_top, h), clip(x, pad_left, w));
    let mut top = words.as_ptr().wrapping_add((y * w + x) * quads);
    for column in pixels.get_mut(columns).unwrap_or_default() {
        let mut at = top;
        for pixel in column.get_mut(rows.clone()).unwrap_or_default() {
            *pixel = at;
            at = at.wrapping_add(w * quads);
        }
        top = top.wrapping_add(quads);
    }
    // The transform of a constant is 36 times it at position (1, 1) and 0 elsewhere.
    let constant = (36 * (i32::from(zero) + 128) as u32).wrapping_mul(0x0001_0001);
    for q in 0..quads {
        // SAFETY: every pointer has `quads` words behind it: `padding` has `MAX_CHANNELS / 4`, and `clip`
        // leaves pixels `(y, x)` of the map, which `words` holds whole; `q < quads`; the pairs begin at
        // `144 (2 q + half) + tile` and reach 140 further, below `288 quads`, the length of `v`.
        unsafe {
            let v = v.as_mut_ptr().add(288 * q + tile);
            input_of_quad(&pixels, q, constant, v);
        }
    }
    true
}

/// What turns a sum into a stored byte: `((high(2 sum) - [negative]) + half) >> shift`, which is
/// [`residual_core::quant::Requant::rescale`] plus the zero point for shifts of -1 to -22.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rescale {
    pub(super) mult: i32,
    pub(super) half: i32,
    pub(super) shift: u32,
}

impl Rescale {
    /// The fast form of a rescaling that adds `zero`, if it has one.
    #[inline(always)]
    pub fn new(mult: i32, shift: i8, zero: i32) -> Option<Self> {
        let right = shift.unsigned_abs().into();
        // With `right <= 22` the zero point's `256 << 22` and the product's 2^30 do not overflow.
        let fits = (-22..=-1).contains(&shift);
        fits.then(|| Rescale { mult, half: (2 * zero + 1) << (right - 1), shift: right })
    }

    /// Rescales half of `twice`.
    #[inline(always)]
    pub fn apply(&self, twice: i32) -> i32 {
        let x = multiply_high(twice, self.mult);
        x.wrapping_add(x >> 31).wrapping_add(self.half) >> self.shift
    }
}

/// The shortcut's addition as two tables, indexed by `value + 128` of the convolution's result and by
/// the shortcut's byte.
#[derive(Clone, Copy)]
pub struct Sum<'t> {
    /// twice the terms of the convolution's result
    pub conv: &'t [i32; 256],
    /// twice the terms of the shortcut
    pub shortcut: &'t [i32; 256],
    /// the sum's rescaling and zero point
    pub rescale: Rescale,
}

#[cfg(not(residual_kernels = "dsp"))]
impl Sum<'_> {
    /// The byte stored for convolution result `value + 128` over the shortcut's byte.
    #[inline(always)]
    pub fn apply(&self, value: i32, shortcut: i8) -> i8 {
        let index = value.clamp(0, 255) as u8;
        let sum = self.conv[usize::from(index)].wrapping_add(self.shortcut[usize::from(shortcut as u8)]);
        self.rescale.apply(sum).clamp(-128, 127) as i8
    }
}
