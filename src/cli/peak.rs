//! The machine's limits, to print beside what is measured against them.

use std::{
    io::Write,
    sync::Barrier,
    thread,
    time::{Duration, Instant},
};

use residual::{
    Isa,
    peak::{fma_burst, read_burst},
};
use serde_json::json;

use super::{bench::Args, table::Table};

/// How long to look for a limit.
const LOOK: Duration = Duration::from_millis(200);

/// Memory to read: beyond every cache.
const READ_BYTES: usize = 512 << 20;

pub fn run(args: &Args, out: &mut dyn Write) -> anyhow::Result<()> {
    let threads = args.threads.get();
    residual::isa()?;
    let fma: Vec<(Isa, f64)> = Isa::available().map(|isa| (isa, fma_gflops(isa, threads))).collect();
    let read = read_gbs(Isa::best(), threads);
    if args.json {
        let fma: serde_json::Map<_, _> = fma.iter().map(|(isa, g)| (isa.name().to_owned(), json!(g))).collect();
        writeln!(out, "{:#}", json!({ "threads": threads, "fma_gflops": fma, "read_gbs": read }))?;
        return Ok(());
    }
    let mut table = Table::new(&["limit", "threads", ""]);
    for (isa, gflops) in fma {
        table.row(&[&format!("multiply-adds, {isa}"), &threads, &format!("{gflops:.1} GFLOP/s")]);
    }
    table.row(&[&"reads from memory", &threads, &format!("{read:.1} GB/s")]);
    Ok(table.write(out)?)
}

/// GFLOP/s of multiply-adds on registers, all threads together.
pub fn fma_gflops(isa: Isa, threads: usize) -> f64 {
    // A tenth of a millisecond or so: short enough to fall between interruptions.
    best(threads, &|| fma_burst(isa, 10_000) as f64 / 1e9)
}

/// GB/s read from memory, all threads together.
fn read_gbs(isa: Isa, threads: usize) -> f64 {
    let data = vec![1.0f32; READ_BYTES / 4 / threads];
    let read = || {
        std::hint::black_box(read_burst(isa, &data));
        size_of_val(&data[..]) as f64 / 1e9
    };
    best(threads, &read)
}

/// The best rate each thread reaches while all are at it, summed. `burst` returns the work it did.
fn best(threads: usize, burst: &(dyn Fn() -> f64 + Sync)) -> f64 {
    let barrier = Barrier::new(threads);
    let one = || {
        barrier.wait();
        let begin = Instant::now();
        let mut best = 0.0f64;
        while best == 0.0 || begin.elapsed() < LOOK {
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
