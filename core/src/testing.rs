//! Reproducible numbers for tests, benchmarks and generated weights.

#[cfg(feature = "alloc")]
pub use generated::Generated;

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

#[cfg(feature = "alloc")]
mod generated {
    use alloc::{collections::BTreeMap, string::String, vec::Vec};

    use super::mix;
    use crate::{
        resnet::ResNet,
        weights::{Tensor, Weights},
    };

    /// Weights of any network by a rule: every value depends on its tensor's name and its index alone.
    ///
    /// With `h` the FNV-1a hash of the name, value `i` begins as SplitMix64's output for
    /// `h + i * 0x9E3779B97F4A7C15`, reduced to `u` in `[0, 1)` by its upper 24 bits; then
    ///
    /// | tensor | value |
    /// |---|---|
    /// | `*.running_var` | `0.5 + u` |
    /// | `*.running_mean` | `(2u - 1) * 0.1` |
    /// | convolution, OIHW | `(2u - 1) * sqrt(6 / (I * H * W))` |
    /// | `fc.weight` | `(2u - 1) * sqrt(1 / inputs)` |
    /// | other `*.weight` | `0.25 + 0.5u` |
    /// | other `*.bias` | `(2u - 1) * 0.1` |
    #[derive(Clone, Debug)]
    pub struct Generated {
        spec: ResNet,
        tensors: BTreeMap<String, (Vec<usize>, Vec<f32>)>,
    }

    impl Generated {
        /// All tensors of `spec`.
        pub fn new(spec: ResNet) -> Self {
            let tensors = spec.tensors().map(|t| {
                let shape = t.shape().to_vec();
                let rule = rule(&t.name, &shape);
                let data = unit(&t.name, t.elements()).map(|u| rule(u) as f32).collect();
                (String::from(t.name.as_str()), (shape, data))
            });
            Generated { spec, tensors: tensors.collect() }
        }

        /// The network they belong to.
        pub fn spec(&self) -> &ResNet {
            &self.spec
        }

        /// All names.
        pub fn names(&self) -> impl Iterator<Item = &str> {
            self.tensors.keys().map(String::as_str)
        }

        /// `n` values in `[-1, 1)` for the tensor called `name`.
        pub fn signed(name: &str, n: usize) -> Vec<f32> {
            unit(name, n).map(|u| (2.0 * u - 1.0) as f32).collect()
        }
    }

    impl Weights for Generated {
        fn tensor(&self, name: &str) -> Option<Tensor<'_>> {
            self.tensors.get(name).map(|(shape, data)| Tensor::new(shape, data))
        }
    }

    fn unit(name: &str, n: usize) -> impl Iterator<Item = f64> {
        let hash = name.bytes().fold(0xCBF2_9CE4_8422_2325u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01B3));
        (0..n as u64).map(move |i| {
            let z = hash.wrapping_add(i.wrapping_mul(0x9E37_79B9_7F4A_7C15));
            f64::from(mix(z)) / f64::from(1u32 << 24)
        })
    }

    fn rule(name: &str, shape: &[usize]) -> impl Fn(f64) -> f64 + use<> {
        let (offset, factor) = match shape {
            _ if name.ends_with(".running_var") => (0.5, 1.0),
            _ if name.ends_with(".running_mean") => (-0.1, 0.2),
            [_, i, h, w] => around_zero(6.0 / (i * h * w) as f64),
            [_, inputs] => around_zero(1.0 / *inputs as f64),
            _ if name.ends_with(".weight") => (0.25, 0.5),
            _ => (-0.1, 0.2),
        };
        let symmetric = offset < 0.0;
        // The symmetric rules are written `(2u - 1) * limit`; another order would round differently.
        move |u| if symmetric { (2.0 * u - 1.0) * (factor / 2.0) } else { offset + factor * u }
    }

    fn around_zero(variance: f64) -> (f64, f64) {
        let limit = crate::resnet::sqrt(variance);
        (-limit, 2.0 * limit)
    }
}
