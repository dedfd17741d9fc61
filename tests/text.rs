//! Text for people fits 80 columns where the output is no terminal.

mod common;

use common::{ARCH, CLASSES, Fixture, succeed};

#[test]
fn every_commands_text_fits_80_columns() {
    let fixture = Fixture::new();
    let weights = fixture.weights("w.safetensors", ARCH);
    let tree = fixture.tree("tree", 10, 2);
    let (plan, rsd, run) = (fixture.arg("p.json"), fixture.arg("n.rsd"), fixture.arg("run"));
    let (report, trained) = (fixture.arg("report"), fixture.arg("run/model.safetensors"));
    let quantize = ["quantize", "--weights", &weights, "--data-path", &tree, "-o", &rsd, "--report", &report];
    let train = ["train", "--arch", "resnet8-cifar-w8", "--data-path", &tree, "--epochs", "1", "--batch-size", "10"];
    let train = [&train[..], &["--holdout", "0.2"]].concat();
    for args in [
        vec!["inspect", "--arch", "resnet18"],
        vec!["inspect", "--arch", "resnet152-A-v1", "--batch", "64", "--threads", "64"],
        vec!["inspect", "--weights", &weights],
        vec!["bench", "--arch", ARCH, "--seconds", "0.01"],
        vec!["bench", "--arch", "resnet164-cifar-bottleneck-Ac-v1", "--seconds", "0.01", "--profile"],
        vec!["bench", "--arch", ARCH, "--seconds", "0.01", "--train"],
        vec!["bench", "--peak"],
        vec!["tune", "--arch", ARCH, "--seconds", "0.01", "-o", &plan],
        vec!["eval", "--weights", &weights, "--data-path", &tree],
        [&quantize[..], &["--calibration-images", "8", "--report-images", "8"]].concat(),
        vec!["inspect", "--weights", &rsd],
        vec!["fit", &rsd, "--chip", "samd21"],
        [&train[..], &["--output-dir", &run]].concat(),
        vec!["inspect", "--weights", &trained],
    ] {
        let text = succeed(&args);
        assert!(!text.is_empty());
        for line in text.lines() {
            // Nobody can break a path.
            let fits = line.chars().count() <= 80 || line.trim_start().starts_with(&fixture.arg(""));
            assert!(fits, "{args:?}: {} columns\n{line}", line.chars().count());
        }
    }
}

#[test]
fn what_has_no_room_is_named() {
    let text = succeed(&["inspect", "--arch", "resnet50"]);
    let last = text.lines().find(|line| line.starts_with("(left out for want of room: ")).unwrap();
    assert!(last.contains("offset") && last.ends_with("; --json has all)"), "{text}");
    assert!(text.starts_with("layer") && text.contains("layer4.2.conv3"), "{text}");
}

#[test]
fn long_class_names_give_way() {
    let fixture = Fixture::new();
    let weights = fixture.weights("w.safetensors", ARCH);
    fixture.tree("tree", 10, 1);
    let long = "a class with a very long name ".repeat(5);
    let names: String = CLASSES.iter().map(|name| format!("{name} {long}\n")).collect();
    let names = fixture.write("names.txt", names.as_bytes());
    for name in CLASSES {
        let to = fixture.path(&format!("tree/{name} {}", long.trim()));
        std::fs::rename(fixture.path(&format!("tree/{name}")), to).unwrap();
    }
    let args = ["eval", "--weights", &weights, "--class-names", &names, "--data-path", &fixture.arg("tree")];
    let text = succeed(&args);
    assert!(text.lines().all(|line| line.chars().count() <= 80) && text.contains('\u{2026}'), "{text}");
}
