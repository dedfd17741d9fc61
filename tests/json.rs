//! What every command's `--json` has in common: docs/json.md.

mod common;

use common::{ARCH, Fixture, json};
use serde_json::Value;

/// Fields that are fractions, whichever object they are in.
fn is_fraction(name: &str) -> bool {
    let whole = ["probability", "range_use", "saturation", "share_of_time"];
    whole.contains(&name)
        || name.split('_').any(|word| word == "top1" || word == "top5") && !name.starts_with("correct")
}

/// Checks an object and what is in it; returns how many fractions there are.
fn fractions(value: &Value) -> usize {
    match value {
        Value::Array(items) => items.iter().map(fractions).sum(),
        Value::Object(fields) => fields.iter().map(|(name, value)| field(name, value)).sum(),
        _ => 0,
    }
}

fn field(name: &str, value: &Value) -> usize {
    assert!(!name.contains("percent") && !name.contains("accuracy"), "{name}: {value}");
    if name.starts_with("correct") {
        assert!(value.is_u64(), "{name}: {value}");
    }
    if !is_fraction(name) {
        return fractions(value);
    }
    assert!(value.is_null() || (0.0..=1.0).contains(&value.as_f64().unwrap()), "{name}: {value}");
    value.is_f64().into()
}

#[test]
fn accuracies_and_probabilities_are_fractions_in_every_command() {
    let fixture = Fixture::new();
    let weights = fixture.weights("w.safetensors", ARCH);
    let (tree, picture) = (fixture.tree("tree", 10, 2), fixture.picture("photo.png", 40, 40, 1));
    let (rsd, report) = (fixture.arg("net.rsd"), fixture.arg("report"));
    let (run, plan) = (fixture.arg("run"), fixture.arg("plan.json"));
    let quantize = ["quantize", "--weights", &weights, "--data-path", &tree, "-o", &rsd, "--report", &report];
    let train = ["train", "--arch", "resnet8-cifar-w8", "--data-path", &tree, "--epochs", "1", "--batch-size", "10"];
    let train = [&train[..], &["--holdout", "0.2"]].concat();
    for (args, least) in [
        (vec!["predict", "--weights", &weights, &picture], 5),
        (vec!["eval", "--weights", &weights, "--data-path", &tree], 22),
        ([&quantize[..], &["--calibration-images", "8", "--report-images", "8"]].concat(), 20),
        (vec!["eval", "--weights", &rsd, "--data-path", &tree], 22),
        ([&train[..], &["--output-dir", &run]].concat(), 2),
        (vec!["bench", "--arch", ARCH, "--seconds", "0.01", "--profile"], 5),
        (vec!["bench", "--arch", ARCH, "--seconds", "0.01", "--train"], 0),
        (vec!["tune", "--arch", ARCH, "--seconds", "0.01", "-o", &plan], 0),
        (vec!["inspect", "--arch", ARCH], 0),
        (vec!["inspect", "--weights", &rsd], 0),
        (vec!["fit", &rsd, "--chip", "stm32f405"], 0),
    ] {
        let object = json(&[&args[..], &["--json"]].concat());
        let found = fractions(&object);
        assert!(found >= least, "{args:?}: {found} fractions\n{object:#}");
    }
    let written = std::fs::read(fixture.path("report/report.json")).unwrap();
    assert!(fractions(&serde_json::from_slice(&written).unwrap()) >= 20);
}

#[test]
fn counts_and_fractions_of_a_class_agree() {
    let fixture = Fixture::new();
    let weights = fixture.weights("w.safetensors", ARCH);
    let tree = fixture.tree("tree", 10, 3);
    let object = json(&["eval", "--weights", &weights, "--data-path", &tree, "--json"]);
    let mut sums = [0.0, 0.0];
    for class in object["classes"].as_array().unwrap() {
        let images = class["images"].as_f64().unwrap();
        for ((count, fraction), sum) in [("correct", "top1"), ("correct_top5", "top5")].into_iter().zip(&mut sums) {
            let (count, fraction) = (class[count].as_u64().unwrap() as f64, class[fraction].as_f64().unwrap());
            assert_eq!(count / images, fraction, "{class}");
            *sum += count;
        }
    }
    let images = object["images"].as_f64().unwrap();
    assert!((sums[0] / images - object["top1"].as_f64().unwrap()).abs() < 1e-12, "{object}");
    assert!((sums[1] / images - object["top5"].as_f64().unwrap()).abs() < 1e-12, "{object}");
}
