//! Where the time of a network goes, stage by stage, on every instruction set of this CPU.
//!
//! ```text
//! cargo run --release --example layer_times -- resnet50
//! ```

use std::{collections::BTreeMap, time::Instant};

use residual::{
    CoreError, Isa,
    plan::Options,
    resnet::{ResNet, fold_batch_norm},
    session::Session,
    testing::Generated,
};

const RUNS: u32 = 10;

fn main() -> Result<(), CoreError> {
    let name = std::env::args().nth(1).unwrap_or_else(|| "resnet50".into());
    let spec: ResNet = name.parse()?;
    // Generated weights: their values do not change the time.
    let weights = Generated::new(spec);
    let net = fold_batch_norm(&spec, &weights)?;
    for isa in Isa::available() {
        let mut session = Session::new(&net, &Options { isa, ..Options::default() })?;
        let input = vec![0.5f32; session.plan().input_len()];
        session.run(&input)?;

        // `layer3.0.conv1` belongs to stage `layer3`.
        let mut stages: BTreeMap<String, (f64, u64)> = BTreeMap::new();
        for _ in 0..RUNS {
            let mut last = Instant::now();
            session.run_with(&input, |step, _: &[f32]| {
                let stage = step.name.split('.').next().unwrap_or_default();
                let (seconds, macs) = stages.entry(stage.to_owned()).or_default();
                *seconds += last.elapsed().as_secs_f64();
                *macs += step.macs();
                last = Instant::now();
            })?;
        }
        println!("{spec} on {isa}, 1 thread");
        for (stage, (seconds, macs)) in stages {
            let (ms, gflops) = (1e3 * seconds / f64::from(RUNS), 2e-9 * macs as f64 / seconds);
            println!("  {stage:8} {ms:8.2} ms  {gflops:7.1} GFLOP/s");
        }
    }
    Ok(())
}
