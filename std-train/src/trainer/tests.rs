//! Runs on generated pictures: learning, resuming, errors.

use std::{fs, path::Path, sync::atomic::AtomicBool};

use residual_core::Isa;

use super::{Config, Limits, Outcome, Resources, Source, Trainer};

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

fn trainer(config: &Config, threads: usize, out: &Path) -> Trainer {
    let resources = Resources { threads, workers: threads, isa: Isa::best() };
    Trainer::new(config.clone(), source(), resources, out).unwrap()
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
        let mut second = trainer(&config(), 3, out.path());
        second.resume(out.path()).unwrap();
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
    let resources = Resources { threads: 2, workers: 1, isa: Isa::best() };
    let mut trainer = Trainer::new(config, Source::synthetic(1000, 200, 16), resources, out.path()).unwrap();
    run(&mut trainer, None);
    let (first, last) = (trainer.rows()[0], trainer.rows()[5]);
    assert!(last.train_loss < 0.7 * first.train_loss && last.val_top1 > 50.0, "{first:?} {last:?}");
}

#[test]
fn an_interrupted_run_saves() {
    let out = tempfile::tempdir().unwrap();
    let mut first = trainer(&config(), 1, out.path());
    assert_eq!(first.run(&Limits::default(), &AtomicBool::new(true), |_| {}).unwrap(), Outcome::Interrupted);
    let mut second = trainer(&config(), 1, out.path());
    second.resume(out.path()).unwrap();
    assert_eq!((second.position().step, second.position().batch), (1, 1));
}

#[test]
fn bad_settings_data_and_checkpoints_are_refused_by_name() {
    let out = tempfile::tempdir().unwrap();
    let resources = Resources { threads: 1, workers: 1, isa: Isa::best() };
    let refuse = |change: &dyn Fn(&mut Config), source: Source| {
        let mut config = config();
        change(&mut config);
        Trainer::new(config, source, resources, out.path()).map(|_| ()).unwrap_err().to_string()
    };
    let text = refuse(&|c| c.lr = f64::NAN, source());
    assert_eq!(text, "setting lr = NaN: must be a positive number");
    let text = refuse(&|c| c.batch_size = 171, source());
    assert_eq!(text, "the data set has 170 training pictures for a batch, 171 needed");
    let text = refuse(&|c| c.classes = 7, source());
    assert_eq!(text, "the data set has 10 classes, 7 needed");
    let text = refuse(&|c| c.lr_scheduler = "linear".into(), source());
    assert!(text.starts_with("setting lr_scheduler = linear: is none of"), "{text}");

    let mut first = trainer(&config(), 1, out.path());
    run(&mut first, Some(2));
    let path = out.path().join("checkpoint");
    let good = fs::read(&path).unwrap();
    let mut other = config();
    other.arch = "resnet14-cifar-w8".into();
    let error = trainer(&other, 1, out.path()).resume(out.path()).unwrap_err().to_string();
    assert!(
        error.ends_with("is of a run with arch \"resnet8-cifar-w8\", this one has \"resnet14-cifar-w8\""),
        "{error}"
    );
    for length in [0, 7, 100, good.len() / 2, good.len() - 1] {
        fs::write(&path, &good[..length]).unwrap();
        let error = trainer(&config(), 1, out.path()).resume(out.path()).unwrap_err().to_string();
        assert!(error.contains(path.to_str().unwrap()), "{error}");
    }
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

    // A gradient that overflowed, behind the last step: no output shows it, and nothing may be saved.
    let mut overflowed = trainer(&config, 1, out.path());
    let at = overflowed.parameters.entry("layer2.0.conv1.weight").unwrap().range.start;
    overflowed.parameters.values_mut()[at] = f32::NAN;
    let error = overflowed.save().unwrap_err().to_string();
    assert!(error.contains("tensor `layer2.0.conv1.weight` holds NaN"), "{error}");
    assert!(fs::read(&path).unwrap() == good);
}

#[test]
fn another_runs_checkpoint_is_kept() {
    let out = tempfile::tempdir().unwrap();
    run(&mut trainer(&config(), 1, out.path()), Some(2));
    let first = fs::read(out.path().join("checkpoint")).unwrap();
    run(&mut trainer(&config(), 1, out.path()), Some(3));
    assert!(fs::read(out.path().join("checkpoint.old")).unwrap() == first);
    assert_eq!(trainer(&config(), 1, out.path()).resume(out.path()).map_err(|e| e.to_string()), Ok(()));
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
    let mut config = config();
    config.holdout = 50;
    let (train, held) = super::indices(&config, &source()).unwrap();
    assert_eq!((train.len(), held.len()), (120, 50));
    let mut all = [train, held].concat();
    all.sort_unstable();
    assert_eq!(all, (0..170).collect::<Vec<u32>>());
    config.holdout = 170;
    let error = super::indices(&config, &source()).unwrap_err().to_string();
    assert_eq!(error, "the data set has 170 training pictures, 171 needed");
}
