//! TFLite's int8 softmax, for comparing whole files; an application takes the largest logit instead.

/// Softmax of int8 logits to int8 probabilities (scale 1/256, zero point -128).
///
/// LiteRT computes it in f32 from a table of exponentials, its reference kernels included:
/// `round(256 exp(-step (largest - x)) / sum) - 128`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Softmax {
    step: f32,
}

impl Softmax {
    /// Softmax of `beta` times logits of this scale; `None` unless their product is positive and finite.
    pub fn new(beta: f32, scale: f32) -> Option<Self> {
        let step = beta * scale;
        (step.is_finite() && step > 0.0).then_some(Softmax { step })
    }

    /// `y = softmax(x)`; both have the same length.
    pub fn run(&self, x: &[i8], y: &mut [i8]) {
        let most = x.iter().copied().max().unwrap_or_default();
        let exp = |x: i8| (-self.step * (f32::from(most) - f32::from(x))).exp();
        let sum: f32 = x.iter().map(|x| exp(*x)).sum();
        let inverse = 1.0 / (sum / 256.0);
        for (y, x) in y.iter_mut().zip(x) {
            *y = ((exp(*x) * inverse).round() - 128.0).clamp(-128.0, 127.0) as i8;
        }
    }
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
        for (beta, scale) in [(1.0, 0.0), (f32::NAN, 1.0), (-1.0, 1.0), (1.0, f32::INFINITY)] {
            assert_eq!(Softmax::new(beta, scale), None);
        }
    }
}
