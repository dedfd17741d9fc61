//! Reproducible numbers for tests, benchmarks and generated weights.

/// A small generator (SplitMix64) of f32 values in `[-1, 1)`.
#[derive(Clone, Debug)]
pub struct Uniform(u64);

impl Uniform {
    /// A sequence that `seed` alone decides.
    pub const fn new(seed: u64) -> Self {
        Uniform(seed)
    }

    /// `n` values.
    #[cfg(feature = "alloc")]
    pub fn vec(&mut self, n: usize) -> alloc::vec::Vec<f32> {
        self.take(n).collect()
    }
}

impl Iterator for Uniform {
    type Item = f32;

    fn next(&mut self) -> Option<f32> {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        Some(mix(self.0) as f32 / (1u32 << 23) as f32 - 1.0)
    }
}

/// SplitMix64's output function, reduced to the upper 24 bits: exact in f32.
const fn mix(mut z: u64) -> u32 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^= z >> 31;
    (z >> 40) as u32
}
