//! Batch normalisation (Ioffe & Szegedy 2015, section 3), over the `n` samples of each channel: all
//! pixels of all images of a batch.
//!
//! ```text
//! forward    mean = sum x / n      var = sum (x - mean)^2 / n      rstd = 1 / sqrt(var + epsilon)
//!            xhat = (x - mean) * rstd                  y = gamma * xhat + beta
//! running    r = (1 - momentum) * r + momentum * (mean, and var * n / (n - 1))
//! backward   dbeta = sum dy                            dgamma = sum dy * xhat
//!            dx = gamma * rstd * (dy - dbeta / n - xhat * dgamma / n)
//! ```
//!
//! Both directions are one multiply-add or two an element once the sums are known, so they are fused
//! into the passes around them: forward `scale * x + shift`, backward `a * dy + b * x + c`.

use std::ops::Range;

use residual_core::{Isa, resnet::BN_EPSILON, simd::moments};

use crate::parameters::Parameters;

/// Weight of a new batch in the running statistics, PyTorch's default.
pub const MOMENTUM: f64 = 0.1;

/// Where a batch norm's four tensors lie among the parameters.
#[derive(Clone, Debug)]
pub(crate) struct BatchNorm {
    pub gamma: Range<usize>,
    pub beta: Range<usize>,
    pub mean: Range<usize>,
    pub var: Range<usize>,
}

/// What the forward pass knows about one batch.
#[derive(Clone, Debug, Default)]
pub(crate) struct Statistics {
    /// `gamma * rstd` and `beta - mean * gamma * rstd`
    pub scale: Vec<f32>,
    pub shift: Vec<f32>,
    /// `xhat = rstd * x + offset`
    pub rstd: Vec<f32>,
    pub offset: Vec<f32>,
    /// samples per channel
    n: f64,
}

/// Sums over one image, around its first pixel: `2 * c` elements.
pub(crate) fn image_moments(isa: Isa, y: &[f32], partial: &mut [f64]) {
    partial.fill(0.0);
    let (sum, square) = partial.split_at_mut(partial.len() / 2);
    moments(isa, y, &y[..sum.len()], sum, square);
}

impl BatchNorm {
    /// Statistics of a batch from the sums of its images (in their order: threads do not matter) and
    /// running averages. `first_pixel(image)` is what the sums were taken around.
    pub(crate) fn statistics<'y>(
        &self,
        parameters: &mut Parameters,
        partials: &[f64],
        first_pixel: impl Fn(usize) -> &'y [f32],
        pixels: usize,
        statistics: &mut Statistics,
    ) {
        let c = self.gamma.len();
        let (mut mean, mut spread) = (vec![0.0f64; c], vec![0.0f64; c]);
        let mut n = 0.0;
        for (image, partial) in partials.chunks_exact(2 * c).enumerate() {
            let m = pixels as f64;
            let centre = first_pixel(image);
            let total = n + m;
            for ch in 0..c {
                // Chan, Golub & LeVeque 1983, equation 2.1.
                let (sum, square) = (partial[ch], partial[c + ch]);
                let delta = f64::from(centre[ch]) + sum / m - mean[ch];
                spread[ch] += square - sum * sum / m + delta * delta * n * m / total;
                mean[ch] += delta * m / total;
            }
            n = total;
        }
        statistics.n = n;
        for v in [&mut statistics.scale, &mut statistics.shift, &mut statistics.rstd, &mut statistics.offset] {
            v.resize(c, 0.0);
        }
        let values = parameters.values_mut();
        for ch in 0..c {
            // Not below zero, whatever the roundings; a NaN stays one.
            let var = if spread[ch] < 0.0 { 0.0 } else { spread[ch] / n };
            let rstd = 1.0 / (var + BN_EPSILON).sqrt();
            let (gamma, beta) = (f64::from(values[self.gamma.start + ch]), f64::from(values[self.beta.start + ch]));
            statistics.scale[ch] = (gamma * rstd) as f32;
            statistics.shift[ch] = (beta - mean[ch] * gamma * rstd) as f32;
            statistics.rstd[ch] = rstd as f32;
            statistics.offset[ch] = (-mean[ch] * rstd) as f32;
            let unbiased = if n > 1.0 { var * n / (n - 1.0) } else { var };
            for (range, new) in [(&self.mean, mean[ch]), (&self.var, unbiased)] {
                let running = &mut values[range.start + ch];
                *running = ((1.0 - MOMENTUM) * f64::from(*running) + MOMENTUM * new) as f32;
            }
        }
    }

    /// Adds `dgamma` and `dbeta` to the gradients and returns the coefficients of `dx = a*dy + b*x + c`,
    /// from the sums `(sum dy, sum dy * xhat)` of every image, `2 * c` elements each.
    pub(crate) fn backward(
        &self,
        parameters: &Parameters,
        statistics: &Statistics,
        partials: &[f64],
        gradients: &mut [f32],
    ) -> [Vec<f32>; 3] {
        let c = self.gamma.len();
        let mut sums = vec![0.0f64; 2 * c];
        for partial in partials.chunks_exact(2 * c) {
            sums.iter_mut().zip(partial).for_each(|(s, v)| *s += v);
        }
        let mut coefficients = [vec![0.0; c], vec![0.0; c], vec![0.0; c]];
        for ch in 0..c {
            let (dbeta, dgamma) = (sums[ch], sums[c + ch]);
            gradients[self.beta.start + ch] += dbeta as f32;
            gradients[self.gamma.start + ch] += dgamma as f32;
            let (rstd, offset) = (f64::from(statistics.rstd[ch]), f64::from(statistics.offset[ch]));
            let a = f64::from(parameters.values()[self.gamma.start + ch]) * rstd;
            coefficients[0][ch] = a as f32;
            coefficients[1][ch] = (-a * rstd * dgamma / statistics.n) as f32;
            coefficients[2][ch] = (-a * (dbeta + offset * dgamma) / statistics.n) as f32;
        }
        coefficients
    }
}

impl Statistics {
    /// Whether every number is one.
    pub(crate) fn is_finite(&self) -> bool {
        self.scale.iter().chain(&self.shift).all(|v| v.is_finite())
    }
}
