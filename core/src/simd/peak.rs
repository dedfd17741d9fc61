//! The limits a benchmark prints beside its results: multiply-adds from registers, and reads.

use super::{
    int8,
    isa::Isa,
    vector::{Op, Vector, dispatch},
};

/// Independent accumulators: more than latency times ports on any CPU we know.
const CHAINS: usize = 12;

/// What a kernel multiplies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Arithmetic {
    /// f32: fused multiply-adds
    F32,
    /// bytes, as direct int8 convolutions multiply them
    Int8,
    /// 16-bit integers, as exact integer Winograd multiplies them
    Int16,
}

impl Arithmetic {
    /// `f32`, `int8` or `int16`.
    pub const fn name(self) -> &'static str {
        match self {
            Arithmetic::F32 => "f32",
            Arithmetic::Int8 => "int8",
            Arithmetic::Int16 => "int16",
        }
    }
}

/// Runs `rounds` rounds of multiply-adds on registers alone. Returns how many multiply-adds that were: time it for the peak.
pub fn burst(isa: Isa, arithmetic: Arithmetic, rounds: u64) -> u64 {
    let pairs = match arithmetic {
        Arithmetic::F32 => {
            let mut count = 0;
            // SAFETY: the op touches registers only.
            unsafe { dispatch(isa, Fma { rounds, count: &mut count }) };
            return count;
        }
        Arithmetic::Int8 => false,
        Arithmetic::Int16 => true,
    };
    int8::burst(int8::DotIsa::of(isa), pairs, rounds)
}

struct Fma<'a> {
    rounds: u64,
    count: &'a mut u64,
}

impl Op for Fma<'_> {
    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        // SAFETY: the caller vouches for the instruction set; `sink` holds a vector on every one.
        unsafe {
            let (a, b) = (V::splat(core::hint::black_box(0.999_9)), V::splat(core::hint::black_box(1e-5)));
            let mut acc = [V::splat(1.0); CHAINS];
            for _ in 0..self.rounds {
                for v in &mut acc {
                    *v = v.mul_add(a, b);
                }
            }
            let mut sink = [0.0; 64];
            for v in acc {
                v.store(sink.as_mut_ptr());
                core::hint::black_box(&sink);
            }
        }
        *self.count = self.rounds * (CHAINS * V::LANES) as u64;
    }
}

/// Reads all of `data` once, whole vectors, and returns their sum. Time it for the bandwidth of
/// whichever cache holds it.
pub fn read_burst(isa: Isa, data: &[f32]) -> f32 {
    let mut sum = 0.0;
    // SAFETY: the op reads whole vectors inside `data`.
    unsafe { dispatch(isa, Read { data, sum: &mut sum }) };
    sum
}

struct Read<'a> {
    data: &'a [f32],
    sum: &'a mut f32,
}

impl Op for Read<'_> {
    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        // SAFETY: chunks hold `CHAINS` whole vectors; `sink` holds one on every instruction set.
        unsafe {
            let mut acc = [V::splat(0.0); CHAINS];
            for chunk in self.data.chunks_exact(CHAINS * V::LANES) {
                for (i, v) in acc.iter_mut().enumerate() {
                    *v = v.add(V::load(chunk.as_ptr().add(i * V::LANES)));
                }
            }
            let mut sink = [0.0; 64];
            for v in acc {
                v.store(sink.as_mut_ptr());
                *self.sum += sink.iter().sum::<f32>();
            }
        }
    }
}
