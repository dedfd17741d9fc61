//! The addition of a shortcut as one affine function of two bytes.

use crate::quant::{Add, Encoding, Requant};

/// `floor((d a + x b + c) / 2^s)` for a convolution's result `d` less its zero point and a shortcut `x`, clamped: what
/// TFLite's addition, which rounds five times, makes of them, for *all* `d` and `x`. Made by [`Affine::of`], which tries all.
///
/// `a` and `b` are cut into upper and lower bits, so that 16-bit multiplications compute it:
///
/// ```text
/// floor((P 2^14 + Q + c) / 2^s) = floor((P + floor((Q + c) / 2^14)) / 2^(s - 14))
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Affine {
    /// the upper bits of `a` and `b`, a pair of halves
    pub upper: i32,
    /// their lower bits
    pub lower: i32,
    /// the upper bits of `c`
    pub base: i32,
    /// its lower bits
    pub carry: i32,
    /// `s - 14`
    pub shift: i32,
}

impl Affine {
    pub const LOWER_BITS: i32 = 14;
    /// Words of memory.
    pub const WORDS: usize = 5;
    /// Most bits behind the point: `c` then fits.
    const MOST: i32 = 31;

    /// The affine function that equals `add` behind a convolution that stores `conv`, if there is one.
    pub fn of(conv: Encoding, add: &Add) -> Option<Self> {
        let factor = |term: Requant, s: i32| product(term, add.rescale_sum, s);
        let fits = |s: &i32| {
            [add.rescale_conv, add.rescale_shortcut]
                .into_iter()
                .all(|term| factor(term, *s) < 1 << (15 + Affine::LOWER_BITS))
        };
        let s = (Affine::LOWER_BITS..=Affine::MOST).rev().find(fits)?;
        let (a, b) = (factor(add.rescale_conv, s), factor(add.rescale_shortcut, s));
        let c = constant(conv, add, [a, b], s)?;
        let pair = |a: i64, b: i64| (a as i32 & 0xFFFF) | (b as i32) << 16;
        let lower = |v: i64| v & ((1 << Affine::LOWER_BITS) - 1);
        Some(Affine {
            upper: pair(a >> Affine::LOWER_BITS, b >> Affine::LOWER_BITS),
            lower: pair(lower(a), lower(b)),
            base: i32::try_from(c >> Affine::LOWER_BITS).ok()?,
            carry: lower(c) as i32,
            shift: s - Affine::LOWER_BITS,
        })
    }

    pub fn words(self) -> [i32; Affine::WORDS] {
        [self.upper, self.lower, self.base, self.carry, self.shift]
    }

    pub fn from_words([upper, lower, base, carry, shift]: [i32; Affine::WORDS]) -> Self {
        Affine { upper, lower, base, carry, shift }
    }
}

/// The product of two factors and `2^(LEFT_SHIFT + s)`, to nearest.
fn product(a: Requant, b: Requant, s: i32) -> i64 {
    let product = i64::from(a.mult) * i64::from(b.mult);
    match 62 - Add::LEFT_SHIFT as i32 - i32::from(a.shift) - i32::from(b.shift) - s {
        right @ 1..=62 => ((product >> (right - 1)) + 1) >> 1,
        63.. => 0,
        _ => i64::MAX,
    }
}

/// A `c` with which the affine function is right for all inputs, if there is one: the middle of all.
fn constant(conv: Encoding, add: &Add, [a, b]: [i64; 2], s: i32) -> Option<i64> {
    let Encoding { min, max, .. } = add.output;
    let shortcut_terms: [i32; 256] = core::array::from_fn(|i| add.shortcut_term(i as u8 as i8));
    let (mut least, mut most) = (-(1i64 << (s + 9)), 1i64 << (s + 9));
    for d in conv.min..=conv.max {
        let term = add.conv_term(d, conv.zero_point);
        let d = (i64::from(d) - i64::from(conv.zero_point)) * a;
        for x in i8::MIN..=i8::MAX {
            let y = add.encode(term + shortcut_terms[usize::from(x as u8)]);
            let (sum, y_real) = (d + i64::from(x) * b, i64::from(y) << s);
            // What lies beyond the bounds is clamped.
            if y > min {
                least = least.max(y_real - sum);
            }
            if y < max {
                most = most.min(y_real + (1 << s) - 1 - sum);
            }
        }
    }
    (least <= most).then_some((least + most) / 2)
}
