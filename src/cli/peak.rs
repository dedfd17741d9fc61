//! `residual bench --peak`: the machine's limits.

use std::{io::Write, time::Duration};

use residual::{
    Isa,
    peak::{Arithmetic, fma_gflops, gmacs, read_gbs},
};
use serde_json::json;

use super::{bench::Args, table::Table};

/// How long to look for a limit.
pub const LOOK: Duration = Duration::from_millis(200);

pub fn run(args: &Args, out: &mut dyn Write) -> anyhow::Result<()> {
    let threads = args.threads.get();
    residual::isa()?;
    let of = |arithmetic| Isa::available().map(move |isa| (isa, gmacs(isa, arithmetic, threads, LOOK)));
    let fma: Vec<(Isa, f64)> = Isa::available().map(|isa| (isa, fma_gflops(isa, threads, LOOK))).collect();
    let int8: Vec<_> = of(Arithmetic::Int8).collect();
    let int16: Vec<_> = of(Arithmetic::Int16).collect();
    let read = read_gbs(Isa::best(), threads, LOOK);
    if args.json {
        let object = |rates: &[(Isa, f64)]| -> serde_json::Map<_, _> {
            rates.iter().map(|(isa, rate)| (isa.name().to_owned(), json!(rate))).collect()
        };
        let json = json!({
            "threads": threads,
            "fma_gflops": object(&fma),
            "int8_gmacs": object(&int8),
            "int16_gmacs": object(&int16),
            "read_gbs": read,
        });
        writeln!(out, "{json:#}")?;
        return Ok(());
    }
    let mut table = Table::new(&["limit", "threads", ""]);
    for (isa, gflops) in fma {
        table.row(&[&format!("f32 multiply-adds, {isa}"), &threads, &format!("{gflops:.1} GFLOP/s")]);
    }
    for (what, rates) in [("int8 multiply-adds", int8), ("int16 multiply-adds (int8 Winograd)", int16)] {
        for (isa, gmacs) in rates {
            let (gops, gmacs) = (format!("{:.1}", 2.0 * gmacs), format!("{gmacs:.1}"));
            table.row(&[&format!("{what}, {isa}"), &threads, &format!("{gops} GOP/s, {gmacs} GMAC/s")]);
        }
    }
    table.row(&[&"reads from memory", &threads, &format!("{read:.1} GB/s")]);
    Ok(table.write(out)?)
}
