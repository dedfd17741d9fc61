//! Inputs that are no squares of RGB, from training on pictures to int8: grey, rectangles, other channels.

mod common;

use std::fs;

use common::{Fixture, fail, json, residual, succeed};
use residual::{Classifier, Image, Model, QuantizedModel, Size, preprocessing::Preprocessing};

/// Grey pictures of three classes, told apart by the direction of their stripes, in `train` and `val`.
fn stripes(fixture: &Fixture, name: &str) -> String {
    for (part, each) in [("train", 16), ("val", 8)] {
        for (class, (dx, dy)) in [("across", (0, 2)), ("down", (2, 0)), ("slanted", (1, 1))] {
            let dir = fixture.path(&format!("{name}/{part}/{class}"));
            fs::create_dir_all(&dir).unwrap();
            for n in 0..each {
                let shift = n * 5 + u32::from(part == "val") * 3;
                let pixel = |x, y| image::Luma([((x * dx + y * dy + shift) * (20 + n) % 256) as u8]);
                image::GrayImage::from_fn(14 + n % 3, 14 + n % 4, pixel).save(dir.join(format!("{n}.png"))).unwrap();
            }
        }
    }
    fixture.arg(name)
}

fn trained(fixture: &Fixture, data: &str, more: &[&str]) -> String {
    let out = fixture.arg("out");
    let fixed = ["train", "--data-path", data, "--epochs", "3", "--batch-size", "8", "--threads", "1"];
    succeed(&[&fixed[..], &["--output-dir", &out], more].concat());
    fixture.arg("out/model.safetensors")
}

#[test]
fn grey_rectangles_go_from_training_to_int8() {
    let fixture = Fixture::new();
    let data = stripes(&fixture, "data");
    let weights = trained(&fixture, &data, &["--arch", "resnet8-cifar-w8-in1", "--train-crop-size", "12x10"]);

    let object = json(&["inspect", "--weights", &weights, "--json"]);
    assert_eq!(object["arch"], "resnet8-cifar-w8-in1");
    assert_eq!(object["input"], serde_json::json!([12, 10, 1]));
    let metadata = &object["metadata"];
    assert_eq!((&metadata["resize"], &metadata["crop"]), (&"12x10".into(), &"12x10".into()));
    assert!(metadata["mean"].as_str().unwrap().parse::<f32>().is_ok(), "{metadata}");

    // What training measured is what eval measures.
    let metrics = fs::read_to_string(fixture.path("out/metrics.csv")).unwrap();
    let claimed: f64 = metrics.lines().last().unwrap().split(',').nth(6).unwrap().parse().unwrap();
    let evaluated = json(&["eval", "--weights", &weights, "--data-path", &data, "--json"]);
    assert_eq!(evaluated["images"], 24);
    assert!((100.0 * evaluated["top1"].as_f64().unwrap() - claimed).abs() < 1e-3, "{evaluated} for {claimed}");

    let picture = fixture.arg("data/val/down/0.png");
    let features = ["features", "--weights", &weights, "--layer", "conv1", "--json", &picture];
    assert_eq!(json(&features)["pictures"][0]["shape"], serde_json::json!([12, 10, 8]));

    let (rsd, tflite) = (fixture.arg("net.rsd"), fixture.arg("net.tflite"));
    succeed(&["quantize", "--weights", &weights, "--data-path", &data, "-o", &rsd, "--tflite", &tflite]);
    let quantized = json(&["eval", "--weights", &rsd, "--data-path", &data, "--json"]);
    let (real, int8) = (evaluated["top1"].as_f64().unwrap(), quantized["top1"].as_f64().unwrap());
    assert!((real - int8).abs() < 0.1, "{real} in f32, {int8} in int8");
    assert_eq!(json(&["inspect", "--weights", &rsd, "--json"])["input"], serde_json::json!([12, 10, 1]));
    assert!(json(&["fit", &rsd, "--chip", "stm32f405", "--json"])["fits"].as_bool().unwrap());

    // The int8 file prepares pictures as the weights do; the .tflite file is told how.
    let model = QuantizedModel::open(&rsd, &Default::default()).unwrap();
    let [stored, own] = [model.preprocessing().unwrap(), Model::open(&weights).unwrap().preprocessing().unwrap()];
    assert_eq!(stored, own);
    let (mean, std) = (own.mean[0].to_string(), own.std[0].to_string());
    let told = ["--mean", &mean, "--std", &std];
    let predict = |weights: &str, more: &[&str]| {
        json(&[&["predict", "--json", "--weights", weights, &picture], more].concat())["predictions"][0]["classes"][0]
            .clone()
    };
    assert_eq!(predict(&rsd, &[])["probability"], predict(&tflite, &told)["probability"]);
}

#[test]
fn a_library_classifies_grey_pictures_of_any_input_size() {
    let fixture = Fixture::new();
    let weights = fixture.bare_weights("grey.safetensors", "resnet8-cifar-in1");
    let classifier = |size| {
        let builder = Classifier::builder().arch("resnet8-cifar".parse().unwrap()).normalisation([0.5], [0.25]);
        builder.input(size).threads(1).open(&weights).unwrap()
    };
    let size = Size { height: 20, width: 36 };
    // A picture of the input's size, and its grey: the same logits, those of the numbers themselves.
    let image = Image::new(36, 20, (0..36 * 20 * 3).map(|i| (i * 7 % 256) as u8).collect()).unwrap();
    let grey = Image::new(36, 20, image.to_grey().into_iter().flat_map(|v| [v; 3]).collect()).unwrap();
    let mut grey_classifier = classifier(size);
    let rows = grey_classifier.logits(&[image.clone(), grey]).unwrap();
    assert_eq!(rows[0], rows[1]);
    let mut input = vec![0.0; 20 * 36];
    Preprocessing::cifar([0.5], [0.25]).with_input_size(size).apply(&image, &mut input).unwrap();
    let model = Model::open_with(
        &weights,
        &residual::Given {
            arch: Some("resnet8-cifar-in1".parse().unwrap()),
            input: Some(size),
            normalisation: Some((vec![0.5], vec![0.25])),
            ..Default::default()
        },
    );
    let net = model.unwrap();
    let mut session = residual::session::Session::new(&net.net().unwrap(), &Default::default()).unwrap();
    let logits: &[f32] = session.run(&input).unwrap();
    assert!(logits.iter().zip(&rows[0]).all(|(a, b)| (a - b).abs() < 1e-4 * b.abs().max(1.0)), "{logits:?} {rows:?}");
    assert_ne!(rows[0], classifier(Size::square(32)).logits(&[image]).unwrap()[0]);
}

#[test]
fn converted_weights_keep_their_input() {
    let fixture = Fixture::new();
    let bare = fixture.bare_weights("bare.safetensors", "resnet8-cifar-in1");
    let out = fixture.arg("whole.safetensors");
    let known = ["--arch", "resnet8-cifar", "--input", "24x40x1", "--mean", "0.13", "--std", "0.31"];
    let text = succeed(&[&["convert", "--weights", &bare, "-o", &out], &known[..]].concat());
    assert!(text.contains("resnet8-cifar-in1"), "{text}");
    let object = json(&["inspect", "--weights", &out, "--json"]);
    assert_eq!(object["input"], serde_json::json!([24, 40, 1]));
    assert_eq!((&object["metadata"]["mean"], &object["metadata"]["crop"]), (&"0.13".into(), &"24x40".into()));
}

#[test]
fn networks_of_any_input_are_described_and_timed() {
    let of = |more: &[&str]| json(&[&["inspect", "--json", "--arch"], more].concat());
    let object = of(&["resnet18", "--input", "64x48x5"]);
    assert_eq!((&object["arch"], &object["input"]), (&"resnet18-in5".into(), &serde_json::json!([64, 48, 5])));
    assert_eq!(of(&["resnet18-in5", "--input", "64"])["input"], serde_json::json!([64, 64, 5]));
    let bench = ["bench", "--arch", "resnet8-cifar-in2", "--input", "9x17", "--seconds", "0.01", "--threads", "1"];
    assert!(succeed(&bench).contains("of 9x17x2"));
    let (code, error) = fail(&["inspect", "--arch", "resnet18-in5", "--input", "64x48x1"]);
    assert_eq!((code, error.as_str()), (2, "error: --input asks for 1 channels, but resnet18-in5 has 5"));
    let (code, error) = fail(&["inspect", "--arch", "resnet18", "--input", "64x"]);
    assert!(code == 2 && error.contains("64x") && error.contains("HEIGHTxWIDTH"), "{error}");
}

#[test]
fn inputs_that_do_not_fit_are_refused() {
    let fixture = Fixture::new();
    let refused = |args: &[&str], says: &str| {
        let (_, error) = fail(args);
        assert!(error.contains(says), "{args:?}: {error}");
    };
    let picture = fixture.picture("a.png", 40, 30, 1);
    let grey = fixture.bare_weights("grey.safetensors", "resnet8-cifar-in1");
    let predict = |weights: &str, arch: &str, mean: &str, says: &str| {
        let known = ["--arch", arch, "--mean", mean, "--std", mean];
        refused(&[&["predict", "--weights", weights, &picture], &known[..]].concat(), says);
    };
    predict(
        &grey,
        "resnet8-cifar",
        "0.5,0.5,0.5",
        "`0.5,0.5,0.5`: must be a number for every input channel of the network, which has 1",
    );
    predict(&grey, "resnet8-cifar", "0.5,", "must be numbers with commas between");
    refused(
        &["predict", "--weights", &grey, "--arch", "resnet8-cifar", &picture],
        "does not say how pictures are normalised",
    );
    refused(
        &["bench", "--weights", &grey, "--arch", "resnet8-cifar", "--input", "32x32x3"],
        "--input asks for 3 channels, but its network has 1",
    );
    // Nothing but pictures of 5 channels would do, and there are none.
    let many = fixture.bare_weights("many.safetensors", "resnet8-cifar-in5");
    predict(
        &many,
        "resnet8-cifar-in5",
        "0.5,0.5,0.5,0.5,0.5",
        "resnet8-cifar-in5 has 5 input channels, and pictures have 1 (grey) or 3 (RGB)",
    );
    let out = fixture.arg("out");
    refused(
        &["train", "--arch", "resnet8-cifar-in5", "--data-path", "synthetic", "--output-dir", &out],
        "--arch resnet8-cifar-in5: pictures have 1",
    );
    let data = fixture.tree("data", 2, 3);
    let fixed = ["--arch", "resnet8-cifar-in5", "--mean", "0.5,0.5,0.5,0.5,0.5", "--std", "0.5,0.5,0.5,0.5,0.5"];
    let rsd = fixture.arg("net.rsd");
    refused(
        &[&["quantize", "--weights", &many, "--data-path", &data, "-o", &rsd], &fixed[..]].concat(),
        "5 input channels",
    );
}

#[test]
fn a_run_on_rectangles_resumes() {
    let fixture = Fixture::new();
    let data = stripes(&fixture, "data");
    let (whole, broken) = (fixture.arg("whole"), fixture.arg("broken"));
    let train = |out: &str, more: &[&str]| {
        let fixed = ["train", "--arch", "resnet8-cifar-w4", "--input", "9x12x1", "--epochs", "2", "--batch-size", "8"];
        succeed(
            &[&fixed[..], &["--data-path", &data, "--output-dir", out, "--pixel-mean", "--threads", "1"], more]
                .concat(),
        );
    };
    train(&whole, &[]);
    train(&broken, &["--max-steps", "3"]);
    let done = residual(&["train", "--resume", &broken, "--data-path", &data, "--threads", "1"]).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let read = |run: &str| fs::read(fixture.path(run).join("model.safetensors")).unwrap();
    assert!(read("whole") == read("broken"));
}
