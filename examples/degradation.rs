//! The paper's Figure 6 in short: plain networks of 20 and 56 layers beside residual ones, all with one schedule.
//! Deeper plain networks have a higher training error; residual networks reverse that.
//!
//! ```text
//! cargo run --release --example degradation -- cifar-10-batches-bin 10 figure 2
//! ```
//! trains on a data set (or `synthetic`), for so many epochs, into a folder, on so many threads. Started again it goes
//! on where it stopped. `figure/figure.html` is written anew after every run.

use std::{error::Error, path::Path, sync::atomic::AtomicBool};

use residual::trainer::{Config, Event, Limits, Resources, Row, RunFolder, Source, Trainer, report};

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [data, epochs, folder, threads] = &args[..] else {
        return Err("usage: degradation DIR|synthetic EPOCHS OUT THREADS".into());
    };
    let (folder, threads) = (Path::new(folder), threads.parse()?);
    let resources = Resources { threads, workers: threads, isa: residual::isa()? };
    let groups =
        [("plain networks", ["plain20-cifar", "plain56-cifar"]), ("residual", ["resnet20-cifar", "resnet56-cifar"])];
    let mut done: Vec<Vec<(String, Vec<Row>)>> = vec![Vec::new(); groups.len()];
    for (group, (_, names)) in groups.iter().enumerate() {
        for &name in names {
            let rows = train(name, Path::new(data), epochs.parse()?, &folder.join(name), resources)?;
            done[group].push((name.to_owned(), rows));
            let charts: Vec<_> = groups.iter().zip(&done).map(|((title, _), runs)| (*title, &runs[..])).collect();
            report::compare(&folder.join("figure.html"), &format!("{epochs} epochs on {data}"), &charts)?;
        }
    }
    Ok(())
}

fn train(name: &str, data: &Path, epochs: u64, out: &Path, resources: Resources) -> Result<Vec<Row>, Box<dyn Error>> {
    let source = Source::open(data, 32, false)?;
    // The paper's recipe: its plain networks need nothing else either.
    let mut config = Config::paper(&name.parse()?, epochs);
    config.classes = source.classes().len();
    let begun = out.join("checkpoint").exists();
    let place = if begun { RunFolder::resume(out)? } else { RunFolder::create(out)? };
    let mut trainer = Trainer::new(config, source, resources, place)?;
    if begun {
        trainer.resume(out)?;
    }
    trainer.run(&Limits::default(), &AtomicBool::new(false), |event| {
        if let Event::Epoch(row) = event {
            let (train, val) = (100.0 - row.train_top1, 100.0 - row.val_top1);
            println!("{name} epoch {}: training error {train:.2}%, validation error {val:.2}%", row.epoch);
        }
    })?;
    Ok(trainer.rows().to_vec())
}
