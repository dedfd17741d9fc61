//! Runs on generated pictures: learning, resuming, failing.

mod qat;
mod refusals;

use std::{
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use residual_core::Isa;

use super::{Config, Holdout, Limits, Outcome, Resources, RunFolder, Source, TrainError, Trainer};
use crate::data::{DataError, Dataset, Image, Split, Synthetic};

fn config() -> Config {
    let spec = "resnet8-cifar-w8".parse::<residual_core::resnet::ResNet>().unwrap().with_input(16, 16).unwrap();
    let mut config = Config::paper(&spec, 3);
    config.batch_size = 16;
    config.lr_scheduler = "one-cycle".into();
    config.nesterov = true;
    (config.model_ema, config.model_ema_decay, config.model_ema_steps) = (true, 0.5, 2);
    config.seed = 4;
    config
}

fn source() -> Source {
    Source::synthetic(170, 50, 16)
}

fn resources(threads: usize) -> Resources {
    Resources { threads, workers: threads, isa: Isa::best() }
}

fn trainer(config: &Config, threads: usize, out: &Path) -> Trainer {
    Trainer::new(config.clone(), source(), resources(threads), RunFolder::create(out).unwrap()).unwrap()
}

/// Goes on with the run in a folder.
fn resume(config: &Config, source: Source, threads: usize, out: &Path) -> Result<Trainer, TrainError> {
    let mut trainer = Trainer::new(config.clone(), source, resources(threads), RunFolder::resume(out)?)?;
    trainer.resume(out)?;
    Ok(trainer)
}

fn resumed(config: &Config, threads: usize, out: &Path) -> Trainer {
    resume(config, source(), threads, out).unwrap()
}

fn refused(config: &Config, source: Source, out: &Path) -> String {
    let text = resume(config, source, 1, out).err().unwrap().to_string();
    assert!(!text.contains('\n'), "{text}");
    text
}

fn run(trainer: &mut Trainer, steps: Option<u64>) -> Outcome {
    trainer.run(&Limits { max_steps: steps, ..Limits::default() }, &AtomicBool::new(false), |_| {}).unwrap()
}

#[test]
fn a_run_resumed_anywhere_and_with_any_threads_ends_with_the_same_bytes() {
    let whole = tempfile::tempdir().unwrap();
    assert_eq!(run(&mut trainer(&config(), 1, whole.path()), None), Outcome::Finished);
    let want = fs::read(whole.path().join("checkpoint")).unwrap();
    // 11 batches an epoch: in the middle of an epoch, and at its end.
    for stop in [7, 22] {
        let out = tempfile::tempdir().unwrap();
        assert_eq!(run(&mut trainer(&config(), 2, out.path()), Some(stop)), Outcome::Limited);
        let mut second = resumed(&config(), 3, out.path());
        assert_eq!(second.position().step, stop);
        assert_eq!(run(&mut second, None), Outcome::Finished);
        assert!(fs::read(out.path().join("checkpoint")).unwrap() == want, "stopped at {stop}");
        assert_eq!(second.rows().iter().map(|r| (r.epoch, r.step)).collect::<Vec<_>>(), [(1, 11), (2, 22), (3, 33)]);
        let model = |dir: &Path| fs::read(dir.join("model.safetensors")).unwrap();
        assert!(model(out.path()) == model(whole.path()));
    }
    for file in ["metrics.csv", "report.html", "config.json", "model.safetensors"] {
        assert!(whole.path().join(file).exists(), "{file}");
    }
    let names = fs::read_dir(whole.path()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    assert_eq!(names.filter(|n| n.starts_with("events.out.tfevents.")).count(), 1);
}

#[test]
fn a_small_network_learns_the_generated_pictures() {
    let out = tempfile::tempdir().unwrap();
    let mut config = config();
    config.epochs = 6;
    config.model_ema = false;
    let folder = RunFolder::create(out.path()).unwrap();
    let mut trainer = Trainer::new(config, Source::synthetic(1000, 200, 16), resources(2), folder).unwrap();
    run(&mut trainer, None);
    let (first, last) = (trainer.rows()[0], trainer.rows()[5]);
    assert!(last.train_loss < 0.7 * first.train_loss && last.val_top1 > 50.0, "{first:?} {last:?}");
}

#[test]
fn an_interrupted_run_saves() {
    let out = tempfile::tempdir().unwrap();
    let mut first = trainer(&config(), 1, out.path());
    assert_eq!(first.run(&Limits::default(), &AtomicBool::new(true), |_| {}).unwrap(), Outcome::Interrupted);
    drop(first);
    let second = resumed(&config(), 1, out.path());
    assert_eq!((second.position().step, second.position().batch), (1, 1));
}

#[test]
fn a_run_that_diverges_names_the_layer_and_keeps_the_last_checkpoint() {
    let out = tempfile::tempdir().unwrap();
    let mut config = config();
    (config.lr, config.lr_scheduler) = (1e30, "constant".into());
    let mut diverging = trainer(&config, 1, out.path());
    run(&mut diverging, Some(1));
    let path = out.path().join("checkpoint");
    let good = fs::read(&path).unwrap();
    let error = diverging.run(&Limits::default(), &AtomicBool::new(false), |_| {}).unwrap_err().to_string();
    assert!(error.starts_with("training diverged at step ") && error.contains("layer `"), "{error}");
    assert!(fs::read(&path).unwrap() == good);

    drop(diverging);

    // A gradient that overflowed, behind the last step: no output shows it, and nothing may be saved.
    let mut overflowed = resumed(&config, 1, out.path());
    let at = overflowed.parameters.entry("layer2.0.conv1.weight").unwrap().range.start;
    overflowed.parameters.values_mut()[at] = f32::NAN;
    let error = overflowed.save().unwrap_err().to_string();
    assert!(error.contains("tensor `layer2.0.conv1.weight` holds NaN"), "{error}");
    assert!(fs::read(&path).unwrap() == good);
}

#[test]
fn a_longer_run_goes_on_where_the_shorter_one_ended() {
    let constant = Config { lr_scheduler: "constant".into(), lr: 0.05, ..config() };
    let whole = tempfile::tempdir().unwrap();
    run(&mut trainer(&constant, 1, whole.path()), None);
    let out = tempfile::tempdir().unwrap();
    let short = Config { epochs: 2, ..constant.clone() };
    run(&mut trainer(&short, 1, out.path()), None);
    let mut finished = resumed(&short, 1, out.path());
    assert!(finished.is_finished());
    assert_eq!(run(&mut finished, None), Outcome::Finished);
    drop(finished);
    let mut longer = resumed(&constant, 1, out.path());
    assert!(!longer.is_finished() && !constant.stretches());
    run(&mut longer, None);
    drop(longer);
    let read = |dir: &Path| fs::read(dir.join("checkpoint")).unwrap();
    assert!(read(out.path()) == read(whole.path()));
    let stored: Config = serde_json::from_str(&fs::read_to_string(out.path().join("config.json")).unwrap()).unwrap();
    assert_eq!(stored.epochs, 3);
    let text = refused(&short, source(), out.path());
    assert!(text.ends_with("is of a run with epochs 3, this one has 2"), "{text}");
    assert!(config().stretches());
}

/// Generated pictures that cannot be read while it says so.
struct Faulty {
    inner: Synthetic,
    classes: Vec<String>,
    fails: AtomicBool,
}

impl Faulty {
    fn new(len: usize, split: Split, rename: &dyn Fn(&str) -> String) -> Self {
        let inner = Synthetic::new(len, 16, 0, split);
        let classes = inner.classes().iter().map(|name| rename(name)).collect();
        Faulty { inner, classes, fails: AtomicBool::new(false) }
    }
}

impl Dataset for Faulty {
    fn len(&self) -> usize {
        self.inner.len()
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn label(&self, index: usize) -> usize {
        self.inner.label(index)
    }

    fn image(&self, index: usize) -> Result<Image, DataError> {
        match self.fails.load(Ordering::Relaxed) {
            true => Err(DataError::Index { index, len: 0 }),
            false => self.inner.image(index),
        }
    }

    fn name(&self, index: usize) -> String {
        self.inner.name(index)
    }
}

#[test]
fn a_run_killed_before_an_epochs_row_writes_it_as_if_it_had_not_been() {
    let whole = tempfile::tempdir().unwrap();
    run(&mut trainer(&config(), 1, whole.path()), Some(11));
    let out = tempfile::tempdir().unwrap();
    let validation = Arc::new(Faulty::new(50, Split::Validation, &str::to_owned));
    validation.fails.store(true, Ordering::Relaxed);
    let train = Arc::new(Synthetic::new(170, 16, 0, Split::Train));
    let source = Source::new(train, validation.clone(), "synthetic").unwrap();
    let folder = RunFolder::create(out.path()).unwrap();
    let mut killed = Trainer::new(config(), source.clone(), resources(1), folder).unwrap();
    let limits = Limits { save_every: Duration::ZERO, ..Limits::default() };
    killed.run(&limits, &AtomicBool::new(false), |_| {}).unwrap_err();
    let measured = killed.position().images_per_second;
    drop(killed);
    validation.fails.store(false, Ordering::Relaxed);
    let mut second = resume(&config(), source, 1, out.path()).unwrap();
    assert_eq!((second.position().step, second.position().batch), (11, 11));
    run(&mut second, Some(11));
    let text = |dir: &Path| fs::read_to_string(dir.join("metrics.csv")).unwrap();
    let without_speed = |text: &str| text.trim_end().rsplit_once(',').unwrap().0.to_owned();
    assert_eq!(without_speed(&text(out.path())), without_speed(&text(whole.path())));
    assert!(measured > 0.0 && second.rows()[0].images_per_second == measured);
    let read = |dir: &Path| fs::read(dir.join("checkpoint")).unwrap();
    assert!(read(out.path()) == read(whole.path()));
}

#[test]
fn a_run_without_validation_has_rows_without_it() {
    let out = tempfile::tempdir().unwrap();
    let alone = Config { no_validation: true, epochs: 1, ..config() };
    run(&mut trainer(&alone, 1, out.path()), None);
    let text = fs::read_to_string(out.path().join("metrics.csv")).unwrap();
    assert!(text.lines().nth(1).unwrap().contains(",,,"), "{text}");
    let file = residual_io::weights::WeightFile::open(out.path().join("model.safetensors")).unwrap();
    assert!(!file.metadata().contains_key("accuracy") && file.is_verified());
    let text = source().summary(&alone).unwrap().concat();
    assert!(text.starts_with("10 classes (coarse-stripes-across, ") && text.ends_with("no validation"), "{text}");
    for change in
        [Config { lr_scheduler: "plateau".into(), ..alone.clone() }, Config { holdout: Holdout::Count(1), ..alone }]
    {
        assert!(change.check().unwrap_err().to_string().contains("--no-validation allows none"));
    }
}

#[test]
fn batches_that_batch_norm_cannot_be_trained_on_are_refused() {
    let out = tempfile::tempdir().unwrap();
    let attempt = |side: usize, batch_size: usize, pictures: usize, drop_last: bool| {
        let config = Config { input: side.into(), batch_size, drop_last, epochs: 1, ..config() };
        let folder = RunFolder::overwrite(out.path()).unwrap();
        let trainer = Trainer::new(config, Source::synthetic(pictures, 10, side), resources(1), folder);
        trainer.map(|mut t| (run(&mut t, None), t.position().step)).map_err(|e| e.to_string())
    };
    let text = attempt(4, 1, 20, false).unwrap_err();
    assert!(text.starts_with("--batch-size 1: a batch would hold one picture, of which `layer3.0.conv1`"), "{text}");
    let text = attempt(4, 4, 21, false).unwrap_err();
    assert!(text.contains("21 training pictures, 4 a batch: the last") && text.contains("--drop-last"), "{text}");
    assert_eq!(attempt(4, 4, 21, true).unwrap(), (Outcome::Finished, 5));
    assert_eq!(attempt(4, 4, 22, false).unwrap(), (Outcome::Finished, 6));
    assert_eq!(attempt(8, 1, 3, false).unwrap(), (Outcome::Finished, 3));
}

#[test]
fn gradients_accumulate_over_batches() {
    // Without batch norm's coupling two halves would equal the whole; with it, steps and pictures still do.
    let out = tempfile::tempdir().unwrap();
    let mut config = config();
    (config.accumulate, config.batch_size) = (4, 16);
    let mut accumulated = trainer(&config, 1, out.path());
    run(&mut accumulated, None);
    assert_eq!(accumulated.rows().iter().map(|r| r.step).collect::<Vec<_>>(), [3, 6, 9]);
}

#[test]
fn held_out_pictures_are_not_trained_on() {
    let divide = |holdout, holdout_seed, seed| {
        let config = Config { holdout, holdout_seed, seed, ..config() };
        let division = source().divide(&config).unwrap();
        (division.train, division.validation.unwrap().1)
    };
    let (train, held) = divide(Holdout::Count(50), 0, 1);
    assert_eq!((train.len(), held.len()), (120, 50));
    for class in 0..10 {
        assert_eq!(held.iter().filter(|&i| i % 10 == class).count(), 5);
    }
    let mut all = [train, held.clone()].concat();
    all.sort_unstable();
    assert_eq!(all, (0..170).collect::<Vec<u32>>());
    // The run's seed does not change which, the holdout's does.
    assert_eq!(divide(Holdout::Count(50), 0, 2).1, held);
    assert_ne!(divide(Holdout::Count(50), 1, 1).1, held);
    assert_eq!(divide(Holdout::Fraction(0.1), 0, 1).1.len(), 20);
    let error = source().divide(&Config { holdout: Holdout::Count(161), ..config() }).err().unwrap().to_string();
    let says = "the data set has 170 training pictures, of which every class keeps one, 171 needed";
    assert_eq!(error, says);
}
