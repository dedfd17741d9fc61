//! Settings, data and checkpoints that a run does not begin with.

use std::{fs, sync::Arc};

use super::{Faulty, config, refused, resources, resume, resumed, run, source, trainer};
use crate::{
    data::Split,
    trainer::{Config, Holdout, RunFolder, Source, Trainer},
};

#[test]
fn bad_settings_data_and_checkpoints_are_refused_by_name() {
    let out = tempfile::tempdir().unwrap();
    let refuse = |change: &dyn Fn(&mut Config), source: Source| {
        let mut config = config();
        change(&mut config);
        let folder = RunFolder::create(out.path()).unwrap();
        Trainer::new(config, source, resources(1), folder).map(|_| ()).unwrap_err().to_string()
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
    drop(first);
    let path = out.path().join("checkpoint");
    let good = fs::read(&path).unwrap();
    let mut other = config();
    other.arch = "resnet14-cifar-w8".into();
    let error = refused(&other, source(), out.path());
    assert!(
        error.ends_with("is of a run with arch \"resnet8-cifar-w8\", this one has \"resnet14-cifar-w8\""),
        "{error}"
    );
    for length in [0, 7, 100, good.len() / 2, good.len() - 1] {
        fs::write(&path, &good[..length]).unwrap();
        let error = refused(&config(), source(), out.path());
        assert!(error.contains(path.to_str().unwrap()), "{error}");
    }
}

#[test]
fn another_runs_checkpoint_is_kept() {
    let out = tempfile::tempdir().unwrap();
    run(&mut trainer(&config(), 1, out.path()), Some(2));
    let first = fs::read(out.path().join("checkpoint")).unwrap();
    let error = RunFolder::create(out.path()).unwrap_err().to_string();
    assert!(error.contains("holds a run already (`checkpoint`)"), "{error}");
    // A run that takes the folder of another without going on with it moves that one away.
    for folder in [RunFolder::overwrite, RunFolder::resume] {
        let mut second = Trainer::new(config(), source(), resources(1), folder(out.path()).unwrap()).unwrap();
        assert!(
            fs::read(out.path().join("checkpoint")).unwrap() == first || out.path().join("checkpoint.old").exists()
        );
        run(&mut second, Some(3));
        assert!(fs::read(out.path().join("checkpoint.old")).unwrap() == first);
    }
    assert!(out.path().join("checkpoint.old.2").exists());
    assert_eq!(resumed(&config(), 1, out.path()).position().step, 3);
}

#[test]
fn a_run_goes_on_with_its_own_pictures_only() {
    let out = tempfile::tempdir().unwrap();
    run(&mut trainer(&config(), 1, out.path()), Some(2));
    let renamed = |train: usize, validation: usize, rename: &dyn Fn(&str) -> String| {
        let part = |len, split| Arc::new(Faulty::new(len, split, rename));
        Source::new(part(train, Split::Train), part(validation, Split::Validation), "synthetic").unwrap()
    };
    let same = |name: &str| name.to_owned();
    assert!(resume(&config(), renamed(170, 50, &same), 1, out.path()).is_ok());
    let z = |name: &str| name.replace("fine-rings", "fine-zings");
    let text = refused(&config(), renamed(170, 50, &z), out.path());
    assert!(text.ends_with("is of a run with a class `fine-rings` where these data have `fine-zings`"), "{text}");
    let text = refused(&config(), renamed(171, 50, &same), out.path());
    assert!(text.ends_with("is of a run on 170 training pictures, this one has 171"), "{text}");
    let text = refused(&config(), renamed(170, 60, &same), out.path());
    assert!(text.ends_with("is of a run on 50 validation pictures, this one has 60"), "{text}");
    let held = Config { holdout: Holdout::Count(50), ..config() };
    let text = refused(&held, source(), out.path());
    assert!(text.ends_with("is of a run with holdout 0.0, this one has 50.0"), "{text}");
}

#[test]
fn a_checkpoint_with_a_flipped_bit_or_no_number_is_refused_by_name() {
    let out = tempfile::tempdir().unwrap();
    let mut first = trainer(&config(), 1, out.path());
    run(&mut first, Some(2));
    let path = out.path().join("checkpoint");
    let good = fs::read(&path).unwrap();
    let header = u64::from_le_bytes(good[..8].try_into().unwrap()) as usize + 8;
    // Every byte about the checksum, some of the rest.
    let text = String::from_utf8_lossy(&good[..header]);
    let about = text.find("checksum").unwrap();
    let about = about - 1..about + 26;
    for at in (0..good.len()).step_by(good.len() / 150).chain(about).chain(0..8) {
        let mut flipped = good.clone();
        flipped[at] ^= 1 << (at % 8);
        fs::write(&path, flipped).unwrap();
        let error = Trainer::stored_config(out.path()).unwrap_err().to_string();
        assert!(error.contains(path.to_str().unwrap()) && !error.contains('\n'), "{at}: {error}");
    }
    fs::write(&path, &good).unwrap();

    let at = first.parameters.entry("layer2.0.conv1.weight").unwrap().range.start;
    first.optimiser.velocity_mut()[at] = f32::INFINITY;
    let error = first.save().unwrap_err().to_string();
    assert!(error.contains("tensor `velocity.layer2.0.conv1.weight` holds inf"), "{error}");
    let (state, run, position) = first.state();
    state.save(&path, &run, position).unwrap();
    drop(first);
    let error = refused(&config(), source(), out.path());
    let says = "is damaged: tensor `velocity.layer2.0.conv1.weight` holds inf";
    assert!(error.starts_with(&format!("{}: {says}", path.display())), "{error}");
}
