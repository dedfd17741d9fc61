//! Softmax and cross-entropy, with label smoothing (Szegedy et al. 2016, section 7).
//!
//! ```text
//! p = exp(z - max z) / sum exp(z - max z)         q = (1 - epsilon) * onehot(label) + epsilon / classes
//! loss = -sum q * ln p                            dz = p - q
//! ```

/// What one batch's outputs say.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Score {
    /// sum of the losses
    pub loss: f64,
    /// pictures whose label had the largest output
    pub correct: usize,
    /// pictures
    pub count: usize,
}

impl Score {
    /// Adds another batch.
    pub fn add(&mut self, other: Score) {
        self.loss += other.loss;
        self.correct += other.correct;
        self.count += other.count;
    }

    /// Mean loss.
    pub fn mean_loss(&self) -> f64 {
        self.loss / self.count as f64
    }

    /// Fraction of correct pictures.
    pub fn top1(&self) -> f64 {
        self.correct as f64 / self.count as f64
    }
}

/// Scores `labels.len()` rows of logits; with `gradient`, also writes `factor * dz` there.
///
/// # Panics
/// When a slice is no whole number of rows, or a label no class.
pub fn cross_entropy(logits: &[f32], labels: &[u32], smoothing: f64, gradient: Option<(&mut [f32], f64)>) -> Score {
    let classes = logits.len() / labels.len().max(1);
    let mut score = Score { count: labels.len(), ..Score::default() };
    let (mut rows, factor) = match gradient {
        Some((gradient, factor)) => (Some(gradient.chunks_exact_mut(classes)), factor),
        None => (None, 0.0),
    };
    for (z, &label) in logits.chunks_exact(classes).zip(labels) {
        let label = label as usize;
        let largest = z.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let exp = |v: f32| (f64::from(v) - f64::from(largest)).exp();
        let sum: f64 = z.iter().map(|&v| exp(v)).sum();
        let log_sum = sum.ln() + f64::from(largest);
        let uniform = smoothing / classes as f64;
        let spread: f64 = if smoothing > 0.0 { z.iter().map(|&v| log_sum - f64::from(v)).sum() } else { 0.0 };
        score.loss += (1.0 - smoothing) * (log_sum - f64::from(z[label])) + uniform * spread;
        // The first of equal outputs counts, as in PyTorch's argmax.
        score.correct += usize::from(z.iter().position(|&v| v == largest) == Some(label));
        if let Some(row) = rows.as_mut().and_then(Iterator::next) {
            for (i, (dz, &v)) in row.iter_mut().zip(z).enumerate() {
                let target = uniform + if i == label { 1.0 - smoothing } else { 0.0 };
                *dz = (factor * (exp(v) / sum - target)) as f32;
            }
        }
    }
    score
}
