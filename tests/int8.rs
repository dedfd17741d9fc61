//! int8 through the command: quantize, eval, predict, inspect and fit, and what they refuse.

mod common;

use std::fs;

use common::{Fixture, fail, json, succeed};
use residual::{
    Given, Image, Isa, Pictures, QuantizedModel, map_pictures,
    resnet::ResNet,
    rsd::{AlignedBytes, View, synthetic},
};
use residual_edge::{
    Engine, Fast, arena_bytes,
    source::{Format, Frame, Picture, Table},
};

/// Every kind of block, shortcut and odd width; quantized with pictures nobody has to recognise.
const NETWORKS: [&str; 5] =
    ["resnet8-cifar", "resnet8-cifar-Ac-w5", "resnet8-cifar-B-w7", "resnet11-cifar-bottleneck-w6", "plain8-cifar-w9"];

#[test]
fn quantize_knows_the_generated_pictures_and_every_name_of_a_part() {
    let fixture = Fixture::new();
    let weights = fixture.weights("weights", "resnet8-cifar");
    let (net, report) = (fixture.arg("net.rsd"), fixture.arg("report"));
    let few = ["--calibration-images", "4", "--report-images", "2", "--report", &report, "--json"];
    for part in ["train", "Valid"] {
        fixture.tree(&format!("data/{part}"), 10, 1);
    }
    for data in ["synthetic", &fixture.arg("data")] {
        let args = [&["quantize", "--weights", &weights, "--data-path", data, "-o", &net], &few[..]].concat();
        assert_eq!(json(&args)["calibration_images"], 4, "{data}");
    }
    // One of the ten training pictures is damaged.
    let data = fixture.arg("data");
    let classes = fs::read_dir(fixture.path("data/train")).unwrap().flatten();
    let broken = fixture.write(&format!("data/train/{}/0.png", classes.last().unwrap().file_name().display()), b"");
    let all = ["quantize", "--weights", &weights, "--data-path", &data, "-o", &net];
    let text = fail(&all).1;
    assert!(text.contains(&broken) && text.contains("--skip-unreadable goes on without it"), "{text}");
    let object = json(&[&all[..], &["--skip-unreadable", "--json"]].concat());
    assert_eq!((&object["calibration_images"], &object["unreadable"]), (&9.into(), &1.into()));
    fixture.tree("data/cats", 1, 1);
    let args = ["quantize", "--weights", &weights, "--data-path", &fixture.arg("data"), "-o", &net];
    assert!(fail(&args).1.contains("`cats`"));
}

#[test]
fn quantized_networks_give_the_same_bytes_as_model_file_and_as_tflite() {
    let fixture = Fixture::new();
    let data = fixture.tree("data", 10, 2);
    let raw: Vec<u8> = (0..2 * 3072).map(|i| (i * 37 + i / 100) as u8).collect();
    let (one, two) = (fixture.write("one.bin", &raw[..3072]), fixture.write("two.bin", &raw));
    for arch in NETWORKS {
        let weights = fixture.weights("weights", arch);
        let (net, tflite, report) = (fixture.arg("net.rsd"), fixture.arg("net.tflite"), fixture.arg("report"));
        let object = json(&[
            "quantize",
            "--weights",
            &weights,
            "--data-path",
            &data,
            "--calibration-images",
            "12",
            "-o",
            &net,
            "--tflite",
            &tflite,
            "--report",
            &report,
            "--report-images",
            "4",
            "--json",
            "--threads",
            "2",
        ]);
        assert_eq!(object["arch"], arch);
        assert!(object["divergence"].as_f64().unwrap() < 0.1, "{arch}: {object}");
        for layer in object["report"]["layers"].as_array().unwrap() {
            assert!(layer["sqnr_db"].as_f64().unwrap() > 10.0, "{arch}: {layer}");
            assert!((0.0..=1.0).contains(&layer["range_use"].as_f64().unwrap()));
        }
        let page = fs::read_to_string(fixture.path("report/report.html")).unwrap();
        assert!(page.contains("<svg") && page.contains("fc") && page.ends_with("</html>\n"));
        serde_json::from_slice::<serde_json::Value>(&fs::read(fixture.path("report/report.json")).unwrap()).unwrap();

        let predict = |model: &str, file: &str| json(&["predict", "--weights", model, "--raw", file, "--json"]);
        let (ours, theirs) = (predict(&net, &one), predict(&tflite, &one));
        assert_eq!(ours["output"].as_array().unwrap().len(), 10);
        assert_eq!(ours["output"], theirs["output"], "{arch}");
        let both = predict(&net, &two);
        assert_eq!(both["outputs"], predict(&tflite, &two)["outputs"], "{arch}");
        assert_eq!(both["outputs"][0], ours["output"]);

        let again = fixture.arg("again.rsd");
        succeed(&["convert", "--weights", &tflite, "-o", &again]);
        assert_eq!(predict(&again, &one)["output"], ours["output"], "{arch}");

        // The definition, in float, says the same within int8's precision.
        let photo = fixture.picture("photo.png", 32, 32, 5);
        let probability = |model: &str| {
            let object = json(&["predict", "--weights", model, &photo, "--json", "-k", "10"]);
            object["predictions"][0]["classes"][0].clone()
        };
        let (float, int8) = (probability(&weights), probability(&net));
        let difference = float["probability"].as_f64().unwrap() - int8["probability"].as_f64().unwrap();
        assert!(difference.abs() < 0.2, "{arch}: {float} became {int8}");

        let result = json(&["eval", "--weights", &net, "--data-path", &data, "--json"]);
        assert_eq!((result["images"].as_u64(), result["type"].as_str()), (Some(20), Some("int8")));
        let inspected = json(&["inspect", "--weights", &net, "--json"]);
        assert_eq!(inspected["arch"], arch);
        assert!(!inspected["layers"].as_array().unwrap().is_empty());
    }
}

#[test]
fn results_depend_on_neither_threads_nor_instruction_set() {
    let fixture = Fixture::new();
    let data = fixture.tree("data", 10, 3);
    let weights = fixture.weights("weights", "resnet8-cifar-w6");
    let quantize = |name: &str, threads: &str| {
        let net = fixture.arg(name);
        let args = ["quantize", "--weights", &weights, "--data-path", &data, "-o", &net, "--threads", threads];
        succeed(&args);
        fs::read(fixture.path(name)).unwrap()
    };
    let one = quantize("one.rsd", "1");
    assert_eq!(one, quantize("three.rsd", "3"));
    let model = QuantizedModel::from_bytes("net", &one, &Given::default()).unwrap();
    let input: Vec<i8> = (0..3072).map(|i| (i * 11) as i8).collect();
    let want = model.run_raw(&input, Isa::PORTABLE).unwrap();
    for isa in Isa::available() {
        assert_eq!(model.run_raw(&input, isa).unwrap(), want, "{isa}");
    }
}

/// A microcontroller's frame source and engine, beside the host's preprocessing and session.
#[test]
fn pictures_on_a_microcontroller_give_the_hosts_logits() {
    let fixture = Fixture::new();
    let weights = fixture.weights("weights", "resnet8-cifar-w5");
    let net = fixture.arg("net.rsd");
    succeed(&["quantize", "--weights", &weights, "--data-path", &fixture.tree("data", 10, 2), "-o", &net]);
    let model = QuantizedModel::open(&net, &Given::default()).unwrap();
    let bytes = AlignedBytes::from(model.bytes());
    let mut arena = AlignedBytes::zeroed(arena_bytes::<Fast>(&bytes).unwrap());
    let mut engine = Engine::<Fast>::new(&bytes, &mut arena).unwrap();
    let table = Table::new(engine.model()).unwrap();

    let image = |i| Image::open(fixture.picture(&format!("{i}.png"), 32, 32, i as u32));
    let how = Pictures { threads: 1, batch: 1, isa: Isa::PORTABLE, skip_unreadable: false };
    let host = map_pictures(&residual::Model::open(&net).unwrap(), &how, 3, image, |_, logits| logits.to_vec(), |_| {})
        .unwrap();
    for (i, want) in host.into_iter().enumerate() {
        let picture = Picture { width: 32, height: 32, format: Format::Rgb888 };
        let mut frame = Frame::new(&mut engine, &table, picture).unwrap();
        frame.push(image(i).unwrap().pixels()).unwrap();
        frame.finish().unwrap();
        let output = engine.run().unwrap();
        let real = |v: &i8| (i32::from(*v) - i32::from(output.zero_point)) as f32 * output.scale;
        let got: Vec<f32> = output.values.iter().map(real).collect();
        assert_eq!(got, want.unwrap(), "picture {i}");
    }
}

#[test]
fn fit_says_why_not() {
    let fixture = Fixture::new();
    let net: ResNet = "resnet20-cifar".parse().unwrap();
    let model = fixture.write("net.rsd", &synthetic(&net, 1).unwrap());
    let fits = json(&["fit", &model, "--chip", "stm32f405", "--json"]);
    assert_eq!((fits["fits"].as_bool(), fits["mode"].as_str()), (Some(true), Some("fast")));
    assert!(fits["estimate"]["milliseconds"].as_f64().unwrap() > 1.0);
    let too_small = json(&["fit", &model, "--chip", "samd21", "--json"]);
    assert_eq!(too_small["fits"].as_bool(), Some(false));
    let reasons = &too_small["modes"]["fast"]["why_not"];
    assert!(reasons[0].as_str().unwrap().starts_with("RAM: ") && reasons[1].as_str().unwrap().starts_with("flash: "));
    let text = succeed(&["fit", &model, "--chip", "samd21"]);
    assert!(text.contains("RAM): no: RAM: ") && !text.contains("RAM: RAM"), "{text}");
    for chip in [
        "stm32f411",
        "stm32f746",
        "stm32h743",
        "stm32l476",
        "nrf52832",
        "nrf52840",
        "nrf5340",
        "rp2040",
        "rp2350",
        "samd51",
        "mimxrt1062",
        "alif-e3",
        "alif-e7",
        "stm32n6",
    ] {
        assert!(succeed(&["fit", &model, "--chip", chip]).contains("mode"));
    }
    let (_, message) = fail(&["fit", &model, "--chip", "z80"]);
    assert!(message.contains("z80") && message.contains("stm32f405"), "{message}");
}

#[test]
fn damaged_models_are_refused_in_one_line() {
    let fixture = Fixture::new();
    let net: ResNet = "resnet8-cifar-w4".parse().unwrap();
    let good = synthetic(&net, 1).unwrap();
    let raw = fixture.write("raw.bin", &[0; 3072]);
    let data = fixture.cifar("cifar", 3);
    let photo = fixture.picture("photo.png", 32, 32, 1);
    let mut flipped = good.to_vec();
    flipped[good.len() / 2] ^= 1;
    for (name, bytes) in [
        ("cut.rsd", &good[..good.len() - 1]),
        ("head.rsd", &good[..20]),
        ("flipped.rsd", &flipped[..]),
        ("long.rsd", &[&good[..], &[0; 16]].concat()),
        ("empty.tflite", b"\x1c\0\0\0TFL3"),
        ("wild.tflite", b"\xff\xff\xff\xffTFL3\0\0\0\0\0\0\0\0"),
        ("loop.tflite", b"\x08\0\0\0TFL3\x08\0\0\0\x04\0\x04\0\0\0\0\0"),
    ] {
        let model = fixture.write(name, bytes);
        for args in [
            vec!["predict", "--weights", &model, "--raw", &raw, "--json"],
            vec!["predict", "--weights", &model, &photo],
            vec!["eval", "--weights", &model, "--data-path", &data],
            vec!["inspect", "--weights", &model],
            vec!["fit", &model, "--chip", "stm32f405"],
        ] {
            let (code, message) = fail(&args);
            assert!(code == 1 && message.contains(name), "{args:?}: {message}");
        }
    }
    let model = fixture.write("good.rsd", &good);
    let view = View::new_checked(&good).unwrap();
    assert_eq!(view.input().unwrap().shape.elements(), 3072);
    for (args, says) in [
        (vec!["predict", "--weights", &model, "--raw", &model, "--json"], "3072 bytes each"),
        (vec!["predict", "--weights", &model, "--raw", "/nonexistent", "--json"], "/nonexistent"),
        (vec!["predict", "--weights", &model, &photo], "--mean"),
        (vec!["eval", "--weights", &model, "--data-path", &data], "--mean"),
        (vec!["eval", "--weights", &model, "--arch", "resnet20-cifar", "--data-path", &data], "resnet20-cifar"),
        (vec!["fit", &photo, "--chip", "stm32f405"], "not an int8 model"),
        (vec!["quantize", "--weights", &model, "--data-path", &data, "-o", "/nonexistent/x.rsd"], "good.rsd"),
    ] {
        let (_, message) = fail(&args);
        assert!(message.contains(says), "{args:?}: {message}");
    }
    let weights = fixture.weights("weights", "resnet8-cifar-w4");
    let output = fixture.arg("out.rsd");
    let base = ["quantize", "--weights", &weights, "-o", &output, "--data-path"];
    for (more, says) in [(vec!["/nonexistent"], "/nonexistent"), (vec![data.as_str(), "--method", "best"], "minmax")] {
        let (_, message) = fail(&[&base[..], &more].concat());
        assert!(message.contains(says), "{message}");
    }
    assert!(!fixture.path("out.rsd").exists());
}

/// The same commands and the same library calls serve f32 and int8.
#[test]
fn one_door_opens_every_precision() {
    let fixture = Fixture::new();
    let weights = fixture.weights("weights", "resnet8-cifar-w5");
    let net = fixture.arg("net.rsd");
    succeed(&["quantize", "--weights", &weights, "--data-path", &fixture.tree("data", 10, 2), "-o", &net]);
    let picture = &fixture.picture("photo.png", 32, 32, 7);
    for (file, dtype) in [(&weights, "f32"), (&net, "int8")] {
        let quick = ["--batch", "3", "--threads", "2", "--seconds", "0.05", "--json"];
        let bench = json(&[&["bench", "--weights", file, "--profile"], &quick[..]].concat());
        assert_eq!((bench["dtype"].as_str(), bench["batch"].as_u64()), (Some(dtype), Some(3)));
        let layers = bench["layers"].as_array().unwrap();
        assert!(layers.iter().any(|layer| layer["kernel"].as_str().unwrap().contains(dtype)));

        let cold = json(&["bench", "--weights", file, "--cold", "--threads", "1", "--json"]);
        assert!(cold["dtype"] == dtype && cold["cold_start_ms"].as_f64().unwrap() > 0.0, "{cold}");

        // The classifier's input: by the command, and by the library on two classifiers that share their weights.
        let features = json(&["features", "--weights", file, "--layer", "avgpool", picture, "--json"]);
        let found = &features["pictures"][0];
        assert_eq!((found["shape"].to_string(), features["dtype"].as_str()), ("[1,1,20]".into(), Some(dtype)));
        let model = residual::Model::open(file).unwrap();
        let mut classifier = residual::Classifier::builder().threads(1).batch(4).build(&model).unwrap();
        let mut other = classifier.try_clone().unwrap();
        assert!(std::sync::Arc::ptr_eq(classifier.session().model(), other.session().model()));
        let images = [Image::open(picture).unwrap()];
        let own = classifier.features(&images, "avgpool").unwrap();
        let shown = found["values"].as_array().unwrap().iter().map(|v| v.as_f64().unwrap() as f32);
        assert_eq!(own[0].values, shown.collect::<Vec<_>>());
        let predicted = json(&["predict", "--weights", file, picture, "--json"]);
        let best = &predicted["predictions"][0]["classes"][0];
        for answer in [classifier.classify(&images[0], 1).unwrap(), other.classify(&images[0], 1).unwrap()] {
            assert_eq!(Some(answer[0].class as u64), best["class"].as_u64());
        }
        let error = classifier.features(&images, "layer9").unwrap_err().to_string();
        assert!(error.starts_with("there is no layer `layer9`; there are conv1, "), "{error}");
    }
}
