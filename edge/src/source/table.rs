//! From samples to a model's int8 inputs.

use residual_core::rsd::View;

use super::FrameError;

/// The int8 of every channel and sample: `(v / 255 - mean) / std`, quantized as the model's input.
///
/// Making one computes in float; using it does not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table([[i8; 256]; 3]);

impl Table {
    /// The model's own. One that does not say how pixels are normalised, but whose input is pixels with 128
    /// subtracted (scale 1, zero point -128), takes them so.
    ///
    /// # Errors
    /// [`FrameError::NoPreprocessing`], and [`FrameError::Channels`] if the input has other than three channels or one.
    pub fn new(model: &View<'_>) -> Result<Self, FrameError> {
        let input = model.input().ok_or(FrameError::NoPreprocessing)?;
        if ![1, 3].contains(&input.shape.c) {
            return Err(FrameError::Channels { need: input.shape.c, got: 3 });
        }
        let pixels = (input.scale - 1.0).abs() < 1e-6 && input.zero_point == -128;
        let (mean, std) = match model.preprocessing() {
            Some(p) => (p.mean, p.std),
            None if pixels => ([0.0; 3], [1.0 / 255.0; 3]),
            None => return Err(FrameError::NoPreprocessing),
        };
        let mut table = Table::raw();
        for ((row, mean), std) in table.0.iter_mut().zip(mean).zip(std) {
            for (v, entry) in (0u8..=255).zip(row) {
                *entry = quantize_pixel(v, mean, std, input.scale, input.zero_point);
            }
        }
        Ok(table)
    }

    /// For bytes that are int8 inputs already: every byte stands for itself.
    pub const fn raw() -> Self {
        let mut row = [0; 256];
        let mut v = 0;
        while v < 256 {
            row[v] = v as u8 as i8;
            v += 1;
        }
        Table([row; 3])
    }

    /// What sample `v` of a channel becomes.
    #[inline]
    pub fn get(&self, channel: usize, v: u8) -> i8 {
        let [first, ..] = &self.0;
        // A row has an entry for every byte.
        self.0.get(channel).unwrap_or(first)[usize::from(v)]
    }
}

/// The int8 nearest to `real / scale + zero_point`, halves away from zero, saturating; NaN gives the zero
/// point. The quotient is computed in f64, as on the host: in f32 some fall on the other side of a half.
pub fn quantize(real: f32, scale: f32, zero_point: i8) -> i8 {
    let steps = f64::from(real) / f64::from(scale);
    // Casts saturate and truncate; the remainder of a truncation is exact.
    let whole = steps as i32;
    let rest = steps - f64::from(whole);
    let nearest = whole.saturating_add(i32::from(rest >= 0.5)).saturating_sub(i32::from(rest <= -0.5));
    nearest.saturating_add(i32::from(zero_point)).clamp(-128, 127) as i8
}

/// What sample `v` of a channel becomes: `(v / 255 - mean) / std`, each step rounded to f32, then [`quantize`].
pub fn quantize_pixel(v: u8, mean: f32, std: f32, scale: f32, zero_point: i8) -> i8 {
    quantize((f32::from(v) / 255.0 - mean) / std, scale, zero_point)
}

#[cfg(test)]
mod tests {
    use super::quantize;

    #[test]
    fn quantize_rounds_as_the_host_does() {
        let mut values: Vec<f32> = (-600..600).map(|i| i as f32 / 4.0).collect();
        values.extend((-2000..2000).map(|i| (i as f32 / 255.0 - 0.485) / 0.229));
        values.extend([0.499_999_97, -0.499_999_97, 8_388_609.0, 1e30, -1e30, f32::INFINITY, f32::NEG_INFINITY]);
        for v in values {
            for (scale, zero) in [(1.0, 0), (0.5, -128), (0.02, 127), (3.0, 5), (0.018_658, -14), (1e-9, 0)] {
                let steps = (f64::from(v) / f64::from(scale)).round() + f64::from(zero);
                assert_eq!(quantize(v, scale, zero), steps.clamp(-128.0, 127.0) as i8, "{v} {scale} {zero}");
            }
        }
        assert_eq!(quantize(f32::NAN, 1.0, 7), 7);
    }
}
