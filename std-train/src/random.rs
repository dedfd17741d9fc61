//! Random numbers that depend on what they are for, never on what was drawn before.
//!
//! Every use has a stream of its own. The run's seed, a purpose and an index (an epoch, a picture, a tensor) name it. So
//! a run goes on exactly without any saved state, and threads may draw in any order.

/// A SplitMix64 sequence (Steele, Lea & Flood 2014).
#[derive(Clone, Debug)]
pub struct Stream(u64);

/// What a stream is for.
#[derive(Clone, Copy, Debug)]
pub enum Purpose {
    /// initial weights, indexed by tensor
    Init = 1,
    /// the order of pictures, indexed by epoch
    Shuffle,
    /// augmentation, indexed by epoch and picture
    Augment,
    /// the pictures of a generated data set, indexed by picture
    Picture,
    /// which pictures are held out for validation
    Holdout,
}

impl Stream {
    /// The stream for one use.
    pub fn new(seed: u64, purpose: Purpose, index: [u64; 2]) -> Self {
        let mut state = seed;
        for part in [purpose as u64, index[0], index[1]] {
            state = mix(state.wrapping_add(0x9E37_79B9_7F4A_7C15) ^ part.wrapping_mul(0xD6E8_FEB8_6659_FD93));
        }
        Stream(state)
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mix(self.0)
    }

    /// Uniform in `[0, 1)`.
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Uniform in `0..n`; 0 for an empty range. The bias is below `n / 2^64`.
    pub fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.bits()) * n as u128) >> 64) as usize
    }

    /// Standard normal (Box & Muller 1958).
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.unit()).cos()
    }

    /// A permutation of `0..n` (Fisher-Yates).
    pub fn permutation(&mut self, n: usize) -> Vec<u32> {
        let mut order: Vec<u32> = (0..n as u32).collect();
        for i in (1..n).rev() {
            order.swap(i, self.below(i + 1));
        }
        order
    }
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::{Purpose, Stream};

    #[test]
    fn moments_are_those_of_the_distributions() {
        let mut stream = Stream::new(1, Purpose::Init, [2, 3]);
        let n = 100_000;
        let (mut mean, mut square) = (0.0, 0.0);
        for _ in 0..n {
            let v = stream.normal();
            mean += v / f64::from(n);
            square += v * v / f64::from(n);
        }
        // Four standard errors: 1 / sqrt(n) and sqrt(2 / n).
        assert!(mean.abs() < 4.0 / f64::from(n).sqrt() && (square - 1.0).abs() < 4.0 * (2.0 / f64::from(n)).sqrt());
        let mut counts = [0; 7];
        (0..n).for_each(|_| counts[stream.below(7)] += 1);
        let expected = f64::from(n) / 7.0;
        assert!(counts.iter().all(|&c| (f64::from(c) - expected).abs() < 4.5 * expected.sqrt()), "{counts:?}");
    }

    #[test]
    fn permutations_hold_everything_once_and_differ_by_index() {
        let order = |epoch| Stream::new(7, Purpose::Shuffle, [epoch, 0]).permutation(1000);
        let mut sorted = order(0);
        sorted.sort_unstable();
        assert_eq!(sorted, (0..1000).collect::<Vec<u32>>());
        assert_ne!(order(0), order(1));
        assert_eq!(order(1), order(1));
    }
}
