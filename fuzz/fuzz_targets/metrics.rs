//! `metrics.csv` of a run, and the report that is made of it.
#![no_main]

use residual_train::trainer::metrics;

libfuzzer_sys::fuzz_target!(|text: &str| {
    let rows = metrics::parse(text, u64::MAX);
    assert!(rows.len() <= text.lines().count());
    // What is written of them says the same again.
    let again = metrics::parse(&metrics::text(&rows), u64::MAX);
    assert_eq!(rows.len(), again.len());
});
