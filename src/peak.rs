//! The machine's limits, to print beside what is measured against them.

use std::{
    sync::Barrier,
    thread,
    time::{Duration, Instant},
};

use residual_core::Isa;
pub use residual_core::simd::{Arithmetic, burst, read_burst};

/// Memory to read: beyond every cache.
const READ_BYTES: usize = 512 << 20;

/// GMAC/s, 10^9 multiply-adds a second, on registers, all threads together; looks for `look` long.
pub fn gmacs(isa: Isa, arithmetic: Arithmetic, threads: usize, look: Duration) -> f64 {
    // A tenth of a millisecond or so: short enough to fall between interruptions.
    best(threads, look, &|| burst(isa, arithmetic, 10_000) as f64 / 1e9)
}

/// GFLOP/s of f32 multiply-adds on registers, two operations each; as [`gmacs`].
pub fn fma_gflops(isa: Isa, threads: usize, look: Duration) -> f64 {
    2.0 * gmacs(isa, Arithmetic::F32, threads, look)
}

/// GB/s read from memory, all threads together; looks for `look` long. Takes 512 MiB of memory.
pub fn read_gbs(isa: Isa, threads: usize, look: Duration) -> f64 {
    let data = vec![1.0f32; READ_BYTES / 4 / threads.max(1)];
    let read = || {
        std::hint::black_box(read_burst(isa, &data));
        size_of_val(&data[..]) as f64 / 1e9
    };
    best(threads, look, &read)
}

/// The best rate each thread reaches while all are at it, summed. `burst` returns the work it did.
fn best(threads: usize, look: Duration, burst: &(dyn Fn() -> f64 + Sync)) -> f64 {
    let barrier = Barrier::new(threads);
    let one = || {
        barrier.wait();
        let begin = Instant::now();
        let mut best = 0.0f64;
        while best == 0.0 || begin.elapsed() < look {
            let start = Instant::now();
            let work = burst();
            best = best.max(work / start.elapsed().as_secs_f64().max(1e-9));
        }
        best
    };
    thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(one)).collect();
        one() + others.into_iter().map(|other| other.join().unwrap_or_default()).sum::<f64>()
    })
}
