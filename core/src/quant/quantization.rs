//! What an int8 means.

/// An int8 encoding: `real = scale * (q - zero_point)`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quantization {
    /// real value of one step
    pub scale: f32,
    /// the int8 that means 0.0
    pub zero_point: i8,
}

impl Quantization {
    /// `real` as int8: `round(real / scale) + zero_point`, clamped; ties are rounded away from zero.
    pub fn quantize(self, real: f32) -> i8 {
        let steps = round(f64::from(real) / f64::from(self.scale)) + f64::from(self.zero_point);
        steps.clamp(-128.0, 127.0) as i8
    }

    /// What `q` means.
    pub fn dequantize(self, q: i8) -> f32 {
        (f64::from(self.scale) * (f64::from(q) - f64::from(self.zero_point))) as f32
    }
}

/// To the nearest integer, ties away from zero, without the standard library; exact up to 2^53.
fn round(x: f64) -> f64 {
    const EXACT: f64 = (1u64 << 52) as f64;
    if !(-EXACT..EXACT).contains(&x) {
        return x;
    }
    let whole = x as i64 as f64;
    match x - whole {
        rest if rest >= 0.5 => whole + 1.0,
        rest if rest <= -0.5 => whole - 1.0,
        _ => whole,
    }
}

#[cfg(test)]
mod tests {
    use super::{Quantization, round};

    #[test]
    fn rounding_is_the_standard_librarys() {
        for x in [0.0, 0.5, -0.5, 1.5, 2.5, -2.5, 0.499_999_999_999_999_94, 1e300, -7.3, f64::INFINITY, 4.5e15, -1e-300]
        {
            assert_eq!(round(x), x.round(), "{x}");
        }
        assert!(round(f64::NAN).is_nan());
    }

    #[test]
    fn values_out_of_range_are_clamped() {
        let q = Quantization { scale: 0.1, zero_point: -3 };
        assert_eq!([1e9, -1e9, 0.0, 0.05, -0.05].map(|v| q.quantize(v)), [127, -128, -3, -2, -4]);
        assert_eq!(q.dequantize(7), 1.0);
    }
}
