//! `residual train` on folders of pictures: what is found there, and which folders a run goes on with.

mod common;

use std::fs;

use common::{Fixture, fail, json, said, succeed};

/// A small run on a folder.
fn on_folder<'a>(data: &'a str, out: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let base = ["train", "--arch", "resnet8-cifar-w8", "--train-crop-size", "8", "--batch-size", "4", "--threads", "1"];
    [&base[..], &["--epochs", "1", "--data-path", data, "--output-dir", out], more].concat()
}

#[test]
fn what_was_found_is_said_and_a_folder_without_parts_is_refused() {
    let fixture = Fixture::new();
    for (part, each) in [("train", 6), ("valid", 3)] {
        fixture.tree(&format!("data/{part}"), 3, each);
    }
    fixture.write("data/train/bird/scan.tif", b"II*");
    let (data, out) = (fixture.arg("data"), fixture.arg("out"));
    let text = said(&on_folder(&data, &out, &[]));
    let found = format!("3 classes (airplane, automobile, bird): 18 training pictures in {data}/train, 9 validation");
    assert!(text.contains(&found) && text.contains("1 files are left out (1 .tif)"), "{text}");
    let weights = fixture.arg("out/model.safetensors");
    for (split, images) in [("train", 18), ("val", 9), ("test", 9)] {
        let object = json(&["eval", "--weights", &weights, "--data-path", &data, "--split", split, "--json"]);
        assert_eq!((&object["images"], object["classes"].as_array().unwrap().len()), (&images.into(), 3));
    }

    // One tree: only when it is said what to validate on.
    let (tree, out) = (fixture.arg("data/train"), fixture.arg("out2"));
    let (code, text) = fail(&on_folder(&tree, &out, &[]));
    assert!(code == 1 && text.contains("--holdout") && text.contains("--no-validation"), "{text}");
    let text = said(&on_folder(&tree, &out, &["--holdout", "0.34", "--max-steps", "2"]));
    assert!(text.contains("12 training pictures") && text.contains("6 validation pictures held out"), "{text}");
    let config = fs::read_to_string(fixture.path("out2/config.json")).unwrap();
    let config: serde_json::Value = serde_json::from_str(&config).unwrap();
    assert_eq!((config["holdout"].as_f64(), config["holdout_seed"].as_u64()), (Some(0.34), Some(0)));
    said(&["train", "--resume", &out, "--data-path", &tree]);
    let text = said(&on_folder(&tree, &fixture.arg("out3"), &["--no-validation"]));
    assert!(text.contains("no validation"), "{text}");

    fixture.tree("data/cats", 1, 1);
    let (code, text) = fail(&on_folder(&data, &fixture.arg("out4"), &[]));
    assert!(code == 1 && text.contains("`train`") && text.contains("`cats`"), "{text}");
    assert!(fail(&["eval", "--weights", &weights, "--data-path", &data]).1.contains("`cats`"));
}

#[test]
fn a_resumed_run_meets_its_own_classes_and_pictures_or_none() {
    let fixture = Fixture::new();
    fixture.tree("data/train", 3, 6);
    fixture.tree("data/test", 3, 2);
    let (data, out) = (fixture.arg("data"), fixture.arg("out"));
    succeed(&on_folder(&data, &out, &["--max-steps", "2"]));
    let resume = ["train", "--resume", &out, "--data-path", &data];
    let rename = |from: &str, to: &str| fs::rename(fixture.path(from), fixture.path(to)).unwrap();
    ["train", "test"].iter().for_each(|part| rename(&format!("data/{part}/bird"), &format!("data/{part}/zebra")));
    let text = fail(&resume).1;
    assert!(text.contains("a class `bird` where these data have `zebra`"), "{text}");
    ["train", "test"].iter().for_each(|part| rename(&format!("data/{part}/zebra"), &format!("data/{part}/bird")));
    rename("data/train/bird/0.png", "data/train/airplane/9.png");
    assert!(fail(&resume).1.contains("is of a run on 6 training pictures of `airplane`, this one has 7"));
    rename("data/train/airplane/9.png", "data/train/bird/0.png");
    rename("data/train", "train");
    rename("data", "moved");
    rename("train", "moved/train");
    // Where the data lie does not matter.
    said(&["train", "--resume", &out, "--data-path", &fixture.arg("moved")]);
}
