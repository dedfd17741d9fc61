//! `cargo xtask golden DIR`: every reference value, a line for each.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context, Result, bail, ensure};
use residual_core::{
    Isa,
    graph::Net,
    plan::Options,
    resnet::{ResNet, fold_batch_norm},
    session::Session,
    testing::Generated,
};
use serde::Deserialize;

use crate::{bench::nhwc, preprocess};

/// Largest difference allowed, relative to the largest logit: direct kernels only, and with Winograd.
const TOLERANCES: [(bool, f64); 2] = [(false, 3e-6), (true, 5e-5)];

/// What another implementation computed in f64 for one network and generated weights.
#[derive(Deserialize)]
struct Reference {
    /// NCHW
    input_shape: [usize; 4],
    params: u64,
    macs: u64,
    /// the first few of each image
    logits: Vec<Vec<f64>>,
    /// norm of all logits of each image
    l2: Vec<f64>,
    argmax: Vec<usize>,
}

/// Runs all checks; an error says how many failed.
pub fn run(dir: &Path) -> Result<()> {
    let path = dir.join("logits.json");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let networks: BTreeMap<String, Reference> =
        serde_json::from_str(&text).with_context(|| format!("{} is not what is expected", path.display()))?;
    let (mut passed, mut failed) = (0, 0);
    for (name, reference) in &networks {
        match check(name, reference) {
            Ok(line) => {
                println!("ok   {name}: {line}");
                passed += 1;
            }
            Err(error) => {
                println!("FAIL {name}: {error:#}");
                failed += 1;
            }
        }
    }
    let pictures = dir.join("preprocess");
    if pictures.is_dir() {
        let (equal, different) = preprocess::run(&pictures)?;
        (passed, failed) = (passed + equal, failed + different);
    } else {
        println!("skip pictures: no {}", pictures.display());
    }
    println!("{passed} passed, {failed} failed");
    ensure!(failed == 0, "{failed} reference values do not match");
    Ok(())
}

fn check(name: &str, reference: &Reference) -> Result<String> {
    let [batch, _, h, w] = reference.input_shape;
    let classes_shown = reference.logits.first().map_or(0, Vec::len);
    let spec = name.parse::<ResNet>()?.with_input(h, w)?;
    ensure!(spec.params() == reference.params, "{} parameters for {}", spec.params(), reference.params);
    ensure!(spec.macs() == reference.macs, "{} multiply-adds for {}", spec.macs(), reference.macs);
    let weights = Generated::new(spec);
    let net = fold_batch_norm(&spec, &weights)?;
    let images = nhwc(&Generated::signed("input", batch * 3 * h * w), batch, spec.input());

    let mut worsts = Vec::new();
    for (winograd, tolerance) in TOLERANCES {
        let mut worst = 0.0f64;
        for isa in Isa::available() {
            let logits = same_bits(&net, &images, batch, isa, winograd)?;
            for (i, logits) in logits.chunks(spec.classes()).enumerate() {
                worst = worst.max(compare(logits, i, reference)?);
            }
            let kernels = if winograd { "Winograd" } else { "direct" };
            ensure!(worst <= tolerance, "{isa}, {kernels}: logits differ by {worst:.1e}, {tolerance:.0e} allowed");
        }
        worsts.push(worst);
    }
    let isas: Vec<&str> = Isa::available().map(Isa::name).collect();
    Ok(format!(
        "{classes_shown} logits of {batch} images within {:.1e}, {:.1e} with Winograd, on {}; same bits",
        worsts[0],
        worsts[1],
        isas.join(", ")
    ))
}

/// The largest error of one image's logits, relative to the largest logit.
fn compare(logits: &[f32], image: usize, reference: &Reference) -> Result<f64> {
    let largest = logits.iter().fold(0.0f64, |m, &v| m.max(f64::from(v).abs()));
    let shown = &reference.logits[image];
    let error = shown.iter().zip(logits).map(|(want, &got)| (want - f64::from(got)).abs()).fold(0.0, f64::max);
    let l2 = logits.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>().sqrt();
    let argmax = (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap_or_default();
    ensure!(argmax == reference.argmax[image], "class {argmax} for {}", reference.argmax[image]);
    Ok((error / largest).max((l2 - reference.l2[image]).abs() / reference.l2[image]))
}

/// Logits of all images; fails unless 1 and 2 threads, and batches of 1 and 3, give the same bits.
fn same_bits(net: &Net<'_>, images: &[f32], batch: usize, isa: Isa, winograd: bool) -> Result<Vec<f32>> {
    let image_len = net.input().shape.elements();
    let run = |images: &[f32], batch, threads| -> Result<Vec<f32>> {
        let mut session = Session::new(net, &Options { batch, threads, isa, winograd })?;
        Ok(session.run(images)?.to_vec())
    };
    let one_by_one: Vec<f32> =
        images.chunks(image_len).map(|image| run(image, 1, 1)).collect::<Result<Vec<_>>>()?.concat();
    let classes = net.output().shape.elements();
    for threads in [1, 2] {
        let mut three = images.to_vec();
        three.resize(3 * image_len, 0.25);
        for (name, images, n) in [("1", &images[..image_len], 1), ("3", &three[..], 3)] {
            let logits = run(images, n, threads)?;
            let n = n.min(batch) * classes;
            if logits[..n] != one_by_one[..n] {
                bail!("{isa}: a batch of {name} on {threads} threads gives other bits");
            }
        }
    }
    Ok(one_by_one)
}
