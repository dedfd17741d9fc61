//! Quantization-aware runs: the int8 model they leave, resuming, and what they do not begin with.

use std::{fs, path::Path};

use residual_core::resnet::fold_batch_norm;
use residual_io::weights::{WeightFile, keys};

use super::{Config, Limits, Outcome, RunFolder, Source, Trainer, config, resources, run, trainer};
use crate::{
    parameters::Parameters,
    quantize::{Encodings, encoded},
    trainer::Start,
};

fn source() -> Source {
    Source::synthetic(170, 50, 16)
}

/// Fine-tuning of the small network for three epochs.
fn tuning() -> Config {
    let config = config();
    Config { batch_size: 16, model_ema: true, model_ema_decay: 0.5, ..Config::fine_tuning(&config.spec().unwrap(), 3) }
}

/// A network that has learned something.
fn trained() -> (Parameters, residual_io::Preprocessing) {
    let out = tempfile::tempdir().unwrap();
    let mut first = trainer(&config(), 2, out.path());
    run(&mut first, None);
    (first.result(), first.preprocessing().clone())
}

fn begin(from: &(Parameters, residual_io::Preprocessing), config: &Config, threads: usize, out: &Path) -> Trainer {
    let (weights, preprocessing) = from;
    let spec = config.spec().unwrap();
    let start = Start::calibrated(&spec, weights, preprocessing, &source(), config, &resources(threads)).unwrap();
    Trainer::fine_tune(config.clone(), start, source(), resources(threads), RunFolder::create(out).unwrap()).unwrap()
}

#[test]
fn a_run_leaves_the_int8_network_of_its_weights_and_ranges() {
    let from = trained();
    let out = tempfile::tempdir().unwrap();
    let mut trainer = begin(&from, &tuning(), 2, out.path());
    let before = trainer.validate().unwrap().unwrap();
    assert_eq!(run(&mut trainer, None), Outcome::Finished);
    let after = trainer.validate().unwrap().unwrap();
    assert!(after.mean_loss() < before.mean_loss(), "{after:?} behind {before:?}");

    let file = WeightFile::open(out.path().join("model.safetensors")).unwrap();
    let encodings = Encodings::from_json(&file.metadata()[keys::INT8_ENCODINGS]).unwrap();
    let spec = tuning().spec().unwrap();
    assert_eq!(file.names().count(), spec.tensors().count());
    let mut network = encoded(&fold_batch_norm(&spec, &file).unwrap(), &encodings).unwrap();
    network.classes = source().classes().to_vec();
    network.preprocessing = Some(from.1.to_flat());
    assert!(*network.to_model().unwrap() == fs::read(out.path().join("model.rsd")).unwrap()[..]);
    // Batch norm's statistics stay, gammas and scales learn.
    let same = |name: &str| {
        let entry = from.0.entry(name).unwrap();
        let learned = file.tensors().find(|(n, _)| *n == name).unwrap().1.data.to_vec().unwrap();
        learned == from.0.values()[entry.range.clone()]
    };
    assert!(same("layer1.0.bn2.running_var") && !same("layer1.0.bn2.weight"));
}

#[test]
fn a_run_resumed_anywhere_and_with_any_threads_ends_with_the_same_bytes() {
    let from = trained();
    let whole = tempfile::tempdir().unwrap();
    assert_eq!(run(&mut begin(&from, &tuning(), 1, whole.path()), None), Outcome::Finished);
    let read = |dir: &Path, name: &str| fs::read(dir.join(name)).unwrap();
    for stop in [7, 22] {
        let out = tempfile::tempdir().unwrap();
        assert_eq!(run(&mut begin(&from, &tuning(), 2, out.path()), Some(stop)), Outcome::Limited);
        let config = Trainer::stored_config(out.path()).unwrap();
        assert_eq!(config, tuning());
        let start = Start::stored(out.path()).unwrap().unwrap();
        let folder = RunFolder::resume(out.path()).unwrap();
        let mut second = Trainer::fine_tune(config, start, source(), resources(3), folder).unwrap();
        second.resume(out.path()).unwrap();
        assert_eq!(second.position().step, stop);
        assert_eq!(run(&mut second, None), Outcome::Finished);
        for name in ["checkpoint", "model.safetensors", "model.rsd"] {
            assert!(read(out.path(), name) == read(whole.path(), name), "{name}, stopped at {stop}");
        }
    }
}

#[test]
fn weights_keep_the_ranges_that_they_carry() {
    let from = trained();
    let out = tempfile::tempdir().unwrap();
    run(&mut begin(&from, &tuning(), 2, out.path()), Some(3));
    let file = WeightFile::open(out.path().join("model.safetensors")).unwrap();
    let encodings = Encodings::from_json(&file.metadata()[keys::INT8_ENCODINGS]).unwrap();
    let start = Start::new(&tuning().spec().unwrap(), &file, &from.1, &encodings).unwrap();
    let again = tempfile::tempdir().unwrap();
    let folder = RunFolder::create(again.path()).unwrap();
    let trainer = Trainer::fine_tune(tuning(), start, source(), resources(1), folder).unwrap();
    let model = trainer.int8_model().unwrap().unwrap();
    assert!(model[..] == fs::read(out.path().join("model.rsd")).unwrap()[..]);
}

#[test]
fn what_cannot_be_fine_tuned_is_refused() {
    let from = trained();
    let out = tempfile::tempdir().unwrap();
    let folder = || RunFolder::overwrite(out.path()).unwrap();
    let error = Trainer::new(tuning(), source(), resources(1), folder()).map(|_| ()).unwrap_err().to_string();
    assert_eq!(error, "setting qat = true: fine-tunes trained weights, and there are none to start from");

    let spec = tuning().spec().unwrap();
    let start = || Start::calibrated(&spec, &from.0, &from.1, &source(), &tuning(), &resources(1)).unwrap();
    let other = Config { arch: "resnet14-cifar-w8".into(), ..tuning() };
    let error = Trainer::fine_tune(other, start(), source(), resources(1), folder()).map(|_| ()).unwrap_err();
    assert_eq!(error.to_string(), "setting arch = resnet14-cifar-w8: is not the network of the weights to start from");
    let means = Config { pixel_mean: true, ..tuning() };
    let error =
        Trainer::fine_tune(means, start(), source(), resources(1), folder()).map(|_| ()).unwrap_err().to_string();
    assert!(error.starts_with("setting pixel_mean = true: "), "{error}");

    // The run of one kind is not gone on with as the other.
    let mut tuned = Trainer::fine_tune(tuning(), start(), source(), resources(1), folder()).unwrap();
    tuned.run(&Limits { max_steps: Some(1), ..Limits::default() }, &false.into(), |_| {}).unwrap();
    drop(tuned);
    let plain = Config { qat: false, ..tuning() };
    let mut plain = Trainer::new(plain, source(), resources(1), RunFolder::resume(out.path()).unwrap()).unwrap();
    let error = plain.resume(out.path()).unwrap_err().to_string();
    assert!(error.ends_with("is of a run with qat true, this one has false"), "{error}");
    // Batches of one picture are none of batch norm's business any more.
    let lone = Config { batch_size: 1, ..tuning() };
    drop(plain);
    assert!(Trainer::fine_tune(lone, start(), source(), resources(1), folder()).is_ok());
}

#[test]
fn equalized_weights_compute_the_same() {
    let (mut parameters, preprocessing) = trained();
    // Channels of very different size between the two convolutions of a block.
    let at = |name: &str, parameters: &Parameters| parameters.entry(name).unwrap().range.clone();
    for name in ["layer1.0.bn1.weight", "layer1.0.bn1.bias"] {
        let range = at(name, &parameters);
        let scaled = parameters.values_mut()[range].iter_mut().enumerate();
        scaled.for_each(|(o, v)| *v *= 0.5f32.powi((o % 7) as i32));
    }
    let range = at("layer1.0.conv2.weight", &parameters);
    let inputs = 8;
    for (k, w) in parameters.values_mut()[range].iter_mut().enumerate() {
        *w *= 2.0f32.powi((k / 9 % inputs % 7) as i32);
    }
    let spec = tuning().spec().unwrap();
    let start = Start::calibrated(&spec, &parameters, &preprocessing, &source(), &tuning(), &resources(1)).unwrap();
    let changed = at("layer1.0.conv2.weight", &parameters);
    assert_ne!(start.parameters.values()[changed.clone()], parameters.values()[changed]);
    let logits = |parameters: &Parameters| {
        let net = fold_batch_norm(&spec, parameters).unwrap();
        let picture: Vec<f32> = (0..spec.input().elements()).map(|i| (i % 23) as f32 / 11.0 - 1.0).collect();
        let mut session = residual_core::session::Session::new(&net, &Default::default()).unwrap();
        session.run(&picture).unwrap().to_vec()
    };
    let (got, want) = (logits(&start.parameters), logits(&parameters));
    let largest = want.iter().fold(0.0f32, |m, v| m.max(v.abs()));
    assert!(got.iter().zip(&want).all(|(a, b)| (a - b).abs() < 1e-4 * largest), "{got:?} for {want:?}");
}
