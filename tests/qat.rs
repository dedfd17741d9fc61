//! `residual train --qat` as a user calls it: from trained weights to an int8 model, stopped and gone on with, refused.

mod common;

use std::fs;

use common::{Fixture, fail, json, said, succeed};

/// Trains a small network on generated pictures.
fn trained(fixture: &Fixture) -> String {
    let out = fixture.arg("f32");
    let recipe =
        ["--train-crop-size", "8", "--epochs", "2", "--lr", "0.2", "--lr-scheduler", "one-cycle", "--seed", "3"];
    let base = ["train", "--arch", "resnet8-cifar-w8", "--data-path", "synthetic", "--output-dir", &out];
    succeed(&[&base[..], &recipe].concat());
    fixture.arg("f32/model.safetensors")
}

#[test]
fn trained_weights_become_an_int8_model_that_keeps_its_ranges() {
    let fixture = Fixture::new();
    let weights = trained(&fixture);
    let (out, data) = (fixture.arg("int8"), ["--data-path", "synthetic"]);
    let begin = ["train", "--qat", "--weights", &weights, "--output-dir", &out];
    let text = said(&[&begin[..], &data].concat());
    assert!(text.contains("note: calibrating: int8 ranges begin with those of 512 training pictures"), "{text}");
    let config: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(fixture.path("int8/config.json")).unwrap()).unwrap();
    assert_eq!((&config["qat"], &config["lr"], &config["epochs"]), (&true.into(), &0.001.into(), &2.into()));

    // The model is what was validated.
    let metrics = fs::read_to_string(fixture.path("int8/metrics.csv")).unwrap();
    let claimed: f64 = metrics.lines().last().unwrap().split(',').nth(6).unwrap().parse().unwrap();
    let rsd = fixture.arg("int8/model.rsd");
    let object = json(&[&["eval", "--json", "--weights", &rsd][..], &data].concat());
    assert!((100.0 * object["top1"].as_f64().unwrap() - claimed).abs() < 1e-6, "{object} for {claimed}");

    // Quantizing the weights gives the same bytes, unless it calibrates anew.
    let (tuned, again) = (fixture.arg("int8/model.safetensors"), fixture.arg("again.rsd"));
    let quantize = [&["quantize", "--weights", &tuned, "-o", &again][..], &data].concat();
    let text = said(&quantize);
    assert!(text.contains("keeps the int8 ranges that training left in it"), "{text}");
    let read = |path: &str| fs::read(path).unwrap();
    assert!(read(&rsd) == read(&again));
    for anew in [&["--recalibrate"][..], &["--method", "minmax"]] {
        let text = said(&[&quantize, anew].concat());
        assert!(!text.contains("keeps") && read(&rsd) != read(&again), "{text}");
    }
    let object = json(&[&quantize[..], &["--json"]].concat());
    assert_eq!((&object["kept_ranges"], read(&rsd) == read(&again)), (&true.into(), true));

    // Fine-tuning goes on from these ranges, too.
    let third = fixture.arg("third");
    let more = ["train", "--qat", "--weights", &tuned, "--output-dir", &third, "--max-steps", "1"];
    let text = said(&[&more[..], &data].concat());
    assert!(text.contains("keeps the int8 ranges that it holds and learns on"), "{text}");
}

#[test]
fn quantizing_warns_where_accuracy_will_suffer() {
    let fixture = Fixture::new();
    let weights = trained(&fixture);
    let (uneven, net) = (fixture.arg("uneven.safetensors"), fixture.arg("net.rsd"));
    // Channels between two convolutions, scaled by powers of two and back: the same network in f32.
    let file = residual::weights::WeightFile::open(&weights).unwrap();
    let scaled = |name: &str, data: &[f32]| -> Vec<f32> {
        let channel = |i: usize| 2.0f32.powi((i % 8) as i32 * 2);
        let values = data.iter().enumerate();
        match name {
            "layer1.0.bn1.weight" | "layer1.0.bn1.bias" => values.map(|(o, v)| v * channel(o)).collect(),
            "layer1.0.conv2.weight" => values.map(|(i, v)| v / channel(i / 9)).collect(),
            _ => data.to_vec(),
        }
    };
    let tensors: Vec<_> =
        file.tensors().map(|(name, t)| (name, t.shape, scaled(name, &t.data.to_vec().unwrap()))).collect();
    let tensors = tensors.iter().map(|(name, shape, data)| (*name, residual::weights::Tensor::new(shape, data)));
    residual::weights::save(&uneven, tensors, file.metadata()).unwrap();
    let quantize = |weights: &str, more: &[&str]| {
        let base =
            ["quantize", "--data-path", "synthetic", "-o", &net, "--calibration-images", "64", "--weights", weights];
        said(&[&base[..], more].concat())
    };
    let plain = ["--method", "minmax", "--no-equalize"];
    let text = quantize(&uneven, &plain);
    assert!(text.contains("note: accuracy will suffer: ") && text.contains("`residual train --qat`"), "{text}");
    assert!(text.contains("most in `layer1.0.conv"), "{text}");
    // Nothing to say of the same network with its channels in balance.
    for text in [quantize(&weights, &plain), quantize(&uneven, &[])] {
        assert!(!text.contains("accuracy"), "{text}");
    }
}

#[test]
fn a_run_stopped_and_resumed_leaves_the_same_bytes() {
    let fixture = Fixture::new();
    let weights = trained(&fixture);
    let begin = |out: &str, more: &[&str]| {
        let base = ["train", "--qat", "--weights", &weights, "--data-path", "synthetic", "--output-dir", out];
        succeed(&[&base[..], more].concat());
    };
    begin(&fixture.arg("whole"), &["--threads", "1"]);
    let out = fixture.arg("stopped");
    begin(&out, &["--threads", "2", "--max-steps", "50"]);
    // The weights are not needed any more.
    fs::remove_file(&weights).unwrap();
    succeed(&["train", "--resume", &out, "--data-path", "synthetic", "--threads", "2"]);
    for file in ["checkpoint", "model.safetensors", "model.rsd"] {
        let read = |folder: &str| fs::read(fixture.path(folder).join(file)).unwrap();
        assert!(read("whole") == read("stopped"), "{file}");
    }
    let (_, error) = fail(&["train", "--resume", &out, "--qat", "--data-path", "synthetic"]);
    assert!(error.contains("--qat") && error.contains("--resume"), "{error}");
}

#[test]
fn what_cannot_be_fine_tuned_is_refused_by_name() {
    let fixture = Fixture::new();
    let weights = trained(&fixture);
    let out = fixture.arg("out");
    let refuse = |more: &[&str]| {
        let base = ["train", "--data-path", "synthetic", "--output-dir", &out];
        fail(&[&base[..], more].concat()).1
    };
    let error = refuse(&["--qat", "--arch", "resnet8-cifar-w8"]);
    assert!(error.contains("--weights"), "{error}");
    let error = refuse(&["--weights", &weights]);
    assert!(error.contains("--qat"), "{error}");
    let error = refuse(&["--qat", "--weights", &weights, "--pixel-mean"]);
    assert!(error.contains("--pixel-mean"), "{error}");
    let error = refuse(&["--qat", "--weights", &weights, "--arch", "resnet14-cifar-w8"]);
    assert!(error.contains(&weights), "{error}");

    let spec = "resnet8-cifar".parse::<residual::resnet::ResNet>().unwrap().with_classes(7).unwrap();
    let mut metadata = residual::weights::describe(&spec, None);
    metadata.extend([("mean", "0.5,0.5,0.5"), ("std", "0.2,0.2,0.2")].map(|(k, v)| (k.to_owned(), v.to_owned())));
    let seven = fixture.arg("seven.safetensors");
    common::write_weights(seven.as_ref(), spec, &metadata);
    let error = refuse(&["--qat", "--weights", &seven]);
    assert!(error.contains("seven.safetensors: the network has 7 classes, the data set 10"), "{error}");
    let renamed = fixture.arg("renamed.safetensors");
    let file = residual::weights::WeightFile::open(&weights).unwrap();
    metadata = file.metadata().clone();
    let names = metadata["class_names"].replace("fine-rings", "fine-zings");
    metadata.insert("class_names".into(), names);
    residual::weights::save(&renamed, file.tensors(), &metadata).unwrap();
    let error = refuse(&["--qat", "--weights", &renamed]);
    assert!(error.contains("is `fine-zings`, that of the data set `fine-rings`"), "{error}");
    metadata = file.metadata().clone();
    metadata.insert("int8_encodings".into(), "{\"conv1\": [-1, 0]}".into());
    residual::weights::save(&renamed, file.tensors(), &metadata).unwrap();
    let error = refuse(&["--qat", "--weights", &renamed]);
    assert!(error.contains("renamed.safetensors: metadata `int8_encodings` has the scale -1 for `conv1`"), "{error}");
    let rsd = fixture.arg("net.rsd");
    let quantize = ["quantize", "--weights", &renamed, "--data-path", "synthetic", "-o", &rsd];
    let (_, error) = fail(&quantize);
    assert!(error.contains("renamed.safetensors: metadata `int8_encodings` has the scale -1 for `conv1`"), "{error}");
    // Those of another network.
    metadata.insert("int8_encodings".into(), "{\"conv1\": [1, 0]}".into());
    residual::weights::save(&renamed, file.tensors(), &metadata).unwrap();
    for (_, error) in [fail(&quantize), (0, refuse(&["--qat", "--weights", &renamed]))] {
        assert!(error.contains("has no int8 encoding: those given are of another network"), "{error}");
    }

    let folded = fixture.arg("folded.safetensors");
    succeed(&["convert", "--weights", &weights, "--fold", "-o", &folded]);
    let error = refuse(&["--qat", "--weights", &folded]);
    assert!(error.contains("folded.safetensors: its batch norms are folded"), "{error}");
}
