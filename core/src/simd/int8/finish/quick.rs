//! Two vectors of sums at once: rescaled in f32, the rest in 16-bit integers.
//!
//! What `Requant::rescale` makes of a sum `v` with a factor `m 2^(-31 - r)`, `r > 0`, is
//!
//! ```text
//! floor((floor((v m + 2^30) / 2^31) + 2^(r - 1) - s) / 2^r)    s: 1 for negative v, else 0
//! = floor(v m / 2^(31 + r) + 1/2 + (1 - 2 s) 2^(-r - 1))
//! ```
//!
//! so it is the integer nearest to `t = v scale + (half with the sign of v)`, and the larger of two. In f32, `v`, `scale` and
//! `t` are rounded by a part of 2^-24 each: as long as `t` is below 2^8, by less than [`DOUBT`] together. Where `t` is nearer
//! to a tie than that, integers decide; where it is larger, the result is clamped either way.

use core::cmp::min;

use super::{
    super::lanes::{Lanes, Pass, Quick},
    Affine, Block, Ready,
};
use crate::quant::Encoding;

/// How near to a tie f32 is not trusted.
const DOUBT: f32 = 1.0 / 8192.0;

/// `scale` and `half` of the module's description, as bits of f32.
pub(crate) fn factor(mult: i32, right: i32) -> [i32; 2] {
    // 2^-n
    let power = |n: i32| f32::from_bits(((127 - n) as u32) << 23);
    [mult as f32 * power(31) * power(right), power(right + 1)].map(|f| f.to_bits() as i32)
}

/// Finishes the vectors of `block` in pairs. How many there were.
///
/// # Safety
/// As for [`Block`].
#[inline(always)]
pub(in crate::simd::int8) unsafe fn finish<L: Quick>(block: &Block<'_, L>) -> usize {
    let finish = &block.ready.finish;
    let pairs = min(block.vectors, block.valid / L::LANES) / 2;
    // SAFETY: the caller's promise.
    unsafe {
        match (finish.epilogue.add, finish.affine) {
            _ if !finish.plain => return 0,
            (None, _) => {
                for pair in 0..pairs {
                    store::<L, false>(block, 2 * pair, Affine::default());
                }
            }
            (Some(_), Some(affine)) => {
                for pair in 0..pairs {
                    store::<L, true>(block, 2 * pair, affine);
                }
            }
            (Some(_), None) => return 0,
        }
    }
    2 * pairs
}

/// Vectors `j` and `j + 1`, which both hold channels only.
#[inline(always)]
unsafe fn store<L: Quick, const ADD: bool>(block: &Block<'_, L>, j: usize, affine: Affine) {
    let Ready { finish, .. } = block.ready;
    // SAFETY: the caller vouches for sums and pixels; lanes hold whole vectors.
    unsafe {
        let first = block.channel + j * L::LANES;
        let (scales, halves) = (finish.lanes[4].as_ptr().add(first), finish.lanes[5].as_ptr().add(first));
        let scale = [L::load(scales), L::load(scales.add(L::LANES))];
        let half = [L::load(halves), L::load(halves.add(L::LANES))];
        let limit = L::splat((0.5 - DOUBT).to_bits() as i32);
        let Encoding { zero_point, min, max } = finish.epilogue.output;
        let [zero, min, max] = [zero_point, min, max].map(i16::from);
        let (low, high, zero) = (L::splat_halves(min - zero), L::splat_halves(max - zero), L::splat_halves(zero));
        let shortcut = Shortcut::new(affine, finish.epilogue.add.map_or(finish.epilogue.output, |add| add.output));
        for y in 0..block.rows {
            for x in 0..block.width {
                let at = block.sums.add((j * block.size + y * block.columns + x) * L::LANES);
                let sums = [L::load(at), L::load(at.add(block.size * L::LANES))];
                let (a, a_apart) = sums[0].nearest(scale[0], half[0]);
                let (b, b_apart) = sums[1].nearest(scale[1], half[1]);
                let mut scaled = [a, b];
                if L::any_beyond(a_apart, b_apart, limit) {
                    L::invoke(Exactly { block, j, sums, scaled: &mut scaled });
                }
                let to = block.y.add(y * block.row + x * block.pixel + j * L::LANES);
                let v = L::narrow(scaled[0], scaled[1]).clamp_halves(low, high);
                if ADD {
                    shortcut.add(v, L::load_halves(to)).store_halves(to);
                } else {
                    v.add_halves(zero).store_halves(to);
                }
            }
        }
    }
}

/// Rescales two vectors of sums in integers.
struct Exactly<'a, 'b, L> {
    block: &'a Block<'b, L>,
    j: usize,
    sums: [L; 2],
    scaled: &'a mut [L; 2],
}

impl<L: Lanes> Pass<L> for Exactly<'_, '_, L> {
    #[inline(always)]
    unsafe fn run(self) {
        let lanes = &self.block.ready.finish.lanes;
        for (i, (sum, scaled)) in self.sums.into_iter().zip(self.scaled).enumerate() {
            let channel = self.block.channel + (self.j + i) * L::LANES;
            // SAFETY: the caller vouches for the instruction set; lanes hold whole vectors.
            unsafe {
                let (mult, right) = (L::load(lanes[1].as_ptr().add(channel)), L::load(lanes[3].as_ptr().add(channel)));
                *scaled = sum.rescale(mult, right);
            }
        }
    }
}

/// An [`Affine`] addition in registers.
struct Shortcut<L> {
    upper: L,
    lower: L,
    carry: L,
    base: L,
    fourteen: L,
    shift: L,
    min: L,
    max: L,
}

impl<L: Quick> Shortcut<L> {
    #[inline(always)]
    unsafe fn new(affine: Affine, output: Encoding) -> Self {
        // SAFETY: registers only, and the caller vouches for the instruction set.
        unsafe {
            Shortcut {
                upper: L::splat(affine.upper),
                lower: L::splat(affine.lower),
                base: L::splat(affine.base),
                carry: L::splat(affine.carry),
                fourteen: L::splat(Affine::LOWER_BITS),
                shift: L::splat(affine.shift),
                min: L::splat_halves(output.min.into()),
                max: L::splat_halves(output.max.into()),
            }
        }
    }

    /// What is stored: of a convolution's result less its zero point, and a shortcut.
    #[inline(always)]
    unsafe fn add(&self, v: L, shortcut: L) -> L {
        // SAFETY: registers only, and the caller vouches for the instruction set.
        unsafe {
            let (a, b) = L::pairs(v, shortcut);
            L::narrow_pairs(self.of(a), self.of(b)).clamp_halves(self.min, self.max)
        }
    }

    /// The affine function of pairs, one a lane.
    #[inline(always)]
    unsafe fn of(&self, pairs: L) -> L {
        // SAFETY: registers only, and the caller vouches for the instruction set.
        unsafe {
            let carry = self.carry.dot_pairs(pairs, self.lower).shr(self.fourteen);
            self.base.dot_pairs(pairs, self.upper).add(carry).shr(self.shift)
        }
    }
}
