//! Multiply-adds on registers alone, for the limit that benchmarks print.

use super::lanes::{Halves, Lanes, Pass};

/// Independent accumulators: as many as the largest register tile has at least.
const CHAINS: usize = 8;

/// Rounds of steps as direct convolutions take them.
pub(super) struct Words<'a> {
    pub rounds: u64,
    /// multiply-adds done
    pub count: &'a mut u64,
}

impl<L: Lanes> Pass<L> for Words<'_> {
    #[inline(always)]
    unsafe fn run(self) {
        // SAFETY: the caller vouches for the instruction set.
        unsafe { rounds::<L, Word>(self.rounds) }
        *self.count = self.rounds * (CHAINS * L::LANES * L::PER_WORD) as u64;
    }
}

/// Rounds of steps as integer Winograd takes them.
pub(super) struct Pairs<'a> {
    pub rounds: u64,
    /// multiply-adds done
    pub count: &'a mut u64,
}

impl<L: Halves> Pass<L> for Pairs<'_> {
    #[inline(always)]
    unsafe fn run(self) {
        // SAFETY: the caller vouches for the instruction set.
        unsafe { rounds::<L, Pair>(self.rounds) }
        *self.count = self.rounds * (CHAINS * L::LANES * 2) as u64;
    }
}

trait Step<L> {
    unsafe fn step(sum: L, x: L, w: L) -> L;
}

struct Word;

impl<L: Lanes> Step<L> for Word {
    #[inline(always)]
    unsafe fn step(sum: L, x: L, w: L) -> L {
        // SAFETY: registers only, and the caller vouches for the instruction set.
        unsafe { sum.dot(x, w) }
    }
}

struct Pair;

impl<L: Halves> Step<L> for Pair {
    #[inline(always)]
    unsafe fn step(sum: L, x: L, w: L) -> L {
        // SAFETY: registers only, and the caller vouches for the instruction set.
        unsafe { sum.dot_pairs(x, w) }
    }
}

#[inline(always)]
unsafe fn rounds<L: Lanes, S: Step<L>>(rounds: u64) {
    // SAFETY: the caller vouches for the instruction set; `sink` holds a vector of every one.
    unsafe {
        // Small weights: no pair of products leaves 16 bits.
        let (x, w) = (L::splat(core::hint::black_box(0x0102_0304)), L::splat(core::hint::black_box(0x0001_0002)));
        let mut acc = [L::splat(0); CHAINS];
        for round in 0..rounds {
            // Inputs differ from round to round, or the products would be computed once.
            let x = x.add(L::splat(round as i32 & 0x0F0F));
            for v in &mut acc {
                *v = S::step(*v, x, w);
            }
        }
        let mut sink = [0; 16];
        for v in acc {
            v.store(sink.as_mut_ptr());
            core::hint::black_box(&sink);
        }
    }
}
