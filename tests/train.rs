//! `residual train` as a user calls it: what it writes, how it stops, how it goes on, what it refuses.

mod common;

use std::{
    fs,
    path::Path,
    process::{Child, Stdio},
    thread,
    time::{Duration, Instant},
};

use common::{Fixture, fail, json, residual, said, succeed};

/// A small run on generated pictures: 40 steps an epoch.
fn arguments(out: &str, more: &[&str]) -> Vec<String> {
    let base = [
        ["--arch", "resnet8-cifar-w8"],
        ["--data-path", "synthetic"],
        ["--train-crop-size", "8"],
        ["--epochs", "2"],
        ["--lr", "0.2"],
        ["--lr-scheduler", "one-cycle"],
        ["--model-ema-decay", "0.5"],
        ["--seed", "3"],
        ["--threads", "1"],
        ["--output-dir", out],
    ];
    let kept = base.iter().filter(|[flag, _]| !more.contains(flag)).flatten();
    ["train", "--nesterov", "--model-ema"].iter().chain(kept).chain(more).map(|&text| text.to_owned()).collect()
}

fn train(out: &str, more: &[&str]) -> String {
    let arguments = arguments(out, more);
    succeed(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
}

fn refused(out: &str, more: &[&str]) -> String {
    let arguments = arguments(out, more);
    fail(&arguments.iter().map(String::as_str).collect::<Vec<_>>()).1
}

/// The names of a folder's files.
fn names(folder: &str) -> Vec<String> {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// The configuration that a run left in its folder.
fn config(folder: &str) -> serde_json::Value {
    serde_json::from_str(&fs::read_to_string(Path::new(folder).join("config.json")).unwrap()).unwrap()
}

#[test]
fn a_run_leaves_everything_and_eval_needs_nothing_else() {
    let fixture = Fixture::new();
    let out = fixture.arg("out");
    let text = train(&out, &[]);
    assert_eq!(text.lines().count(), 2, "{text}");
    let metrics = fs::read_to_string(fixture.path("out/metrics.csv")).unwrap();
    let rows: Vec<Vec<&str>> = metrics.lines().map(|line| line.split(',').collect()).collect();
    assert_eq!(
        rows[0],
        ["epoch", "step", "lr", "train_loss", "train_top1", "val_loss", "val_top1", "images_per_second"]
    );
    assert_eq!((rows.len(), rows[1][0], rows[1][1], rows[2][0], rows[2][1]), (3, "1", "40", "2", "80"));
    let config = config(&out);
    assert_eq!((&config["arch"], &config["classes"]), (&"resnet8-cifar-w8".into(), &10.into()));
    let report = fs::read_to_string(fixture.path("out/report.html")).unwrap();
    assert!(report.contains("<svg") && report.contains("resnet8-cifar-w8 on synthetic"));
    let names = names(&out);
    assert_eq!(names.iter().filter(|n| n.starts_with("events.out.tfevents.")).count(), 1, "{names:?}");
    assert_eq!(names.len(), 7, "{names:?}");
    assert!(names.contains(&".lock".to_owned()), "{names:?}");

    let weights = fixture.arg("out/model.safetensors");
    let object = json(&["eval", "--weights", &weights, "--data-path", "synthetic", "--json"]);
    assert_eq!(object["images"].as_u64(), Some(1000));
    let claimed: f64 = rows[2][6].parse().unwrap();
    assert!((100.0 * object["top1"].as_f64().unwrap() - claimed).abs() < 1e-6, "{object} for {claimed}");
    assert!(claimed > 20.0, "ten classes, {claimed}% right");
}

#[test]
fn a_mean_for_every_pixel_travels_with_the_weights() {
    let fixture = Fixture::new();
    let out = fixture.arg("out");
    train(&out, &["--pixel-mean"]);
    let metrics = fs::read_to_string(fixture.path("out/metrics.csv")).unwrap();
    let claimed: f64 = metrics.lines().last().unwrap().split(',').nth(6).unwrap().parse().unwrap();
    let weights = fixture.arg("out/model.safetensors");
    let object = json(&["inspect", "--weights", &weights, "--json"]);
    let means = object["metadata"]["mean_picture"].as_str().unwrap();
    assert_eq!(means.split(',').count(), 8 * 8 * 3);
    let object = json(&["eval", "--weights", &weights, "--data-path", "synthetic", "--json"]);
    assert!((100.0 * object["top1"].as_f64().unwrap() - claimed).abs() < 1e-6, "{object} for {claimed}");
    let rsd = fixture.arg("net.rsd");
    let (_, error) = fail(&["quantize", "--weights", &weights, "--data-path", "synthetic", "-o", &rsd]);
    assert!(error.contains("a mean for every pixel is subtracted"), "{error}");
}

#[test]
fn threads_do_not_change_a_byte() {
    let fixture = Fixture::new();
    let (one, two) = (fixture.arg("one"), fixture.arg("two"));
    train(&one, &["--max-steps", "50", "--workers", "1"]);
    train(&two, &["--max-steps", "50", "--workers", "3", "--threads", "2"]);
    for file in ["checkpoint", "model.safetensors"] {
        assert!(fs::read(fixture.path("one").join(file)).unwrap() == fs::read(fixture.path("two").join(file)).unwrap());
    }
}

fn start(out: &str, more: &[&str]) -> Child {
    let arguments = arguments(out, more);
    let mut command = residual(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Waits until there is a checkpoint.
fn wait_for(path: &Path) {
    let begin = Instant::now();
    while !path.exists() {
        assert!(begin.elapsed() < Duration::from_secs(120), "no {}", path.display());
        thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn a_run_killed_while_it_writes_goes_on_from_the_checkpoint_before() {
    let fixture = Fixture::new();
    let (whole, broken) = (fixture.arg("whole"), fixture.arg("broken"));
    train(&whole, &["--max-steps", "60"]);
    // A checkpoint at every step: most of the time is spent writing them.
    let mut child = start(&broken, &["--save-seconds", "0", "--max-steps", "60"]);
    wait_for(&fixture.path("broken/checkpoint"));
    for pause in [1, 13, 29] {
        thread::sleep(Duration::from_millis(pause));
        child.kill().unwrap();
        child.wait().unwrap();
        let resume = ["--resume", &broken, "--save-seconds", "0", "--max-steps", "60"];
        child = start(&broken, &resume);
        thread::sleep(Duration::from_millis(200));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    // Only what the checkpoint says, on more threads.
    succeed(&["train", "--resume", &broken, "--data-path", "synthetic", "--max-steps", "60", "--threads", "2"]);
    for file in ["checkpoint", "model.safetensors"] {
        let read = |run: &str| fs::read(fixture.path(run).join(file)).unwrap();
        assert!(read("whole") == read("broken"), "{file}");
    }
    let steps = |run: &str| -> Vec<String> {
        let text = fs::read_to_string(fixture.path(run).join("metrics.csv")).unwrap();
        // All but the speed.
        text.lines().map(|line| line.rsplit_once(',').unwrap().0.to_owned()).collect()
    };
    assert_eq!(steps("whole"), steps("broken"));
}

#[cfg(unix)]
#[test]
fn an_interrupted_run_saves_where_it_is() {
    let fixture = Fixture::new();
    let out = fixture.arg("out");
    let child = start(&out, &["--save-seconds", "0", "--epochs", "1000"]);
    wait_for(&fixture.path("out/checkpoint"));
    let pid = child.id().to_string();
    assert!(std::process::Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(130), "{text}");
    let text = text.lines().last().unwrap();
    assert!(text.starts_with("error: interrupted at step ") && text.contains("--resume"), "{text}");
    let step: u64 = text.split(' ').nth(4).unwrap().trim_end_matches(';').parse().unwrap();
    let more = (step + 3).to_string();
    let args = ["train", "--resume", &out, "--data-path", "synthetic", "--max-steps", &more, "--json"];
    assert_eq!(json(&args)["step"].as_u64(), Some(step + 3));
}

#[cfg(unix)]
#[test]
fn a_full_disk_loses_no_checkpoint() {
    let fixture = Fixture::new();
    let out = fixture.arg("out");
    train(&out, &["--max-steps", "3"]);
    let good = fs::read(fixture.path("out/checkpoint")).unwrap();
    // Files may not grow past 32 kB, and the process is told so by an error, as on a full disk.
    let script = "trap '' XFSZ; ulimit -f 64; exec \"$@\"";
    let mut command = std::process::Command::new("sh");
    command.args(["-c", script, "sh", env!("CARGO_BIN_EXE_residual")]);
    command.args(["train", "--resume", &out, "--data-path", "synthetic", "--max-steps", "5"]);
    let (_, text) = common::check_failure(&["a full disk"], &mut command);
    assert!(text.contains(&out) && text.contains("too large"), "{text}");
    assert!(fs::read(fixture.path("out/checkpoint")).unwrap() == good);
    assert!(!names(&out).iter().any(|name| name.ends_with(".tmp")));
}

#[test]
fn bad_settings_and_data_are_refused_by_name() {
    let fixture = Fixture::new();
    let out = fixture.arg("out");
    for (flags, says) in [
        (["--lr", "-1"], "--lr -1: must be a positive number"),
        (["--epochs", "0"], "--epochs 0: must be at least 1"),
        (["--batch-size", "0"], "--batch-size"),
        (["--accumulate", "0"], "--accumulate"),
        (["--lr-step-size", "0"], "--lr-step-size"),
        (["--train-crop-size", "0"], "--train-crop-size"),
        (["--max-steps", "0"], "--max-steps"),
        (["--holdout", "1.5"], "--holdout"),
        (["--holdout", "-1"], "-1"),
        (["--lr-gamma", "NaN"], "--lr-gamma NaN: must be a positive number"),
        (["--momentum", "1"], "--momentum 1: must be at least 0 and below 1"),
        (["--weight-decay", "-1"], "--weight-decay -1: must be a number not below 0"),
        (["--lr-peak", "2"], "--lr-peak 2: must lie between 0 and 1"),
        (["--label-smoothing", "inf"], "--label-smoothing inf"),
        (["--max-steps", "x"], "--max-steps"),
    ] {
        let arguments = arguments(&out, &flags);
        let (code, text) = fail(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
        assert!(code == 2 && text.contains(says), "{flags:?}: {code} {text}");
    }
    for flags in [
        ["--no-validation", "--holdout", "0.1"],
        ["--no-validation", "--lr-scheduler", "plateau"],
        ["--overwrite", "--seed", "x"],
    ] {
        let arguments = arguments(&out, &flags);
        assert_eq!(fail(&arguments.iter().map(String::as_str).collect::<Vec<_>>()).0, 2, "{flags:?}");
    }
    let text = refused(&out, &["--holdout", "5000"]);
    assert!(text.contains("has 5000 training pictures, of which every class keeps one, 5010 needed"), "{text}");
    let run = |data: &str, flags: &[&str]| refused(&out, &[&["--data-path", data], flags].concat());
    assert!(run("synthetic", &["--lr", "NaN"]).contains("--lr NaN: must be a positive number"));
    assert!(run("synthetic", &["--lr-scheduler", "linear"]).contains("--lr-scheduler linear: is none of constant"));
    let text = run("synthetic", &["--batch-size", "5001"]);
    assert!(text.contains("synthetic: the data set has 5000 training pictures for a batch, 5001 needed"), "{text}");
    assert!(run(&fixture.arg("absent"), &[]).contains("absent: no such folder"));

    fixture.tree("one/train", 1, 9);
    fixture.tree("one/test", 1, 3);
    let text = run(&fixture.arg("one"), &["--batch-size", "4"]);
    assert!(text.contains("one: the data set has 1 classes, 2 needed"), "{text}");

    fixture.tree("broken/train", 3, 9);
    fixture.tree("broken/test", 3, 3);
    fixture.write("broken/train/bird/5.png", b"no picture");
    let text = run(&fixture.arg("broken"), &["--batch-size", "4"]);
    assert!(text.contains("5.png") && text.contains("--skip-unreadable goes on without it"), "{text}");
}

#[test]
fn pictures_that_cannot_be_read_are_left_out_if_asked() {
    let fixture = Fixture::new();
    let (data, out) = (fixture.tree("data/train", 3, 9), fixture.arg("out"));
    fixture.tree("data/test", 3, 3);
    let broken = fixture.write("data/train/bird/5.png", b"no picture");
    let data = data.strip_suffix("/train").unwrap();
    let run = |flags: &[&str]| {
        let args = ["train", "--data-path", data, "--max-steps", "2", "--batch-size", "4", "--skip-unreadable"];
        residual(&[&args, flags].concat()).output().unwrap()
    };
    let output = run(&["--arch", "resnet8-cifar-w8", "--output-dir", &out]);
    let notes = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && notes.contains(": 26 training pictures in"), "{notes}");
    assert!(notes.contains(&format!("skipped {broken}: ")), "{notes}");
    // The run goes on with the same pictures, and with no others.
    assert!(run(&["--resume", &out]).status.success());
    let refused = |says: &str| {
        let output = run(&["--resume", &out]);
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && text.contains(says), "{text}");
    };
    fs::copy(fixture.path("data/train/bird/0.png"), &broken).unwrap();
    refused("pictures");
    for picture in fs::read_dir(fixture.path("data/train/bird")).unwrap().flatten() {
        fs::write(picture.path(), "").unwrap();
    }
    refused("data: the data set has 2 classes with readable pictures, 3 needed");
}

#[test]
fn checkpoints_of_other_runs_and_broken_ones_are_refused() {
    let fixture = Fixture::new();
    let out = fixture.arg("out");
    train(&out, &["--max-steps", "2"]);
    let path = fixture.path("out/checkpoint");
    let resume = |flags: &[&str]| {
        let mut args = vec!["train", "--resume", &out, "--data-path", "synthetic", "--max-steps", "3"];
        args.extend(flags);
        fail(&args).1
    };
    let text = resume(&["--arch", "resnet14-cifar-w8"]);
    let says = "is of a run with arch \"resnet8-cifar-w8\", this one has \"resnet14-cifar-w8\"";
    assert!(text.contains(path.to_str().unwrap()) && text.contains(says), "{text}");
    assert!(resume(&["--lr", "0.1"]).contains("is of a run with lr 0.2, this one has 0.1"));
    assert!(resume(&["--epochs", "1"]).contains("is of a run with epochs 2, this one has 1"));
    assert!(resume(&["--holdout", "0.1"]).contains("is of a run with holdout 0.0, this one has 0.1"));
    let good = fs::read(&path).unwrap();
    for length in [0, 5, 200, good.len() / 2, good.len() - 1] {
        fs::write(&path, &good[..length]).unwrap();
        assert!(resume(&[]).contains(path.to_str().unwrap()));
    }
    fs::write(&path, fs::read(fixture.path("out/model.safetensors")).unwrap()).unwrap();
    assert!(resume(&[]).contains("is no checkpoint: no `residual_checkpoint` in it"));
    let absent = fixture.arg("absent");
    assert!(fail(&["train", "--resume", &absent, "--data-path", "synthetic"]).1.contains("absent/checkpoint"));
}

#[test]
fn a_folder_that_holds_a_run_is_written_over_only_when_asked() {
    let fixture = Fixture::new();
    let out = fixture.arg("out");
    train(&out, &["--max-steps", "41"]);
    let (checkpoint, metrics) = (fixture.path("out/checkpoint"), fixture.path("out/metrics.csv"));
    let (first, rows) = (fs::read(&checkpoint).unwrap(), fs::read(&metrics).unwrap());
    let text = refused(&out, &["--max-steps", "1"]);
    assert!(
        text.contains("holds a run already") && text.contains("--resume") && text.contains("--overwrite"),
        "{text}"
    );
    assert!(fs::read(&checkpoint).unwrap() == first && fs::read(&metrics).unwrap() == rows);
    // Nor by a run that cannot begin.
    refused(&out, &["--overwrite", "--data-path", &fixture.arg("absent")]);
    assert!(fs::read(&checkpoint).unwrap() == first && fs::read(&metrics).unwrap() == rows);

    fixture.write("out/.residual-Ab12.tmp", b"half a checkpoint");
    train(&out, &["--overwrite", "--max-steps", "1"]);
    assert!(fs::read(fixture.path("out/checkpoint.old")).unwrap() == first);
    assert_eq!(fs::read_to_string(&metrics).unwrap().lines().count(), 2);
    let names = names(&out);
    assert_eq!(names.iter().filter(|n| n.starts_with("events.")).count(), 1, "{names:?}");
    assert!(!names.iter().any(|n| n.ends_with(".tmp")), "{names:?}");
}

#[test]
fn two_runs_in_one_folder_are_refused_until_the_first_is_gone() {
    let fixture = Fixture::new();
    let out = fixture.arg("out");
    let mut child = start(&out, &["--save-seconds", "0", "--epochs", "1000"]);
    wait_for(&fixture.path("out/checkpoint"));
    let resume = ["train", "--resume", &out, "--data-path", "synthetic", "--max-steps", "3000"];
    let both = ["train", "--resume", &out, "--output-dir", &out, "--overwrite", "--data-path", "synthetic"];
    assert_eq!(fail(&both).0, 2);
    for text in [refused(&out, &[]), refused(&out, &["--overwrite"]), fail(&resume).1] {
        assert!(text.contains("another run is at work in this folder"), "{text}");
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(refused(&out, &[]).contains("holds a run already"));
    said(&["train", "--resume", &out, "--data-path", "synthetic", "--max-steps", "1"]);
}

#[test]
fn a_finished_run_says_so_and_can_be_made_longer() {
    let fixture = Fixture::new();
    let out = fixture.arg("out");
    train(&out, &["--epochs", "1"]);
    let text = said(&["train", "--resume", &out, "--data-path", "synthetic"]);
    assert!(text.contains("is finished (1 epochs): more --epochs make it longer"), "{text}");
    let text = said(&["train", "--resume", &out, "--data-path", "synthetic", "--epochs", "2", "--max-steps", "45"]);
    assert!(text.contains("2 epochs instead of 1: the learning rate's course, one-cycle, is from here on"), "{text}");
    let config = fs::read_to_string(fixture.path("out/config.json")).unwrap();
    assert!(config.contains("\"epochs\": 2"), "{config}");
    said(&["train", "--resume", &out, "--data-path", "synthetic"]);
    let metrics = fs::read_to_string(fixture.path("out/metrics.csv")).unwrap();
    let steps: Vec<_> = metrics.lines().skip(1).map(|l| l.split(',').nth(1).unwrap()).collect();
    assert_eq!(steps, ["40", "80"]);
}
