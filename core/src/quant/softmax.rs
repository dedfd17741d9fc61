//! TFLite's int8 softmax, for comparing whole files; an application takes the largest logit instead.

use super::requantize::{Requant, doubling_high, rounding_divide};

/// Softmax of int8 logits to int8 probabilities (scale 1/256, zero point -128), in integers as TFLite's
/// reference kernel computes it.
///
/// Numbers are fixed-point, products rounded to nearest: differences to the largest logit have 26 fraction
/// bits, exponentials 31, their sum 19.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Softmax {
    /// one step of the logits, in units of `2^-26`
    step: Requant,
    /// differences below this are probability 0: the exponent would leave `-32..=0`
    least: i32,
}

const ONE: i32 = i32::MAX;
/// Fraction bits of exponents.
const EXPONENT: u32 = 26;
/// `exp(-2^k)` for `k = -2..=4`, 31 fraction bits.
const POWERS: [i32; 7] = [1_672_461_947, 1_302_514_674, 790_015_084, 290_630_308, 39_332_535, 720_401, 242];
/// `exp(-1/8)`, 31 fraction bits.
const EXP_EIGHTH: i32 = 1_895_147_668;
/// 1/3, 31 fraction bits.
const THIRD: i32 = 715_827_883;
/// 48/17 and -32/17, 29 fraction bits: the line nearest to `1/x` on `1/2..1`.
const LINE: [i32; 2] = [1_515_870_810, -1_010_580_540];

impl Softmax {
    /// Softmax of `beta` times logits of this scale; `None` unless their product is in `2^-26..16`.
    pub const fn new(beta: f32, scale: f32) -> Option<Self> {
        let Some(step) = Requant::from_scale(beta as f64 * scale as f64 * (1u32 << EXPONENT) as f64) else {
            return None;
        };
        if step.shift < 1 {
            return None;
        }
        Some(Softmax { step, least: -((31i64 << EXPONENT) >> step.shift) as i32 })
    }

    /// `y = softmax(x)`; both have the same length.
    pub fn run(&self, x: &[i8], y: &mut [i8]) {
        let most = x.iter().copied().max().unwrap_or_default();
        let power = |x: i8| {
            let difference = i32::from(x) - i32::from(most);
            (difference >= self.least).then(|| exp(self.step.rescale(difference)))
        };
        let sum: i32 = x.iter().filter_map(|x| power(*x)).map(|e| rounding_divide(e, 12)).fold(0, i32::saturating_add);
        // `sum = (1 + rest) 2^(12 - zeros)` with 31 fraction bits of `rest`.
        let zeros = sum.max(1).leading_zeros();
        let rest = (i64::from(sum.max(1)) << zeros) - (1 << 31);
        let inverse = inverse_of_one_plus(rest as i32);
        for (y, x) in y.iter_mut().zip(x) {
            let share = power(*x).map_or(0, |e| doubling_high(inverse, e));
            // 8 of the 31 fraction bits stay; a sum of thousands leaves none of any share.
            let value = match 12 + 31 - 8 - zeros {
                right @ ..=31 => rounding_divide(share, right) - 128,
                _ => -128,
            };
            *y = value.clamp(-128, 127) as i8;
        }
    }
}

/// `exp(x)` for `x <= 0` with 26 fraction bits, above -32.
fn exp(x: i32) -> i32 {
    if x == 0 {
        return ONE;
    }
    // x = near - whole quarters, near in -1/4..0
    let quarter = 1 << (EXPONENT - 2);
    let near = (x & (quarter - 1)) - quarter;
    let quarters = near.wrapping_sub(x);
    let bits = POWERS.iter().enumerate().filter(|(k, _)| quarters >> (EXPONENT as usize - 2 + k) & 1 == 1);
    bits.fold(exp_of_quarter(near << 5), |product, (_, power)| doubling_high(product, *power))
}

/// `exp(x)` for `x` in `-1/4..0`, 31 fraction bits: Taylor's polynomial of degree 4 around -1/8.
fn exp_of_quarter(x: i32) -> i32 {
    let x = x + (1 << 28);
    let square = doubling_high(x, x);
    let cube = doubling_high(square, x);
    let fourth = doubling_high(square, square);
    // x^2 / 2 + x^3 / 6 + x^4 / 24
    let rest = rounding_divide(doubling_high(rounding_divide(fourth, 2) + cube, THIRD) + square, 1);
    EXP_EIGHTH + doubling_high(EXP_EIGHTH, x + rest)
}

/// `1 / (1 + x)` for `x` in `0..1`, 31 fraction bits: Newton's method, three steps.
fn inverse_of_one_plus(x: i32) -> i32 {
    // Half the denominator, in 1/2..1: the mean of x and 1.
    let half = ((i64::from(x) + i64::from(ONE) + 1) >> 1) as i32;
    let mut inverse = LINE[0] + doubling_high(half, LINE[1]);
    for _ in 0..3 {
        let error = (1 << 29) - doubling_high(half, inverse);
        inverse += doubling_high(inverse, error).saturating_mul(4);
    }
    // 29 fraction bits of 1 / half are 30 of its half.
    inverse.saturating_mul(2)
}

#[cfg(test)]
mod tests {
    use super::Softmax;

    #[test]
    fn probabilities_are_rounded_to_256ths() {
        let softmax = Softmax::new(1.0, 0.17).unwrap();
        let mut y = [0; 3];
        softmax.run(&[5, 5, -128], &mut y);
        assert_eq!(y, [0, 0, -128]);
        softmax.run(&[127, -128, -128], &mut y);
        assert_eq!(y, [127, -128, -128]);
        softmax.run(&[], &mut []);
        for (beta, scale) in [(1.0, 0.0), (f32::NAN, 1.0), (-1.0, 1.0), (1.0, f32::INFINITY), (1.0, 16.0)] {
            assert_eq!(Softmax::new(beta, scale), None);
        }
    }

    /// Logits of MLPerf Tiny's ResNet-8 whose largest share is 193.50007 of 256: the sum's 19 fraction bits decide.
    #[test]
    fn ties_fall_as_in_the_reference_kernel() {
        let softmax = Softmax::new(1.0, 0.171_853_51).unwrap();
        let mut y = [0; 10];
        softmax.run(&[-47, -35, 5, -9, -21, 17, 0, 5, -63, -20], &mut y);
        assert_eq!(y, [-128, -128, -103, -126, -128, 65, -118, -103, -128, -128]);
    }

    #[test]
    fn probabilities_are_those_of_real_numbers_within_half_a_step() {
        for scale in [0.001f32, 0.02, 0.17, 1.0, 3.7] {
            let softmax = Softmax::new(1.0, scale).unwrap();
            let mut seed = 9u32;
            for len in [1, 2, 10, 100] {
                let x: Vec<i8> = (0..len)
                    .map(|_| {
                        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                        (seed >> 24) as i8
                    })
                    .collect();
                let mut y = vec![0; len];
                softmax.run(&x, &mut y);
                let power = |x: &i8| (f64::from(scale) * f64::from(*x)).exp();
                let sum: f64 = x.iter().map(power).sum();
                for (x, y) in x.iter().zip(&y) {
                    let want = (256.0 * power(x) / sum).min(255.0);
                    assert!((f64::from(*y) + 128.0 - want).abs() < 0.501, "scale {scale}, {x}: {y}, {want}");
                }
            }
        }
    }
}
