//! Every command, as a user calls it.

mod common;

use common::{ARCH, Fixture, json, succeed};

#[test]
fn inspect_knows_a_network_by_its_name() {
    let object = json(&["inspect", "--arch", "resnet50", "--json", "--threads", "1"]);
    assert_eq!((object["params"].as_u64(), object["macs"].as_u64()), (Some(25_557_032), Some(4_089_184_256)));
    let layers = object["layers"].as_array().unwrap();
    assert_eq!(layers.iter().map(|l| l["params"].as_u64().unwrap()).sum::<u64>(), 25_557_032);
    assert_eq!(layers.iter().map(|l| l["macs"].as_u64().unwrap()).sum::<u64>(), 4_089_184_256);
    let arena = object["arena_bytes"].as_u64().unwrap();
    let end = layers.iter().map(|l| l["offset_bytes"].as_u64().unwrap() + l["bytes"].as_u64().unwrap()).max();
    assert_eq!(end, Some(arena));

    let table = succeed(&["inspect", "--arch", "resnet50"]);
    assert!(table.contains("layer4.2.conv3") && table.contains("25 557 032"), "{table}");
}

#[test]
fn inspect_shows_what_a_weights_file_says() {
    let fixture = Fixture::new();
    let weights = fixture.weights("w.safetensors", ARCH);
    let object = json(&["inspect", "--weights", &weights, "--batch", "3", "--json"]);
    assert_eq!(object["arch"], ARCH);
    assert_eq!((&object["format"], &object["metadata"]["std"]), (&"safetensors".into(), &"0.25,0.25,0.25".into()));
    let one = json(&["inspect", "--arch", ARCH, "--json"]);
    assert_eq!(object["arena_bytes"].as_u64().unwrap(), 3 * one["arena_bytes"].as_u64().unwrap());
    assert!(succeed(&["inspect", "--weights", &weights]).contains("architecture = resnet8-cifar"));
}

#[test]
fn predict_lists_the_most_probable_classes() {
    let fixture = Fixture::new();
    let weights = fixture.weights("w.safetensors", ARCH);
    let first = fixture.picture("photo.png", 50, 40, 1);
    fixture.picture("more/a.jpg", 64, 64, 2);
    fixture.picture("more/deeper/b.png", 32, 32, 3);
    let object = json(&["predict", "--weights", &weights, "--top-k", "3", "--json", &first, &fixture.arg("more")]);
    let predictions = object["predictions"].as_array().unwrap();
    assert_eq!(predictions.len(), 3);
    assert_eq!(predictions[0]["image"], first);
    for prediction in predictions {
        let p: Vec<f64> =
            prediction["classes"].as_array().unwrap().iter().map(|c| c["probability"].as_f64().unwrap()).collect();
        assert!(p.len() == 3 && p[0] >= p[1] && p[1] >= p[2] && p[2] > 0.0 && p.iter().sum::<f64>() <= 1.0 + 1e-6);
    }
    let best = &predictions[0]["classes"][0];
    assert_eq!(best["name"], common::CLASSES[best["class"].as_u64().unwrap() as usize]);

    let names = fixture.write("names.txt", "n0\nn1\nn2\nn3\nn4\nn5\nn6\nn7\nn8\nn9\n".as_bytes());
    let text = succeed(&["predict", "--weights", &weights, "--class-names", &names, &first]);
    assert!(text.lines().count() == 6 && text.contains("%  n"), "{text}");
}

#[test]
fn a_picture_comes_from_standard_input() {
    use std::process::{Output, Stdio};
    let fixture = Fixture::new();
    let (weights, picture) = (fixture.weights("w.safetensors", ARCH), fixture.picture("photo.png", 50, 40, 1));
    let predict = |picture: &str, input: &str| -> Output {
        let mut command = common::residual(&["predict", "--weights", &weights, "--json", picture]);
        let input = std::fs::File::open(fixture.path(input)).unwrap();
        command.stdin(Stdio::from(input)).output().unwrap()
    };
    let classes = |output: Output| -> serde_json::Value {
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap()["predictions"][0].clone()
    };
    let (piped, opened) = (classes(predict("-", "photo.png")), classes(predict(&picture, "photo.png")));
    assert_eq!((&piped["image"], &piped["classes"]), (&"-".into(), &opened["classes"]));

    fixture.write("text", b"no picture");
    let output = predict("-", "text");
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && error.starts_with("error: standard input: not a picture"), "{error}");
    let (_, error) = common::fail(&["predict", "--weights", &weights, "-", "-"]);
    assert!(error.contains("standard input holds one picture"), "{error}");
}

#[test]
fn a_broken_picture_is_skipped_only_when_asked() {
    let fixture = Fixture::new();
    let weights = fixture.weights("w.safetensors", ARCH);
    fixture.picture("all/1.png", 32, 32, 1);
    fixture.write("all/2.png", b"no picture");
    fixture.picture("all/3.png", 32, 32, 3);
    let object = json(&["predict", "--weights", &weights, "--skip-unreadable", "--json", &fixture.arg("all")]);
    assert_eq!((object["predictions"].as_array().unwrap().len(), object["unreadable"].as_u64()), (2, Some(1)));
}

#[test]
fn eval_is_the_same_for_every_thread_count_and_batch() {
    let fixture = Fixture::new();
    let weights = fixture.weights("w.safetensors", ARCH);
    let (tree, cifar) = (fixture.tree("tree", 10, 3), fixture.cifar("cifar", 57));
    for (data, images) in [(&tree, 30), (&cifar, 57)] {
        let run = |threads: &str, batch: &str| {
            let mut args = vec!["eval", "--weights", &weights, "--data-path", data, "--json"];
            args.extend(["--threads", threads, "--batch-size", batch]);
            json(&args)
        };
        let one = run("1", "1");
        assert_eq!((one["images"].as_u64(), one["unreadable"].as_u64()), (Some(images), Some(0)));
        assert!(one["images_per_second"].as_f64().unwrap() > 0.0);
        let (top1, top5) = (one["top1"].as_f64().unwrap(), one["top5"].as_f64().unwrap());
        assert_eq!(one["matched_by"], if data == &tree { "name" } else { "index" });
        assert!(0.0 < top5 && (0.0..=1.0).contains(&top1) && top1 <= top5 && top5 <= 1.0);
        for (threads, batch) in [("1", "8"), ("2", "1"), ("3", "5"), ("64", "64")] {
            let other = run(threads, batch);
            assert_eq!(other["classes"], one["classes"], "{threads} threads, batch {batch}");
        }
    }
}

#[test]
fn eval_counts_what_it_skips() {
    let fixture = Fixture::new();
    let weights = fixture.weights("w.safetensors", ARCH);
    let tree = fixture.tree("tree", 10, 2);
    fixture.write("tree/cat/0.png", b"no picture");
    let object = json(&["eval", "--weights", &weights, "--data-path", &tree, "--skip-unreadable", "--json"]);
    assert_eq!((object["images"].as_u64(), object["unreadable"].as_u64()), (Some(19), Some(1)));
    let text = succeed(&["eval", "--weights", &weights, "--data-path", &tree, "--skip-unreadable"]);
    assert!(text.contains("19 pictures; 1 could not be read"), "{text}");
}

#[test]
fn eval_matches_classes_by_name() {
    let fixture = Fixture::new();
    let weights = fixture.weights("w.safetensors", ARCH);
    let (all, some) = (fixture.tree("all", 10, 2), fixture.tree("some", 10, 2));
    for class in ["airplane", "bird", "dog"] {
        std::fs::remove_dir_all(fixture.path("some").join(class)).unwrap();
    }
    let run = |data: &str| json(&["eval", "--weights", &weights, "--data-path", data, "--json"]);
    let (all, some) = (run(&all), run(&some));
    let of = |object: &serde_json::Value, class: &str| {
        object["classes"].as_array().unwrap().iter().find(|c| c["name"] == class).unwrap().clone()
    };
    assert_eq!(some["images"].as_u64(), Some(14));
    for class in ["automobile", "cat", "truck"] {
        assert_eq!(of(&some, class), of(&all, class));
    }
}

#[test]
fn eval_matches_classes_by_number_where_asked_or_where_there_are_no_names() {
    let fixture = Fixture::new();
    let (named, bare) = (fixture.weights("named", ARCH), fixture.bare_weights("bare", ARCH));
    let tree = fixture.tree("tree", 10, 2);
    let sorted = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"];
    for (class, other) in common::CLASSES.iter().zip(sorted) {
        std::fs::rename(fixture.path("tree").join(class), fixture.path("tree").join(other)).unwrap();
    }
    let known = ["--arch", ARCH, "--mean", "0.5,0.5,0.5", "--std", "0.25,0.25,0.25"];
    let of =
        |weights: &str| ["eval".into(), "--data-path".into(), tree.clone(), "--weights".into(), weights.to_owned()];
    let run = |weights: &str, more: &[&str]| {
        let args = of(weights);
        let args: Vec<&str> = args.iter().map(String::as_str).chain(more.iter().copied()).collect();
        let output = common::residual(&args).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let notes = String::from_utf8(output.stderr).unwrap();
        (serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap(), notes)
    };
    let (asked, notes) = run(&named, &["--match-classes", "index", "--json"]);
    assert_eq!((asked["matched_by"].as_str(), asked["images"].as_u64(), &*notes), (Some("index"), Some(20), ""));
    let (nameless, notes) = run(&bare, &[&known[..], &["--json"]].concat());
    assert_eq!((&nameless["matched_by"], &nameless["classes"]), (&asked["matched_by"], &asked["classes"]));
    assert!(notes.contains(&bare) && notes.contains("matched by number"), "{notes}");
    let names = fixture.write("names.txt", sorted.join("\n").as_bytes());
    let (given, _) = run(&named, &["--class-names", &names, "--json"]);
    assert_eq!((given["matched_by"].as_str(), &given["classes"]), (Some("name"), &asked["classes"]));
}

#[test]
fn converted_weights_need_no_other_argument_and_answer_alike() {
    let fixture = Fixture::new();
    let bare = fixture.bare_weights("bare.safetensors", ARCH);
    let (plain, folded) = (fixture.arg("plain.safetensors"), fixture.arg("folded.safetensors"));
    let known = ["--arch", ARCH, "--mean", "0.4,0.5,0.6", "--std", "0.2,0.25,0.3"];
    let convert = |output: &str, more: &[&str]| {
        let from = ["convert", "--weights", &bare, "-o", output, "--license", "MIT"];
        succeed(&[&from, &known[..], more].concat());
    };
    convert(&plain, &[]);
    convert(&folded, &["--fold"]);
    let cifar = fixture.cifar("cifar", 40);
    let eval = |weights: &str, more: &[&str]| {
        json(&[&["eval", "--weights", weights, "--data-path", &cifar, "--json"], more].concat())["classes"].clone()
    };
    let expected = eval(&bare, &known);
    assert_eq!(eval(&plain, &[]), expected);
    assert_eq!(eval(&folded, &[]), expected);
    let metadata = &json(&["inspect", "--weights", &folded, "--json"])["metadata"];
    assert_eq!((&metadata["folded"], &metadata["license"]), (&"true".into(), &"MIT".into()));

    // Converting again keeps what the file says; its class names may be given later.
    let again = fixture.arg("again.safetensors");
    let names = fixture.write("names.txt", common::CLASSES.join("\n").as_bytes());
    succeed(&["convert", "--weights", &folded, "-o", &again, "--class-names", &names]);
    let metadata = &json(&["inspect", "--weights", &again, "--json"])["metadata"];
    assert_eq!((&metadata["license"], &metadata["mean"]), (&"MIT".into(), &"0.4,0.5,0.6".into()));
    assert!(metadata["class_names"].as_str().unwrap().contains("airplane"));
}

#[test]
fn bench_reports_latency_and_layers() {
    let args = ["bench", "--arch", ARCH, "--batch", "2", "--threads", "2", "--seconds", "0.05", "--json"];
    let object = json(&args);
    for key in ["median_ms", "min_ms", "p90_ms", "p99_ms", "gflops", "arena_bytes"] {
        assert!(object[key].as_f64().unwrap() > 0.0, "{key}: {object}");
    }
    assert!(object["min_ms"].as_f64() <= object["median_ms"].as_f64());
    assert_eq!((object["batch"].as_u64(), object["threads"].as_u64()), (Some(2), Some(2)));
    assert!(residual::Isa::available().any(|isa| isa.name() == object["isa"]));

    let object = json(&[&args[..], &["--profile"]].concat());
    let layers = object["layers"].as_array().unwrap();
    assert_eq!(layers[0]["name"], "conv1");
    let sum: f64 = layers.iter().map(|l| l["ms"].as_f64().unwrap()).sum();
    assert!(sum > 0.0 && layers.iter().all(|l| l["kernel"].is_string()));
    assert!(layers[0]["share_of_peak"].as_f64().unwrap() > 0.0 && object["peak_gflops"].as_f64().unwrap() > 0.0);
    assert!(layers[0]["limit_ms"].as_f64().unwrap() > 0.0 && object["read_gbs"].is_null());

    let object = json(&["bench", "--peak", "--threads", "1", "--json"]);
    assert!(object["read_gbs"].as_f64().unwrap() > 0.0);
    for isa in residual::Isa::available() {
        for key in ["fma_gflops", "int8_gmacs", "int16_gmacs"] {
            assert!(object[key][isa.name()].as_f64().unwrap() > 0.0, "{key}: {object}");
        }
    }
}

#[test]
fn a_tuned_plan_is_used_and_fits_its_network_only() {
    let fixture = Fixture::new();
    let file = fixture.arg("plan.json");
    let tune = ["tune", "--arch", ARCH, "--threads", "1", "--seconds", "0.01", "--json", "-o", &file];
    let tuned = json(&tune);
    let shapes = tuned["shapes"].as_array().unwrap();
    assert!(shapes.iter().all(|shape| !shape["candidates"].as_array().unwrap().is_empty()));
    assert!(shapes.iter().any(|shape| shape["candidates"].as_array().unwrap().len() >= 2));
    let plan: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();

    // A plan that says otherwise than the planner shows that it is used.
    let profile = ["bench", "--arch", ARCH, "--seconds", "0.01", "--threads", "1", "--profile", "--json"];
    let kernel_of = |arguments: &[&str]| {
        let object = json(&[&profile[..], arguments].concat());
        let layers = object["layers"].as_array().unwrap().clone();
        layers.into_iter().map(|l| (l["name"].as_str().unwrap().to_owned(), l["kernel"].clone())).collect::<Vec<_>>()
    };
    let direct = kernel_of(&["--no-winograd"]);
    assert!(direct.iter().all(|(_, kernel)| !kernel.as_str().unwrap().starts_with("winograd")));
    let mut forced = plan.clone();
    for (layer, kernel) in &direct {
        if plan["kernels"][layer].is_string() {
            forced["kernels"][layer] = kernel.clone();
        }
    }
    fixture.write("direct.json", forced.to_string().as_bytes());
    assert_eq!(kernel_of(&["--plan", &fixture.arg("direct.json")]), direct);

    let weights = fixture.weights("w.safetensors", ARCH);
    let picture = fixture.picture("photo.png", 40, 40, 1);
    let predict = ["predict", "--weights", &weights, "--json", &picture];
    let with = json(&[&predict[..], &["--plan", &file]].concat());
    assert_eq!(with["predictions"][0]["classes"][0]["class"], json(&predict)["predictions"][0]["classes"][0]["class"]);

    let refused = |arguments: &[&str]| common::fail(arguments).1;
    let error = refused(&["bench", "--arch", "resnet20-cifar", "--plan", &file]);
    assert!(error.contains("plan.json: made for arch") && error.contains("not \"resnet20-cifar\""), "{error}");
    let error = refused(&["bench", "--arch", ARCH, "--batch", "2", "--plan", &file]);
    assert!(error.contains("made for batch 1, not 2"), "{error}");
    forced["kernels"]["conv1"] = "im2col".into();
    fixture.write("unknown.json", forced.to_string().as_bytes());
    let error = refused(&["bench", "--arch", ARCH, "--plan", &fixture.arg("unknown.json")]);
    assert!(error.contains("layer `conv1`: the kernel asked for is unknown"), "{error}");
}

#[test]
fn bench_measures_the_cold_start() {
    let object = json(&["bench", "--arch", ARCH, "--cold", "--threads", "1", "--json"]);
    for key in ["cold_start_ms", "binary_bytes", "arena_bytes", "weights_bytes"] {
        assert!(object[key].as_f64().unwrap() > 0.0, "{key}: {object}");
    }
    let linux = cfg!(target_os = "linux");
    assert_eq!(object["peak_rss_bytes"].as_u64().is_some_and(|n| n > 1_000_000), linux);
}

#[test]
fn every_instruction_set_can_be_forced() {
    for isa in residual::Isa::available() {
        let args = ["bench", "--arch", ARCH, "--seconds", "0.01", "--json"];
        let output = common::residual(&args).env("RESIDUAL_ISA", isa.name()).output().unwrap();
        let object: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(object["isa"], isa.name());
    }
}

#[test]
fn demo_runs_with_nothing_at_hand() {
    let folder = Fixture::new();
    let mut output = common::residual(&["demo", "--arch", ARCH, "--pictures", "200", "--output-dir", "run"]);
    let output = output.current_dir(folder.path("")).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && text.contains("the same bits as on 1 thread"), "{text}");
    assert!(text.contains("epoch   5  loss") && text.contains("folded and run on 1000 new pictures"), "{text}");
    assert!(folder.path("run/report.html").exists());
}

#[test]
fn help_teaches_every_command() {
    let all = succeed(&["--help"]);
    for command in ["inspect", "predict", "eval", "convert", "train", "bench", "demo"] {
        assert!(all.contains(command));
        let help = succeed(&[command, "--help"]);
        assert!(help.contains("Usage: residual"), "{help}");
    }
    assert!(succeed(&["--version"]).starts_with("residual "));
}

#[cfg(unix)]
#[test]
fn a_closed_pipe_is_no_failure() {
    use std::process::Stdio;
    let mut child = common::residual(&["inspect", "--arch", "resnet152"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
}

#[test]
fn bench_times_training_steps() {
    let options = ["--batch", "4", "--threads", "2", "--seconds", "0.1"];
    let object = json(&[&["bench", "--train", "--arch", ARCH, "--json"], &options[..]].concat());
    assert_eq!((&object["arch"], &object["batch"], &object["threads"]), (&ARCH.into(), &4.into(), &2.into()));
    assert!(object["images_per_second"].as_f64().unwrap() > 0.0 && object["steps"].as_u64().unwrap() >= 3);
    assert_eq!(object["peak_rss_bytes"].as_u64().is_some_and(|n| n > 1_000_000), cfg!(target_os = "linux"));
    let text = succeed(&[&["bench", "--train", "--arch", ARCH], &options[..]].concat());
    assert!(text.contains("images/s"), "{text}");
    let (code, text) = common::fail(&["bench", "--train", "--batch", "4"]);
    assert!(code == 2 && text.contains("--arch"), "{text}");
}
