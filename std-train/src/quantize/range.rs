//! Choosing the range of real values that int8 covers.

use super::{Observed, Quantization};

/// How a range is chosen from what was observed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Method {
    /// everything that was seen
    MinMax,
    /// all but 0.01% of the values
    Percentile,
    /// the least mean squared error
    Mse,
    /// the least Kullback-Leibler divergence between the values and what they become
    Kl,
}

impl Method {
    /// All of them.
    pub const ALL: [Method; 4] = [Method::MinMax, Method::Percentile, Method::Mse, Method::Kl];

    /// `minmax`, `percentile`, `mse` or `kl`.
    pub const fn name(self) -> &'static str {
        match self {
            Method::MinMax => "minmax",
            Method::Percentile => "percentile",
            Method::Mse => "mse",
            Method::Kl => "kl",
        }
    }

    /// The encoding of a value. Its range always holds 0; the result of a ReLU begins there.
    pub fn quantization(self, value: &Observed, relu: bool) -> Quantization {
        let (min, max) = self.range(value);
        encoding(if relu { 0.0 } else { min }, max)
    }

    fn range(self, value: &Observed) -> (f32, f32) {
        let (min, max) = (value.min.min(0.0), value.max.max(0.0));
        match self {
            Method::MinMax => (min, max),
            Method::Percentile => percentile(value),
            Method::Mse => narrowed(min, max, |range| squared_error(value, range)),
            Method::Kl => narrowed(min, max, |range| divergence(value, range)),
        }
    }
}

/// The encoding of `min..=max`, `min <= 0 <= max`.
pub fn encoding(min: f32, max: f32) -> Quantization {
    // Values that are always zero still need a scale.
    let scale = ((f64::from(max) - f64::from(min)) / 255.0).max(1e-9) as f32;
    let zero = (-128.0 - f64::from(min) / f64::from(scale)).round().clamp(-128.0, 127.0);
    Quantization { scale, zero_point: zero as i8 }
}

/// The smallest and the largest value of a picture normalised by `mean` and `std`, a number for every channel.
pub fn input_range(mean: &[f32], std: &[f32]) -> (f32, f32) {
    let ends = mean.iter().zip(std).flat_map(|(mean, std)| [(0.0 - mean) / std, (1.0 - mean) / std]);
    ends.fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)))
}

/// Middle of bin `i`.
fn middle(value: &Observed, i: usize) -> f64 {
    let width = (f64::from(value.max) - f64::from(value.min)) / value.histogram.len().max(1) as f64;
    f64::from(value.min) + (i as f64 + 0.5) * width
}

fn percentile(value: &Observed) -> (f32, f32) {
    let total: u64 = value.histogram.iter().sum();
    let beyond = total / 20_000;
    let edge = |bins: &mut dyn Iterator<Item = usize>| {
        let mut seen = 0;
        for i in bins {
            seen += value.histogram[i];
            if seen > beyond {
                return middle(value, i);
            }
        }
        0.0
    };
    let n = value.histogram.len();
    (edge(&mut (0..n)).min(0.0) as f32, edge(&mut (0..n).rev()).max(0.0) as f32)
}

/// The part of `min..=max` around 0 that costs least: both ends are drawn in by the same factor.
fn narrowed(min: f32, max: f32, cost: impl Fn(Quantization) -> f64) -> (f32, f32) {
    let candidates = (0..=35).map(|i| 1.0 - 0.02 * i as f32).map(|f| (min * f, max * f));
    let costed = candidates.map(|range| (cost(encoding(range.0, range.1)), range));
    costed.min_by(|a, b| a.0.total_cmp(&b.0)).map_or((min, max), |(_, range)| range)
}

fn squared_error(value: &Observed, q: Quantization) -> f64 {
    let error = |(i, n): (usize, &u64)| {
        let real = middle(value, i);
        // Inside a step the error is spread evenly; the histogram is finer than the steps or as fine.
        let d = f64::from(q.dequantize(q.quantize(real as f32))) - real;
        d * d * *n as f64
    };
    value.histogram.iter().enumerate().filter(|(_, n)| **n > 0).map(error).sum()
}

/// `sum p ln(p / q)`, where `q` spreads each step's values evenly over the bins that fall into it.
fn divergence(value: &Observed, q: Quantization) -> f64 {
    let total: u64 = value.histogram.iter().sum();
    let mut steps = [(0u64, 0u64); 256];
    let step = |i: usize| usize::from((i16::from(q.quantize(middle(value, i) as f32)) + 128) as u8);
    for (i, n) in value.histogram.iter().enumerate().filter(|(_, n)| **n > 0) {
        let step = &mut steps[step(i)];
        *step = (step.0 + n, step.1 + 1);
    }
    let inside = |i: usize| {
        let real = middle(value, i);
        let (low, high) = (q.dequantize(-128), q.dequantize(127));
        (f64::from(low)..=f64::from(high)).contains(&real)
    };
    let mut sum = 0.0;
    for (i, n) in value.histogram.iter().enumerate().filter(|(_, n)| **n > 0) {
        let p = *n as f64 / total.max(1) as f64;
        let (count, bins) = steps[step(i)];
        // What is cut off lands in the outermost step: nothing of it is left where it was.
        let kept = if inside(i) { count as f64 / bins.max(1) as f64 } else { 0.5 };
        sum += p * (p * total as f64 / kept.max(0.5)).ln();
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 0..1 evenly, and a single value at 10.
    fn outlier() -> Observed {
        let mut histogram = vec![0; 2048];
        histogram[..205].fill(1000);
        histogram[2047] = 1;
        Observed { min: 0.0, max: 10.0, histogram, ..Observed::default() }
    }

    #[test]
    fn outliers_are_cut_by_all_methods_but_one() {
        let value = outlier();
        let max = |method: Method| {
            let q = method.quantization(&value, true);
            assert_eq!(q.zero_point, -128);
            q.dequantize(127)
        };
        assert!((max(Method::MinMax) - 10.0).abs() < 1e-4);
        assert!((0.9..1.1).contains(&max(Method::Percentile)), "{}", max(Method::Percentile));
        // `205000 (m / 255)^2 / 12 + (10 - m)^2` is least at 7.92: one value far out weighs much.
        assert!((max(Method::Mse) - 7.92).abs() < 0.3, "{}", max(Method::Mse));
        // Even values look the same in steps of any width; falling ones do not.
        let mut falling = outlier();
        let counts = falling.histogram[..205].iter_mut().enumerate();
        counts.for_each(|(i, n)| *n = (1000.0 * (-(i as f64) / 40.0).exp()) as u64);
        let kl = Method::Kl.quantization(&falling, true).dequantize(127);
        assert!((0.9..5.0).contains(&kl), "{kl}");
    }

    #[test]
    fn zero_is_exact_and_constant_values_have_a_scale() {
        for (min, max) in [(0.0, 0.0), (-1.0, 0.0), (0.0, 3.0), (-0.3, 7.7)] {
            let q = encoding(min, max);
            assert_eq!(q.dequantize(q.quantize(0.0)), 0.0);
            assert!(q.scale > 0.0);
            assert!((q.dequantize(q.quantize(max)) - max).abs() <= q.scale);
        }
    }
}
