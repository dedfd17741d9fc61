//! Bad input: one line that names the culprit, exit code not 0, never a crash.

mod common;

use std::fs;

use common::{ARCH, Fixture, check_failure, fail, residual};
use residual::{resnet::ResNet, weights::describe};

/// The command fails, and says all of `says`.
fn refused(args: &[&str], says: &[&str]) -> i32 {
    let (code, message) = fail(args);
    for part in says {
        assert!(message.contains(part), "{args:?} should say {part:?}: {message}");
    }
    code
}

/// Every command that reads weights refuses this file and names it.
fn weights_refused(fixture: &Fixture, weights: &str, says: &[&str]) {
    let says = [says, &[weights]].concat();
    let (cifar, picture) = (fixture.cifar("cifar", 3), fixture.picture("photo.png", 32, 32, 1));
    let output = fixture.arg("out.safetensors");
    for args in [
        vec!["inspect", "--weights", weights],
        vec!["bench", "--weights", weights],
        vec!["bench", "--weights", weights, "--cold"],
        vec!["eval", "--weights", weights, "--data-path", &cifar],
        vec!["predict", "--weights", weights, &picture],
        vec!["convert", "--weights", weights, "-o", &output],
    ] {
        assert_eq!(refused(&args, &says), 1);
    }
    assert!(!fixture.path("out.safetensors").exists(), "a refused conversion left a file");
}

#[test]
fn damaged_weights() {
    let fixture = Fixture::new();
    let good = fs::read(fixture.weights("good", ARCH)).unwrap();
    let header = 8 + u64::from_le_bytes(good[..8].try_into().unwrap()) as usize;

    for len in [0, 1, 7, 9, header - 1, header, header + 1, good.len() - 1] {
        let file = fixture.write("truncated", &good[..len]);
        weights_refused(&fixture, &file, &[]);
    }
    weights_refused(&fixture, &fixture.write("oversized", &[&good[..], &[0; 100]].concat()), &["bytes"]);
    weights_refused(&fixture, &fixture.write("huge-header", b"\xff\xff\xff\xff\xff\xff\xff\x7f{}"), &[]);
    weights_refused(&fixture, &fixture.write("text", b"just some text, not weights"), &["neither safetensors"]);

    // A value that is not a number, somewhere in the middle.
    let mut nan = good.clone();
    let at = header + (good.len() - header) / 8 * 4;
    nan[at..at + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    weights_refused(&fixture, &fixture.write("nan", &nan), &["its checksum is", "damaged or changed"]);
    weights_refused(&fixture, &fixture.write("nan", &without_checksum(nan)), &["NaN", "weight["]);
}

/// The same weights as a file of another program, which has no checksum.
fn without_checksum(mut file: Vec<u8>) -> Vec<u8> {
    let at = file.windows(8).position(|w| w == b"checksum").unwrap();
    file[at..at + 8].copy_from_slice(b"whatever");
    file
}

#[test]
fn outputs_that_are_no_numbers() {
    let fixture = Fixture::new();
    let mut weights = fs::read(fixture.weights("good", ARCH)).unwrap();
    // The last tensors in the order of names are the second stage's; `fc.weight` has 640 values.
    let header = 8 + u64::from_le_bytes(weights[..8].try_into().unwrap()) as usize;
    let text = String::from_utf8(weights[8..header].to_vec()).unwrap();
    let entry: serde_json::Value = serde_json::from_str(&text).unwrap();
    let offsets = &entry["fc.weight"]["data_offsets"];
    let range = [0, 1].map(|i| header + offsets[i].as_u64().unwrap() as usize);
    for value in weights[range[0]..range[1]].chunks_exact_mut(4) {
        value.copy_from_slice(&f32::MAX.to_le_bytes());
    }
    let weights = fixture.write("overflowing", &without_checksum(weights));
    let (cifar, picture) = (fixture.cifar("cifar", 3), fixture.picture("photo.png", 32, 32, 1));
    for args in [
        vec!["predict", "--weights", &weights, &picture],
        vec!["eval", "--weights", &weights, "--data-path", &cifar, "--threads", "2"],
    ] {
        assert_eq!(refused(&args, &[&weights, "the network's output", "picture", "its weights are damaged"]), 1);
    }
}

/// None of these is waited for or read to its end, for it has none.
#[cfg(unix)]
#[test]
fn pipes_and_devices() {
    let fixture = Fixture::new();
    let weights = fixture.weights("w", ARCH);
    let picture = fixture.picture("photo.png", 32, 32, 1);
    let pipe = fixture.arg("pipe.jpg");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    for file in [&pipe, "/dev/zero"] {
        let says = [file, "not a regular file"];
        weights_refused(&fixture, file, &says);
        refused(&["predict", "--weights", &weights, file], &says);
        refused(&["predict", "--weights", &weights, "--plan", file, &picture], &says);
        refused(&["predict", "--weights", &weights, "--class-names", file, &picture], &says);
        refused(&["bench", "--arch", ARCH, "--plan", file], &says);
    }
}

/// Names out of files cannot steer the terminal.
#[cfg(unix)]
#[test]
fn control_characters_are_escaped() {
    let fixture = Fixture::new();
    let weights = fixture.weights("w", ARCH);
    let evil = "a\u{1b}]0;x\u{7}\n99.9%  cat \u{202e}.png";
    let shown = "a\\u{1b}]0;x\\u{7}";
    let names = fixture.write("names", (0..10).map(|i| format!("class\u{1b}[31m{i}\n")).collect::<String>().as_bytes());
    let picture = fixture.picture(evil, 32, 32, 1);
    let text = common::succeed(&["predict", "--weights", &weights, "--class-names", &names, &picture]);
    assert!(text.contains(shown) && text.contains("class\\u{1b}[31m") && text.lines().count() == 6, "{text}");
    assert!(!text.contains(|c: char| c.is_control() && c != '\n'), "{text:?}");
    fixture.write(evil, b"");
    let (_, message) = fail(&["predict", "--weights", &weights, &picture]);
    assert!(message.contains(shown) && !message.trim_end().contains(char::is_control), "{message:?}");
}

#[test]
fn hostile_weights() {
    let fixture = Fixture::new();
    // Unpickling this with Python would run a command: `os.system("true")`.
    let mut pickle = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.".to_vec();
    pickle.extend_from_slice(b"\x80\x02M\xe9\x03.\x80\x02}.\x80\x02cos\nsystem\nX\x04\x00\x00\x00true\x85R.");
    weights_refused(&fixture, &fixture.write("exploit.pth", &pickle), &["os.system"]);
    let header = br#"{"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,0]}}"#;
    let bomb = [&(header.len() as u64).to_le_bytes()[..], header].concat();
    weights_refused(&fixture, &fixture.write("bomb.safetensors", &bomb), &[]);
    let header = br#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[18446744073709551612,18446744073709551615]}}"#;
    let wrap = [&(header.len() as u64).to_le_bytes()[..], header].concat();
    weights_refused(&fixture, &fixture.write("wrap.safetensors", &wrap), &[]);
}

#[test]
fn weights_of_another_network() {
    let fixture = Fixture::new();
    let spec: ResNet = ARCH.parse().unwrap();
    let mut metadata = describe(&"resnet14-cifar".parse().unwrap(), None);
    common::write_weights(&fixture.path("fewer"), spec, &metadata);
    weights_refused(&fixture, &fixture.arg("fewer"), &["resnet14-cifar", "missing", "layer1.1.conv1.weight"]);

    metadata = describe(&"resnet8-cifar-w24".parse().unwrap(), None);
    common::write_weights(&fixture.path("narrower"), spec, &metadata);
    let says = ["conv1.weight has [16, 3, 3, 3], needs [24, 3, 3, 3]"];
    weights_refused(&fixture, &fixture.arg("narrower"), &says);

    metadata = describe(&spec, None);
    metadata.insert("architecture".into(), "vgg16".into());
    common::write_weights(&fixture.path("foreign"), spec, &metadata);
    weights_refused(&fixture, &fixture.arg("foreign"), &["architecture", "vgg16"]);

    let good = fixture.weights("good", ARCH);
    assert_eq!(refused(&["inspect", "--weights", &good, "--arch", "resnet50"], &[&good, "resnet50"]), 1);
}

#[test]
fn weights_that_say_too_little() {
    let fixture = Fixture::new();
    let bare = fixture.bare_weights("bare", ARCH);
    let cifar = fixture.cifar("cifar", 3);
    let eval = ["eval", "--weights", &bare, "--data-path", &cifar];
    refused(&eval, &[&bare, "--arch", "resnet8-cifar-Ac"]);
    refused(&[&eval[..], &["--arch", ARCH]].concat(), &[&bare, "--mean", "--std"]);
}

#[test]
fn the_flag_that_helps_is_named_once() {
    let fixture = Fixture::new();
    let (bare, out) = (fixture.bare_weights("bare", ARCH), fixture.arg("out"));
    let picture = fixture.picture("photo.png", 32, 32, 1);
    let train = ["train", "--arch", ARCH, "--data-path", "synthetic", "--output-dir", &out];
    for (args, flag) in [
        (vec!["inspect", "--weights", &bare], "--arch"),
        (vec!["predict", "--weights", &bare, &picture], "--arch"),
        (vec!["predict", "--weights", &bare, "--arch", ARCH, &picture], "--mean"),
        ([&train[..], &["--lr", "-1"]].concat(), "--lr"),
        ([&train[..], &["--lr-scheduler", "linear"]].concat(), "--lr-scheduler"),
        ([&train[..], &["--epochs", "0"]].concat(), "--epochs"),
        ([&train[..], &["--model-ema-decay", "2"]].concat(), "--model-ema-decay"),
    ] {
        let (_, message) = fail(&args);
        assert_eq!(message.matches(&format!("{flag} ")).count(), 1, "{message}");
    }
}

#[test]
fn other_spellings_of_a_network_are_recognised() {
    for name in ["ResNet50", "resnet-50", "resnet_50", "ResNet-50"] {
        for command in ["inspect", "bench", "demo"] {
            assert_eq!(refused(&[command, "--arch", name], &[name, "did you mean `resnet50`?"]), 2);
        }
    }
    let (_, message) = fail(&["inspect", "--arch", "vgg16"]);
    assert!(!message.contains("did you mean"), "{message}");
}

#[test]
fn unusable_metadata() {
    let fixture = Fixture::new();
    let spec: ResNet = ARCH.parse().unwrap();
    let good = describe(&spec, None);
    for (key, value) in [
        ("std", "0,1,1"),
        ("mean", "a"),
        ("crop", "0"),
        ("crop", "99999999999999999999"),
        ("crop", "4096"),
        ("mean", "123,117,104"),
        ("std", "58,57,57"),
        ("class_names", "[1]"),
        ("class_names", "[\"only one\"]"),
        ("classes", "11"),
    ] {
        let mut metadata = good.clone();
        metadata.extend([("mean".into(), "0,0,0".into()), ("std".into(), "1,1,1".into())]);
        metadata.insert(key.into(), value.into());
        common::write_weights(&fixture.path("odd"), spec, &metadata);
        let picture = fixture.picture("photo.png", 32, 32, 1);
        let weights = fixture.arg("odd");
        assert_eq!(refused(&["predict", "--weights", &weights, &picture], &[&weights, key]), 1);
    }
    // Large enough to be refused by size, small enough to parse.
    let mut metadata = good;
    metadata.extend([("mean", "0,0,0"), ("std", "1,1,1"), ("crop", "60000")].map(|(k, v)| (k.into(), v.into())));
    common::write_weights(&fixture.path("large"), spec, &metadata);
    refused(&["inspect", "--weights", &fixture.arg("large")], &["`crop` = `60000`: must be 1 to 2048 pixels"]);
}

#[test]
fn missing_files_and_folders() {
    let fixture = Fixture::new();
    let weights = fixture.weights("w", ARCH);
    let (absent, folder, empty) = (fixture.arg("absent"), fixture.arg(""), fixture.path("empty"));
    fs::create_dir(&empty).unwrap();
    let empty = fixture.arg("empty");
    for command in ["inspect", "bench"] {
        refused(&[command, "--weights", &absent], &[&absent]);
        refused(&[command, "--weights", &folder], &[&folder]);
    }
    refused(&["eval", "--weights", &weights, "--data-path", &absent], &[&absent]);
    refused(&["eval", "--weights", &weights, "--data-path", &weights], &[&weights]);
    refused(&["eval", "--weights", &weights, "--data-path", &empty], &[&empty]);
    refused(&["predict", "--weights", &weights, &absent], &[&absent]);
    refused(&["predict", "--weights", &weights, &empty], &[&empty, "no pictures"]);
    refused(&["convert", "--weights", &weights, "-o", &fixture.arg("absent/out")], &["absent/out"]);
    refused(&["predict", "--weights", &weights, "--class-names", &absent, &folder], &[&absent]);
}

#[test]
fn unreadable_pictures() {
    let fixture = Fixture::new();
    let weights = fixture.weights("w", ARCH);
    let tree = fixture.tree("tree", 10, 3);
    // In the middle, and behind another one: the first is named whatever the threads do.
    let broken = fixture.write("tree/dog/1.png", b"\x89PNG\r\n\x1a\n");
    fixture.write("tree/truck/2.png", b"");
    for threads in ["1", "2", "5"] {
        let eval = ["eval", "--weights", &weights, "--data-path", &tree, "--threads", threads, "--batch-size", "2"];
        assert_eq!(refused(&eval, &[&broken, "--skip-unreadable"]), 1);
        let predict = ["predict", "--weights", &weights, "--threads", threads, &tree];
        refused(&predict, &[&broken, "--skip-unreadable"]);
    }
    let whole = fs::read(fixture.picture("photo.jpg", 64, 64, 1)).unwrap();
    let truncated = fixture.write("truncated.jpg", &whole[..whole.len() / 2]);
    refused(&["predict", "--weights", &weights, &truncated], &[&truncated, "truncated"]);
    // A header of a few bytes that announces 60,000 x 60,000 pixels.
    let mut bomb = b"BM\0\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0".to_vec();
    bomb.extend([60_000i32.to_le_bytes(), 60_000i32.to_le_bytes()].concat());
    bomb.extend([1, 0, 24, 0]);
    bomb.resize(100, 0);
    let bomb = fixture.write("bomb.bmp", &bomb);
    refused(&["predict", "--weights", &weights, &bomb], &[&bomb, "60000"]);

    for i in 0..3 {
        fixture.write(&format!("hopeless/{i}.png"), b"");
    }
    refused_with_notes(&["predict", "--weights", &weights, "--skip-unreadable", &fixture.arg("hopeless")]);
}

/// Notes may come before the error.
fn refused_with_notes(args: &[&str]) {
    let output = residual(args).output().unwrap();
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(1) && message.lines().last().unwrap().starts_with("error: none"), "{message}");
}

#[test]
fn data_sets_that_do_not_fit() {
    let fixture = Fixture::new();
    let weights = fixture.bare_weights("w", ARCH);
    let known = ["--arch", ARCH, "--mean", "0,0,0", "--std", "1,1,1"];
    let eval = |data: &str, says: &[&str]| {
        let args = [&["eval", "--weights", &weights, "--data-path", data], &known[..]].concat();
        assert_eq!(refused(&args, says), 1);
    };
    let three = fixture.tree("three", 3, 1);
    eval(&three, &[&three, "3 classes", "10", "--class-names"]);
    let cifar = fixture.cifar("cifar", 5);
    let file = fixture.path("cifar").join("test_batch.bin");
    let bytes = fs::read(&file).unwrap();
    fs::write(&file, &bytes[..bytes.len() - 1]).unwrap();
    eval(&cifar, &[file.to_str().unwrap(), "3073"]);
    fs::write(&file, [&[10u8], &bytes[1..]].concat()).unwrap();
    eval(&cifar, &[file.to_str().unwrap(), "label 10"]);
    fs::write(&file, b"").unwrap();
    eval(&cifar, &[file.to_str().unwrap()]);
}

#[test]
fn classes_that_the_network_does_not_know() {
    let fixture = Fixture::new();
    let weights = fixture.weights("w", ARCH);
    let (ten, three) = (fixture.tree("ten", 10, 1), fixture.tree("three", 3, 1));
    for tree in ["ten", "three"] {
        fs::rename(fixture.path(tree).join("bird"), fixture.path(tree).join("Birds")).unwrap();
    }
    let eval = |data: &str, more: &[&str], says: &[&str]| {
        let args = [&["eval", "--weights", &weights, "--data-path", data], more].concat();
        assert_eq!(refused(&args, says), 1);
    };
    let names = ["`Birds`", "`bird`", "--class-names"];
    eval(&ten, &[], &[&[&*ten, "1 of 10 classes", ARCH, "--match-classes index"], &names[..]].concat());
    eval(&three, &["--match-classes", "name"], &[&[&*three, "1 of 3 classes", "10 is"], &names[..]].concat());
    eval(&three, &["--match-classes", "index"], &[&three, "3 classes", ARCH, "10", "by name"]);
    fs::rename(fixture.path("ten/cat"), fixture.path("ten/Katze")).unwrap();
    eval(&ten, &[], &[&ten, "2 of 10 classes", "`Birds`"]);
}

#[test]
fn arguments_that_make_no_sense() {
    let fixture = Fixture::new();
    let (weights, cifar) = (fixture.weights("w", ARCH), fixture.cifar("cifar", 3));
    for (args, culprit) in [
        (vec!["bench", "--arch", "vgg16"], "vgg16"),
        (vec!["inspect", "--arch", "resnet51"], "resnet51"),
        (vec!["inspect", "--arch", "resnet21-cifar"], "resnet21-cifar"),
        (vec!["bench", "--arch", ARCH, "--threads", "0"], "--threads"),
        (vec!["bench", "--arch", ARCH, "--threads", "-1"], "-1"),
        (vec!["bench", "--arch", ARCH, "--threads", "99999999999999999999"], "--threads"),
        (vec!["bench", "--arch", ARCH, "--batch", "0"], "--batch"),
        (vec!["bench", "--arch", ARCH, "--seconds", "NaN"], "--seconds"),
        (vec!["eval", "--weights", &weights, "--data-path", &cifar, "--threads", "0"], "--threads"),
        (vec!["eval", "--weights", &weights, "--data-path", &cifar, "--mean", "1,0,0.5"], "--std"),
        (vec!["eval", "--weights", &weights, "--data-path", &cifar, "--mean", "1,2", "--std", "1,1,1"], "--mean"),
        (vec!["eval", "--weights", &weights, "--data-path", &cifar, "--mean", "0,0,0", "--std", "1,0,1"], "--std"),
        (
            vec!["eval", "--weights", &weights, "--data-path", &cifar, "--mean", "123,117,104", "--std", "58,57,57"],
            "0.4824,0.4588,0.4078",
        ),
        (
            vec!["predict", "--weights", &weights, "--mean", "0,0,0", "--std", "58,57,57", &weights],
            "0.2275,0.2235,0.2235",
        ),
        (vec!["eval", "--weights", &weights, "--data-path", &cifar, "--split", "both"], "--split"),
        (vec!["predict", "--weights", &weights], "PICTURE"),
        (vec!["inspect"], "--arch"),
        (vec!["train-me"], "train-me"),
        (vec!["bench", "--train"], "--arch"),
        (vec!["predict", "--weights", &weights, "--raw", &weights], "--raw"),
        (vec!["inspect", "--arch", ARCH, "--wrong"], "--wrong"),
    ] {
        assert_eq!(refused(&args, &[culprit]), 2, "{args:?}");
    }
    // A network that fits no address space is an error, not a crash.
    refused(&["inspect", "--arch", "resnet50", "--batch", "70000"], &["--batch"]);

    let args = ["bench", "--arch", ARCH];
    let (code, message) = check_failure(&args, residual(&args).env("RESIDUAL_ISA", "sse9"));
    assert!(code == 1 && message.contains("RESIDUAL_ISA=sse9") && message.contains("portable"), "{message}");
}
