//! `residual bench --peak`: the machine's limits.

use std::{io::Write, time::Duration};

use residual::{
    Isa,
    peak::{fma_gflops, read_gbs},
};
use serde_json::json;

use super::{bench::Args, table::Table};

/// How long to look for a limit.
pub const LOOK: Duration = Duration::from_millis(200);

pub fn run(args: &Args, out: &mut dyn Write) -> anyhow::Result<()> {
    let threads = args.threads.get();
    residual::isa()?;
    let fma: Vec<(Isa, f64)> = Isa::available().map(|isa| (isa, fma_gflops(isa, threads, LOOK))).collect();
    let read = read_gbs(Isa::best(), threads, LOOK);
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
