//! Public weights on real photographs: the accuracy PyTorch gets. The shipped model: the accuracy it claims.

mod common;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::LazyLock,
};

use common::json;

/// CIFAR-10 as the reference data unpacks it, once for all tests, or why not.
fn data() -> Result<&'static Path, &'static str> {
    static DATA: LazyLock<Result<PathBuf, String>> = LazyLock::new(unpack);
    DATA.as_deref().map_err(String::as_str)
}

fn unpack() -> Result<PathBuf, String> {
    let archive = common::shared().join("data");
    let script = archive.join("unpack.sh");
    if !script.exists() {
        return Err(format!("no {}", script.display()));
    }
    let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("cifar");
    if !dir.exists() {
        let part = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).map_err(|e| e.to_string())?;
        let output = Command::new("bash").arg(&script).arg(part.path()).output().map_err(|e| e.to_string())?;
        if !output.status.success() {
            let message = String::from_utf8_lossy(&output.stderr);
            return Err(format!("{}: {}", script.display(), message.lines().last().unwrap_or("failed")));
        }
        fs::rename(part.keep(), &dir).map_err(|e| e.to_string())?;
    }
    Ok(dir)
}

#[test]
fn public_weights_reach_their_accuracy() {
    let dir = match data() {
        Ok(dir) => dir,
        Err(reason) => {
            println!("skipped: accuracy of public weights: {reason}");
            return;
        }
    };
    let weights = common::shared().join("data/weights");
    for (file, arch, data, expected, tolerance) in [
        ("resnet20-12fca82f.th", "resnet20-cifar-Ac", "cifar-10-batches-bin", 81.03, 0.02),
        ("resnet32-d509ac18.th", "resnet32-cifar-Ac", "cifar-10-batches-bin", 82.56, 0.02),
        // JPEG decoders differ.
        ("resnet20-12fca82f.th", "resnet20-cifar-Ac", "cifarjpg", 81.03, 0.15),
    ] {
        let (weights, data) = (weights.join(file), dir.join(data));
        let mut args = vec!["eval", "--arch", arch, "--json"];
        args.extend(["--weights", weights.to_str().unwrap(), "--data-path", data.to_str().unwrap()]);
        args.extend(["--mean", "0.485,0.456,0.406", "--std", "0.229,0.224,0.225"]);
        let object = json(&args);
        assert_eq!(object["images"].as_u64(), Some(10_000));
        let top1 = 100.0 * object["top1"].as_f64().unwrap();
        println!("{file} on {}: top-1 {top1:.2}, {expected} +- {tolerance} expected", data.display());
        assert!((top1 - expected).abs() <= tolerance + 1e-9, "{file}: {top1}, expected {expected} +- {tolerance}");
    }
}

/// `models/resnet20-cifar10.safetensors`, where it was put.
fn shipped() -> Option<PathBuf> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/resnet20-cifar10.safetensors");
    if !file.exists() {
        println!("skipped: the shipped model: no {}", file.display());
        return None;
    }
    Some(file)
}

#[test]
fn the_shipped_model_answers_with_no_flag() {
    let Some(shipped) = shipped() else { return };
    let folder = tempfile::tempdir().unwrap();
    let picture = folder.path().join("photo.png");
    image::RgbImage::from_fn(64, 48, |x, y| image::Rgb([x as u8, y as u8, 90])).save(&picture).unwrap();
    // In the checkout, and wherever its program is called.
    for place in [Path::new(env!("CARGO_MANIFEST_DIR")), folder.path()] {
        let mut command = common::residual(&["predict", "--json", picture.to_str().unwrap()]);
        let output = command.current_dir(place).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let object: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(object["arch"], "resnet20-cifar");
        let best = object["predictions"][0]["classes"][0]["name"].as_str().unwrap();
        assert!(common::CLASSES.contains(&best), "{best}");
    }
    let file = residual::weights::WeightFile::open(&shipped).unwrap();
    for key in ["recipe", "seed", "accuracy", "data", "class_names", "mean", "std", "license", "source"] {
        assert!(file.metadata().contains_key(key), "{key}");
    }
}

#[test]
fn the_shipped_model_is_as_accurate_as_it_says() {
    let Some(shipped) = shipped() else { return };
    let file = residual::weights::WeightFile::open(&shipped).unwrap();
    let claimed: f64 = file.metadata()["accuracy"].parse().unwrap();
    let dir = match data() {
        Ok(dir) => dir,
        Err(reason) => {
            println!("skipped: accuracy of the shipped model: {reason}");
            return;
        }
    };
    let (weights, data) = (shipped, dir.join("cifar-10-batches-bin"));
    let object =
        json(&["eval", "--json", "--weights", weights.to_str().unwrap(), "--data-path", data.to_str().unwrap()]);
    assert_eq!(object["images"].as_u64(), Some(10_000));
    let top1 = 100.0 * object["top1"].as_f64().unwrap();
    println!("{} on {}: top-1 {top1:.2}, {claimed} claimed", weights.display(), data.display());
    assert!((top1 - claimed).abs() <= 0.02 + 1e-9, "{top1}, {claimed} claimed");
}

#[test]
fn quantized_public_weights_stay_close() {
    let dir = match data() {
        Ok(dir) => dir,
        Err(reason) => {
            println!("skipped: accuracy in int8: {reason}");
            return;
        }
    };
    let weights = common::shared().join("data/weights/resnet20-12fca82f.th");
    let data = dir.join("cifar-10-batches-bin");
    let net = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("resnet20.rsd");
    let (net, data) = (net.to_str().unwrap(), data.to_str().unwrap());
    let mut args = vec!["quantize", "--arch", "resnet20-cifar-Ac", "--json", "-o", net, "--data-path", data];
    args.extend(["--weights", weights.to_str().unwrap()]);
    args.extend(["--mean", "0.485,0.456,0.406", "--std", "0.229,0.224,0.225"]);
    json(&args);
    let object = json(&["eval", "--weights", net, "--data-path", data, "--json"]);
    let top1 = 100.0 * object["top1"].as_f64().unwrap();
    println!("resnet20 in int8: top-1 {top1:.2}, at least 80.73 expected");
    assert!(object["images"].as_u64() == Some(10_000) && top1 >= 80.73, "{top1}");
}

/// MLPerf Tiny's int8 ResNet-8: what LiteRT's reference kernels get on the same bytes.
#[test]
fn a_foreign_tflite_file_reaches_its_accuracy() {
    let model = common::shared().join("data/tflite/mlperf_tiny_resnet8_int8.tflite");
    let dir = match data() {
        Ok(dir) if model.exists() => dir,
        Ok(_) => return println!("skipped: accuracy of a foreign .tflite file: no {}", model.display()),
        Err(reason) => return println!("skipped: accuracy of a foreign .tflite file: {reason}"),
    };
    let data = dir.join("cifar-10-batches-bin");
    let args = ["eval", "--weights", model.to_str().unwrap(), "--data-path", data.to_str().unwrap(), "--json"];
    let top1 = 100.0 * json(&args)["top1"].as_f64().unwrap();
    assert!((top1 - 75.55).abs() < 1e-9, "{top1}");
}
