//! The limits a benchmark prints beside its results: multiply-adds from registers, and reads.

use super::{
    isa::Isa,
    vector::{Op, Vector, dispatch},
};

/// Independent accumulators: more than latency times ports on any CPU we know.
const CHAINS: usize = 12;

/// Runs `rounds` rounds of fused multiply-adds on registers alone; returns the floating-point
/// operations done (two a lane). Time it for the peak.
pub fn fma_burst(isa: Isa, rounds: u64) -> u64 {
    let mut flops = 0;
    // SAFETY: the op touches registers only.
    unsafe { dispatch(isa, Fma { rounds, flops: &mut flops }) };
    flops
}

struct Fma<'a> {
    rounds: u64,
    flops: &'a mut u64,
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
        *self.flops = self.rounds * (CHAINS * V::LANES * 2) as u64;
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
