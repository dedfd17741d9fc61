//! `residual quantize`: a trained network as an int8 model file.

use std::{fs, io::Write, path::PathBuf};

use anyhow::{Context, anyhow};
use residual::{
    DataError, Error, Pretrained,
    data::{self, Dataset, Split},
    graph::Net,
    quantize::{
        Blamed, Method, Options, QuantizeError, Quantized, Report, blame, html, input_range, keep, quantize, report,
    },
    tflite,
};
use serde_json::{Value, json};

use super::{
    args, note, progress,
    table::{Table, bytes, sentence},
    train::encodings,
    write_file,
};

/// Make an int8 model of trained weights, for the host and for microcontrollers
///
/// Ranges of all values come from calibration pictures, taken evenly from the training split of the data set. Unless
/// --method says otherwise, every value gets the method that disturbs the class probabilities least. Weights of `train --qat`
/// carry the ranges that they learned: these are kept.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  residual quantize --weights resnet20.safetensors --data-path cifar-10-batches-bin -o resnet20.rsd
  residual quantize --weights resnet20.th --arch resnet20-cifar-Ac --mean 0.485,0.456,0.406 \\
      --std 0.229,0.224,0.225 --data-path cifar-10-batches-bin -o net.rsd --tflite net.tflite --report report
  residual eval --weights net.rsd --data-path cifar-10-batches-bin")]
pub struct Args {
    #[command(flatten)]
    model: args::Model,
    /// Folder of the data set, or `synthetic`: the generated pictures that `train` knows by this name
    #[arg(long, value_name = "DIR|synthetic")]
    data_path: PathBuf,
    /// Pictures that ranges are taken from
    #[arg(long, value_name = "N", default_value = "512", value_parser = args::batch)]
    calibration_images: usize,
    /// One method for all ranges
    #[arg(long, value_name = "METHOD", value_parser = method)]
    method: Option<Method>,
    /// Find ranges anew where the weights carry those of `train --qat`, which are kept otherwise; --method does it, too
    #[arg(long)]
    recalibrate: bool,
    /// Leave the biases as they are
    #[arg(long)]
    no_bias_correction: bool,
    /// Leave the sizes of channels as they are
    #[arg(long)]
    no_equalize: bool,
    /// The model file to write
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,
    /// Write the model as TensorFlow Lite too
    #[arg(long, value_name = "FILE")]
    tflite: Option<PathBuf>,
    /// Write report.json and report.html into this folder: what quantizing costs, layer by layer
    #[arg(long, value_name = "DIR")]
    report: Option<PathBuf>,
    /// Pictures of the test split the report is measured on
    #[arg(long, value_name = "N", default_value = "500", value_parser = args::batch)]
    report_images: usize,
    /// Leave out pictures that cannot be read, and name them at the end
    #[arg(long)]
    skip_unreadable: bool,
    #[command(flatten)]
    threads: args::Threads,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// `--method`.
fn method(text: &str) -> Result<Method, String> {
    let known = Method::ALL.iter().find(|m| m.name() == text);
    known.copied().ok_or_else(|| "must be minmax, percentile, mse or kl".into())
}

/// An error of quantizing, with the file and the cause where weights could not be read.
fn explain(model: &Pretrained, error: QuantizeError) -> anyhow::Error {
    match error {
        QuantizeError::Network(error) => model.explain(error).into(),
        other => other.into(),
    }
}

impl Args {
    /// The network in int8, and whether its ranges are those that the weights carried. Says which, and where accuracy will
    /// suffer.
    fn quantize(
        &self,
        model: &Pretrained,
        net: &Net<'_>,
        inputs: &[Vec<f32>],
        options: &Options,
    ) -> anyhow::Result<(Quantized, bool)> {
        let kept = if self.recalibrate || self.method.is_some() { None } else { encodings(model.weights())? };
        let quantized = match &kept {
            Some(encodings) => {
                let file = self.model.weights.display();
                note(&format!("{file}: keeps the int8 ranges that training left in it; --recalibrate finds others"));
                keep(net, encodings, inputs, options).map_err(|error| anyhow!("{file}: {error}"))?
            }
            None => quantize(net, inputs, options).map_err(|error| explain(model, error))?,
        };
        let blamed = blame(net, &quantized, inputs, options).map_err(|error| explain(model, error))?;
        if let Some(Blamed { layer, divergence }) = blamed {
            note(&format!(
                "accuracy will suffer: int8 changes class probabilities by a divergence of {:.3}, and most in `{layer}`, \
                 {divergence:.3} by itself; `residual train --qat` fine-tunes the weights for int8",
                quantized.divergence
            ));
        }
        Ok((quantized, kept.is_some()))
    }
}

pub fn run(args: &Args, out: &mut dyn Write) -> anyhow::Result<()> {
    let model = args.model.open()?;
    let net = model.net()?;
    let p = model.preprocessing();
    if p.mean_picture.is_some() {
        return Err(args::pixel_mean(&args.model.weights));
    }
    if !residual::Image::serves(p.channels()) {
        return Err(residual::Error::NoPictures { network: model.spec().to_string(), channels: p.channels() }.into());
    }
    let options = Options {
        method: args.method,
        bias_correction: !args.no_bias_correction,
        equalize: !args.no_equalize,
        input_range: Some(input_range(&p.mean, &p.std)),
        threads: args.threads.get(),
        isa: residual::isa()?,
    };
    let size = model.spec().input();
    let data = data::open_or_generate(&args.data_path, size, Split::Train)?;
    data.remarks().iter().for_each(|remark| note(remark));
    let mut skipped = Vec::new();
    let unreadable = args.skip_unreadable.then_some(&mut skipped);
    let (inputs, _) = pictures(&model, data.as_ref(), args.calibration_images, unreadable)?;

    let (mut quantized, kept) = args.quantize(&model, &net, &inputs, &options)?;
    quantized.network.preprocessing = Some(p.to_flat());
    quantized.network.classes = match model.class_names() {
        Some(names) => names.to_vec(),
        None if data.classes().len() == model.spec().classes() => data.classes().to_vec(),
        None => Vec::new(),
    };
    let file = quantized.network.to_model().with_context(|| args.output.display().to_string())?;
    write_file(&args.output, &file)?;
    if let Some(path) = &args.tflite {
        write_file(path, &tflite::export(&quantized.network)?)?;
    }
    let report = match &args.report {
        None => None,
        Some(dir) => {
            let data = data::open_or_generate(&args.data_path, size, Split::Test)?;
            data.remarks().iter().for_each(|remark| note(remark));
            let unreadable = args.skip_unreadable.then_some(&mut skipped);
            let (inputs, labels) = pictures(&model, data.as_ref(), args.report_images, unreadable)?;
            let report = report(&net, &quantized, &inputs, &labels, &options);
            let report = report.map_err(|error| explain(&model, error))?;
            fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
            write_file(&dir.join("report.json"), format!("{:#}\n", object(&report)).as_bytes())?;
            write_file(&dir.join("report.html"), html(&report).as_bytes())?;
            Some(report)
        }
    };
    skipped.iter().for_each(|picture| note(&format!("skipped {picture}")));
    let methods = |m: Method| quantized.methods.values().filter(|v| **v == m).count();
    if args.json {
        let mut object = json!({
            "arch": model.spec().to_string(),
            "output": args.output.to_string_lossy(),
            "bytes": file.len(),
            "calibration_images": inputs.len(),
            "unreadable": skipped.len(),
            "divergence": quantized.divergence,
            "equalized": !quantized.equalized.is_empty(),
            "kept_ranges": kept,
            "methods": quantized.methods.iter().map(|(n, m)| (n.clone(), json!(m.name()))).collect::<serde_json::Map<_, _>>(),
        });
        if let (Value::Object(object), Some(report)) = (&mut object, &report) {
            object.insert("report".into(), self::object(report));
        }
        writeln!(out, "{object:#}")?;
        return Ok(());
    }
    if let Some(report) = &report {
        show(report, &quantized, out)?;
    }
    let chosen = match kept {
        true => "ranges of training kept".to_owned(),
        false => Method::ALL.map(|m| format!("{} {}", methods(m), m.name())).join(", "),
    };
    let text = format!(
        "{}: {} in int8, {}; {} calibration pictures, divergence {:.5} ({chosen})",
        residual::printable(&args.output.to_string_lossy()),
        model.spec(),
        bytes(file.len() as u64),
        inputs.len(),
        quantized.divergence,
    );
    Ok(sentence(out, &text)?)
}

/// Up to `n` pictures, evenly from the whole data set, normalised, and their classes. Those that cannot be read go to
/// `skipped`, if they may be left out.
fn pictures(
    model: &Pretrained,
    data: &dyn Dataset,
    n: usize,
    mut skipped: Option<&mut Vec<DataError>>,
) -> anyhow::Result<(Vec<Vec<f32>>, Vec<usize>)> {
    let n = n.min(data.len());
    let bar = progress::pictures(n);
    let (mut inputs, mut labels) = (Vec::with_capacity(n), Vec::with_capacity(n));
    for i in 0..n {
        let at = i * data.len() / n;
        let mut input = vec![0.0; model.spec().input().elements()];
        match (data.image(at).and_then(|image| model.preprocessing().apply(&image, &mut input)), &mut skipped) {
            (Ok(()), _) => {
                inputs.push(input);
                labels.push(data.label(at));
            }
            (Err(error), Some(skipped)) => skipped.push(error),
            (Err(error), None) => return Err(args::unreadable(&error)),
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    if inputs.is_empty()
        && let Some(skipped) = skipped
        && !skipped.is_empty()
    {
        return Err(Error::AllUnreadable { pictures: n, first: skipped.swap_remove(0) }.into());
    }
    Ok((inputs, labels))
}

fn object(report: &Report) -> Value {
    let layers = report.layers.iter().map(|l| {
        json!({
            "name": l.name,
            "method": l.method,
            "scale": l.quantization.scale,
            "zero_point": l.quantization.zero_point,
            "min": l.observed.0,
            "max": l.observed.1,
            "sqnr_db": l.sqnr,
            "range_use": l.range_use,
            "saturation": l.saturation,
            "top1_alone": l.top1_alone.map(|percent| percent / 100.0),
        })
    });
    json!({
        "arch": report.architecture,
        "pictures": report.pictures,
        "top1_f32": report.top1_f32 / 100.0,
        "top1_int8": report.top1_int8 / 100.0,
        "layers": layers.collect::<Vec<_>>(),
    })
}

fn show(report: &Report, quantized: &Quantized, out: &mut dyn Write) -> anyhow::Result<()> {
    let header = ["layer", "method", "scale", "SQNR dB", "codes %", "saturated %", "top-1 alone %"];
    let mut table = Table::new(&header).leave_out(&["codes %", "scale", "saturated %"]);
    for l in &report.layers {
        table.row(&[
            &l.name,
            &l.method.unwrap_or("-"),
            &format!("{:.6}", l.quantization.scale),
            &format!("{:.1}", l.sqnr),
            &format!("{:.1}", 100.0 * l.range_use),
            &format!("{:.4}", 100.0 * l.saturation),
            &l.top1_alone.map_or_else(|| "-".into(), |t| format!("{t:.2}")),
        ]);
    }
    table.write(out)?;
    writeln!(out)?;
    let Report { top1_f32, top1_int8, pictures, .. } = report;
    let name = &quantized.network.architecture;
    let text = format!("{name}: top-1 {top1_f32:.2}% in f32, {top1_int8:.2}% in int8 on {pictures} pictures");
    Ok(sentence(out, &text)?)
}
