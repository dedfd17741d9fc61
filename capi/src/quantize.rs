//! From real values to a model's int8 inputs.

/// The int8 nearest to `real / scale + zero_point`, halves away from zero, saturating; NaN gives the zero
/// point.
pub fn quantize(real: f32, scale: f32, zero_point: i8) -> i8 {
    let steps = real / scale;
    // Casts saturate and truncate; the remainder of a truncation is exact.
    let whole = steps as i32;
    let rest = steps - whole as f32;
    let nearest = whole.saturating_add(i32::from(rest >= 0.5)).saturating_sub(i32::from(rest <= -0.5));
    nearest.saturating_add(i32::from(zero_point)).clamp(-128, 127) as i8
}

/// What channel `c` of a pixel becomes: `(v / 255 - mean) / std`, each step rounded to f32, then
/// [`quantize`].
pub fn quantize_pixel(v: u8, mean: f32, std: f32, scale: f32, zero_point: i8) -> i8 {
    quantize((f32::from(v) / 255.0 - mean) / std, scale, zero_point)
}

#[cfg(all(test, feature = "host"))]
mod tests {
    use super::quantize;

    #[test]
    fn quantize_rounds_as_f32_round_does() {
        let mut values: Vec<f32> = (-600..600).map(|i| i as f32 / 4.0).collect();
        values.extend([0.499_999_97, -0.499_999_97, 8_388_609.0, 1e30, -1e30, f32::INFINITY, f32::NEG_INFINITY]);
        for v in values {
            for (scale, zero) in [(1.0, 0), (0.5, -128), (0.02, 127), (3.0, 5)] {
                let want = ((v / scale).round() + f32::from(zero)).clamp(-128.0, 127.0) as i8;
                assert_eq!(quantize(v, scale, zero), want, "{v} {scale} {zero}");
            }
        }
        assert_eq!(quantize(f32::NAN, 1.0, 7), 7);
    }
}
