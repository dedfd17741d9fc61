//! Times training steps: `steps ARCH [BATCH] [THREADS] [SECONDS]`.

use std::time::Duration;

use residual_core::Isa;
use residual_train::{bench::steps, engine::Options};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number = |i: usize, default: usize| args.get(i).map_or(Ok(default), |a| a.parse());
    let spec = args.first().map_or("resnet20-cifar", String::as_str).parse()?;
    let (batch, threads, seconds) = (number(1, 128)?, number(2, 1)?, number(3, 10)?);
    let winograd = std::env::var_os("NO_WINOGRAD").is_none();
    let options = Options { batch, threads, isa: Isa::from_env()?, winograd };
    let times = steps(spec, &options, Duration::from_secs(seconds as u64))?;
    println!(
        "{spec} batch {batch}, {threads} threads: {:.1} images/s, best {:.1}, {} steps",
        times.images_per_second(),
        times.best_images_per_second(),
        times.times.len()
    );
    Ok(())
}
