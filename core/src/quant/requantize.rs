//! Rescaling of 32-bit accumulators, rounded as TFLite's reference kernels round.

/// A positive real factor `mult * 2^-31 * 2^shift`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Requant {
    /// Q31 mantissa, in `[2^30, 2^31)`, or 0 for a factor too small to matter; that of a [`super::Mean`] may be
    /// smaller
    pub mult: i32,
    /// binary exponent, `-31..=30`; positive shifts left before the multiplication
    pub shift: i8,
}

impl Requant {
    /// The factor nearest to `scale` (TFLite's `QuantizeMultiplier`): 0 below `2^-32`, `None` for
    /// values that are negative, not finite or at least `2^30`.
    pub const fn from_scale(scale: f64) -> Option<Self> {
        const MANTISSA: u32 = 52;
        let bits = scale.to_bits();
        if scale == 0.0 {
            return Some(Requant { mult: 0, shift: 0 });
        }
        if bits >> 63 != 0 || !scale.is_finite() || scale >= (1u32 << 30) as f64 {
            return None;
        }
        let exponent = (bits >> MANTISSA) as i32;
        if exponent == 0 {
            return Some(Requant { mult: 0, shift: 0 }); // subnormal
        }
        // scale = fraction * 2^shift with fraction in [1/2, 1), held as a 53-bit integer
        let fraction = (bits & ((1 << MANTISSA) - 1)) | (1 << MANTISSA);
        let mut shift = exponent - 1022;
        let mut mult = (fraction + (1 << 21)) >> 22; // round(fraction * 2^31), ties away from zero
        if mult == 1 << 31 {
            mult >>= 1;
            shift += 1;
        }
        if shift < -31 {
            return Some(Requant { mult: 0, shift: 0 });
        }
        if shift > 30 {
            return None;
        }
        Some(Requant { mult: mult as i32, shift: shift as i8 })
    }

    /// Whether the mantissa is 0 or in `[2^30, 2^31)` and the exponent in its range.
    pub const fn is_valid(self) -> bool {
        (self.mult == 0 || self.mult >= 1 << 30) && self.shift >= -31 && self.shift <= 30
    }

    /// `acc` times this factor, rounded twice: the doubled high half of the product to nearest, then
    /// the division by `2^-shift` to nearest with ties away from zero.
    ///
    /// Integers only and the same bits on every target. This function is the definition; every
    /// faster kernel must equal it for every `acc` it can meet.
    pub const fn rescale(self, acc: i32) -> i32 {
        let left = if self.shift > 0 { self.shift as u32 } else { 0 };
        let right = if self.shift < 0 { self.shift.unsigned_abs() as u32 } else { 0 };
        rounding_divide(doubling_high(acc.wrapping_shl(left), self.mult), right)
    }

    /// `acc` times this factor, rounded once to nearest; a tie goes up.
    pub const fn rescale_once(self, acc: i32) -> i32 {
        let right = (31 - self.shift as i32) as u32;
        let value = (acc as i64 * self.mult as i64 + (1 << (right - 1))) >> right;
        if value > i32::MAX as i64 {
            i32::MAX
        } else if value < i32::MIN as i64 {
            i32::MIN
        } else {
            value as i32
        }
    }

    /// [`Requant::rescale`] or [`Requant::rescale_once`].
    pub const fn rescale_as(self, rounding: Rounding, acc: i32) -> i32 {
        match rounding {
            Rounding::Twice => self.rescale(acc),
            Rounding::Once => self.rescale_once(acc),
        }
    }
}

/// How often a rescaling of sums rounds. LiteRT's reference kernels round twice in convolutions and once in
/// fully connected layers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Rounding {
    /// [`Requant::rescale`]
    #[default]
    Twice,
    /// [`Requant::rescale_once`]
    Once,
}

/// `round(a * b / 2^31)`; a tie goes up. (gemmlowp's `SaturatingRoundingDoublingHighMul`; its one
/// saturating case needs `a = b = -2^31`, and mantissas are never negative.)
pub(crate) const fn doubling_high(a: i32, b: i32) -> i32 {
    let product = a as i64 * b as i64;
    let nudge = if product >= 0 { 1i64 << 30 } else { 1 - (1i64 << 30) };
    ((product + nudge) / (1i64 << 31)) as i32 // truncating division
}

/// `round(x / 2^right)` with ties away from zero, `right <= 31` (gemmlowp's `RoundingDivideByPOT`).
pub(crate) const fn rounding_divide(x: i32, right: u32) -> i32 {
    let mask = ((1i64 << right) - 1) as i32;
    let threshold = (mask >> 1) + (x < 0) as i32;
    (x >> right) + ((x & mask) > threshold) as i32
}

/// `value + zero_point`, clamped to `min..=max`.
pub const fn saturate(value: i32, zero_point: i8, min: i8, max: i8) -> i8 {
    let v = value.saturating_add(zero_point as i32);
    if v < min as i32 {
        min
    } else if v > max as i32 {
        max
    } else {
        v as i8
    }
}

#[cfg(test)]
mod tests {
    use super::{Requant, saturate};

    /// The same rounding written with wide integers and no bit tricks.
    fn wide(acc: i32, q: Requant) -> i32 {
        let left = q.shift.max(0) as u32;
        let right = (-q.shift).max(0) as u32;
        let product = i128::from(acc.wrapping_shl(left)) * i128::from(q.mult);
        let high = (product + (1 << 30)).div_euclid(1 << 31);
        let unit = 1i128 << right;
        let magnitude = (high.abs() * 2 + unit).div_euclid(2 * unit);
        (if high < 0 { -magnitude } else { magnitude }) as i32
    }

    /// `floor(acc * mult / 2^(31 - shift) + 1/2)` in wide integers.
    fn once(acc: i32, q: Requant) -> i32 {
        let unit = 1i128 << (31 - i32::from(q.shift));
        let value = (2 * i128::from(acc) * i128::from(q.mult) + unit).div_euclid(2 * unit);
        value.clamp(i32::MIN.into(), i32::MAX.into()) as i32
    }

    #[test]
    fn equals_the_wide_formula_at_the_edges_and_on_a_sweep() {
        let mut accs = vec![i32::MIN, i32::MIN + 1, i32::MAX, i32::MAX - 1, 0];
        for bit in 0..31 {
            for d in [-2, -1, 0, 1, 2] {
                accs.push((1i32 << bit).wrapping_add(d));
                accs.push((-(1i32 << bit)).wrapping_add(d));
            }
        }
        let mut seed = 1u32;
        for _ in 0..3000 {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            accs.push(seed as i32 >> (seed & 15));
        }
        for mult in [0, 1 << 30, (1 << 30) + 1, 1_518_500_250, 1_610_612_736, i32::MAX - 1, i32::MAX] {
            for shift in -31..=30 {
                let q = Requant { mult, shift };
                for &acc in &accs {
                    assert_eq!(q.rescale(acc), wide(acc, q), "acc {acc} {q:?}");
                    assert_eq!(q.rescale_once(acc), once(acc, q), "acc {acc} {q:?}");
                }
            }
        }
    }

    #[test]
    fn scales_become_the_nearest_factor() {
        for scale in [1e-9, 0.000_123, 0.25, 0.3, 0.499_999_999_9, 0.5, 1.0, 1.5, 1000.0] {
            let q = Requant::from_scale(scale).unwrap();
            assert!(q.is_valid() && q.mult >= 1 << 30);
            let back = f64::from(q.mult) * f64::from(q.shift).exp2() / 2f64.powi(31);
            assert!((back / scale - 1.0).abs() <= 2f64.powi(-31), "{scale} became {back}");
        }
        // Rounding the mantissa up to 2^31 moves the exponent.
        assert_eq!(Requant::from_scale(1.0 - 1e-12), Some(Requant { mult: 1 << 30, shift: 1 }));
        assert_eq!(Requant::from_scale(1e-30), Some(Requant { mult: 0, shift: 0 }));
        assert_eq!(Requant::from_scale(0.0), Some(Requant { mult: 0, shift: 0 }));
        for bad in [-0.5, f64::NAN, f64::INFINITY, 2f64.powi(30)] {
            assert_eq!(Requant::from_scale(bad), None);
        }
    }

    #[test]
    fn saturation_clamps_to_the_range() {
        assert_eq!(saturate(i32::MAX, 127, -128, 127), 127);
        assert_eq!(saturate(i32::MIN, -128, -128, 127), -128);
        assert_eq!(saturate(-3, 1, 0, 5), 0);
        assert_eq!(saturate(9, 1, 0, 5), 5);
        assert_eq!(saturate(3, 1, 0, 5), 4);
    }
}
