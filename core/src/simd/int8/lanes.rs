//! What int8 kernels ask of an instruction set.

use super::finish::Block;
use crate::quant::Requant;

/// A vector of 32-bit lanes.
///
/// # Safety
/// Every function asks for the instruction set the implementation belongs to; pointers are valid for
/// [`Lanes::LANES`] elements, of any alignment.
pub(super) trait Lanes: Copy {
    /// Lanes of a vector.
    const LANES: usize;
    /// Products that one lane sums in one step.
    const PER_WORD: usize;
    /// Vectors of the widest panel.
    const PANEL: usize;
    /// Rows of the largest tile, by the panel's vectors less 1.
    const MAX_ROWS: [usize; 4];
    /// Whether [`Lanes::dot`] is exact only where no pair of products leaves 16 bits, so that packing has to say where
    /// [`Lanes::dot_masked`] takes its place.
    const MASKED: bool = false;

    /// Runs `pass` inside a function that has this instruction set enabled.
    unsafe fn invoke<P: Pass<Self>>(pass: P);
    /// `v` in every lane.
    unsafe fn splat(v: i32) -> Self;
    /// Loads.
    unsafe fn load(p: *const i32) -> Self;
    /// Stores.
    unsafe fn store(self, p: *mut i32);
    /// Sign-extended bytes.
    unsafe fn load_bytes(p: *const i8) -> Self;
    /// Lanes, all in `-128..=127`, as bytes.
    unsafe fn store_bytes(self, p: *mut i8);
    /// This plus the sum of products of the words of `x` and `w`.
    unsafe fn dot(self, x: Self, w: Self) -> Self;
    /// A hint that these words will be read soon.
    #[inline(always)]
    fn prefetch(_word: &i32) {}
    /// The bytes' magnitudes, and a mask for each: 0x7F for negative ones, 0x80 for others.
    unsafe fn parts(self) -> (Self, Self) {
        unreachable!("only where `MASKED`")
    }
    /// This plus the sum of products of the words of `x ^ mask` and `w`: `x` as for [`Lanes::dot`], `w` and `mask` the
    /// [`Lanes::parts`] of the weights.
    unsafe fn dot_masked(self, _x: Self, _w: Self, _mask: Self) -> Self {
        unreachable!("only where `MASKED`")
    }
    /// Finishes vectors of a block two by two, where the instruction set has a way to do so ([`Quick`]). How many
    /// vectors it has finished: the first of the block.
    #[inline(always)]
    unsafe fn finish_pairs(_block: &Block<'_, Self>) -> usize {
        0
    }
    /// Wrapping sum.
    unsafe fn add(self, b: Self) -> Self;
    /// Wrapping difference.
    unsafe fn sub(self, b: Self) -> Self;
    /// The lower half of the product.
    unsafe fn mul(self, b: Self) -> Self;
    /// `max(low, min(high, self))`.
    unsafe fn clamp(self, low: Self, high: Self) -> Self;
    /// Every lane shifted left by its count.
    unsafe fn shl(self, count: Self) -> Self;
    /// Every lane shifted right by its count; the sign stays.
    unsafe fn shr(self, count: Self) -> Self;
    /// `doubling_high(self, mult)`: the doubled high half of the product, to nearest.
    unsafe fn high(self, mult: Self) -> Self;
    /// `rounding_divide(self, right)` for any counts up to 31.
    unsafe fn divide(self, right: Self) -> Self;

    /// [`Lanes::divide`] by `2^(less + 1)`, for counts `less` up to 30.
    #[inline(always)]
    unsafe fn divide_more(self, less: Self) -> Self {
        // SAFETY: registers only, and the caller vouches for the instruction set. Ties away from zero: a negative number
        // is brought down by one, then half a unit is added. No step overflows: `high` leaves at most `2^31 - 2`.
        unsafe {
            let (one, sign) = (Self::splat(1), self.shr(Self::splat(31)));
            self.add(sign).shr(less).add(one).shr(one)
        }
    }
    /// `Requant::rescale` for a factor without its left shift.
    #[inline(always)]
    unsafe fn rescale(self, mult: Self, right: Self) -> Self {
        // SAFETY: registers only, and the caller vouches for the instruction set.
        unsafe { self.high(mult).divide(right) }
    }
    /// `Requant::rescale_once`, lane by lane: only the last layer asks for it.
    #[inline(never)]
    unsafe fn rescale_once(self, mult: Self, left: Self, right: Self) -> Self {
        let mut lanes = [[0; 16]; 4];
        // SAFETY: no vector has more than 16 lanes.
        unsafe {
            for (lanes, v) in lanes.iter_mut().zip([self, mult, left, right]) {
                v.store(lanes.as_mut_ptr());
            }
            let [mut sums, mults, lefts, rights] = lanes;
            for (i, sum) in sums.iter_mut().enumerate() {
                let factor = Requant { mult: mults[i], shift: (lefts[i] - rights[i]) as i8 };
                *sum = factor.rescale_once(*sum);
            }
            Self::load(sums.as_ptr())
        }
    }
}

/// A vector of twice as many 16-bit halves, and the products of their pairs.
///
/// # Safety
/// As for [`Lanes`]; sums and differences of halves wrap.
pub(super) trait Halves: Lanes {
    /// Rows of the largest tile of [`Halves::dot_pairs`], by the panel's vectors less 1.
    const PAIR_ROWS: [usize; 2];

    /// Sign-extended bytes, twice as many as there are lanes.
    unsafe fn load_halves(p: *const i8) -> Self;
    /// `v` in every half.
    unsafe fn splat_halves(v: i16) -> Self;
    /// Sums of halves.
    unsafe fn add_halves(self, b: Self) -> Self;
    /// Differences of halves.
    unsafe fn sub_halves(self, b: Self) -> Self;
    /// Halves shifted left.
    unsafe fn shl_halves<const N: i32>(self) -> Self;
    /// This plus the sum of products of the pairs of `x` and `w`, of which no pair reaches `2^31`.
    unsafe fn dot_pairs(self, x: Self, w: Self) -> Self;
    /// Lanes shifted left.
    unsafe fn shl_by<const N: i32>(self) -> Self;
}

/// What [`quick`](super::finish::quick) finishes sums with: lanes as f32, and two vectors of lanes as one of halves.
///
/// # Safety
/// As for [`Lanes`].
pub(super) trait Quick: Halves {
    /// The integer nearest to `self * scale + (half with the sign of self)`, computed in f32 and rounded once, and how far
    /// it is from that. Lanes of `scale` and `half` are f32.
    unsafe fn nearest(self, scale: Self, half: Self) -> (Self, Self);
    /// Whether any lane of two vectors of f32 is greater than `limit`'s.
    unsafe fn any_beyond(a: Self, b: Self, limit: Self) -> bool;
    /// The lanes of two vectors as halves, in order, saturated.
    unsafe fn narrow(a: Self, b: Self) -> Self;
    /// Pairs of halves of `a` and `b`, in two vectors whose order [`Quick::narrow_pairs`] undoes.
    unsafe fn pairs(a: Self, b: Self) -> (Self, Self);
    /// The lanes of two vectors in the order of [`Quick::pairs`] as halves, saturated.
    unsafe fn narrow_pairs(a: Self, b: Self) -> Self;
    /// `max(low, min(high, self))` of halves.
    unsafe fn clamp_halves(self, low: Self, high: Self) -> Self;
    /// Stores halves, all in `-128..=127`, as bytes.
    unsafe fn store_halves(self, p: *mut i8);
}

/// Code generic over an instruction set. `run` must be `#[inline(always)]`, so that it is compiled inside the function
/// that enables the instruction set.
pub(super) trait Pass<L> {
    /// The code.
    ///
    /// # Safety
    /// The CPU has `L`'s instruction set, and whatever the implementation asks of its fields holds.
    unsafe fn run(self);
}
