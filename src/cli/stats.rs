//! Percentiles of timings.

/// Sorted timings in milliseconds.
pub struct Stats(Vec<f64>);

impl Stats {
    pub fn new(mut ms: Vec<f64>) -> Self {
        ms.sort_by(f64::total_cmp);
        Stats(ms)
    }

    /// The smallest value that `p` percent are not above (nearest rank); 0 without values.
    pub fn percentile(&self, p: f64) -> f64 {
        let rank = (p / 100.0 * self.0.len() as f64).ceil() as usize;
        self.0.get(rank.saturating_sub(1)).copied().unwrap_or_default()
    }

    pub fn median(&self) -> f64 {
        let n = self.0.len();
        if n > 0 && n.is_multiple_of(2) { (self.0[n / 2 - 1] + self.0[n / 2]) / 2.0 } else { self.percentile(50.0) }
    }

    pub fn min(&self) -> f64 {
        self.percentile(0.0)
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::Stats;

    #[test]
    fn percentiles_are_nearest_ranks() {
        let stats = Stats::new((1..=10).rev().map(f64::from).collect());
        assert_eq!(
            (stats.min(), stats.median(), stats.percentile(90.0), stats.percentile(99.0)),
            (1.0, 5.5, 9.0, 10.0)
        );
        assert_eq!((Stats::new(vec![3.0, 1.0, 2.0]).median(), Stats::new(vec![]).median()), (2.0, 0.0));
    }
}
