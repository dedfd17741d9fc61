//! Outputs of int8 networks against LiteRT's reference kernels, byte by byte.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail, ensure};
use residual_core::{Isa, plan::Options, rsd::View, session::Session};
use residual_io::tflite::{End, Imported, import};
use residual_train::data::{Cifar, CifarKind, Dataset, Split};

/// Arguments of `cargo xtask litert`.
#[derive(clap::Args)]
pub struct LitertArgs {
    /// int8 .tflite files: of others, or written by `residual quantize --tflite`
    #[arg(required = true)]
    models: Vec<PathBuf>,
    /// Folder of CIFAR-10's binary files; pseudo-random inputs without it
    #[arg(long)]
    data_path: Option<PathBuf>,
    /// Pictures
    #[arg(long, default_value = "10000")]
    images: usize,
    /// Mean of the pictures' channels, as the model expects them
    #[arg(long, value_delimiter = ',', default_value = "0,0,0")]
    mean: Vec<f32>,
    /// Their standard deviation; by default pixels are passed as they are
    #[arg(long, value_delimiter = ',', default_value = "0.003921569,0.003921569,0.003921569")]
    std: Vec<f32>,
}

impl LitertArgs {
    /// One model on pseudo-random inputs.
    pub fn new(model: PathBuf, images: usize) -> Self {
        LitertArgs { models: vec![model], data_path: None, images, mean: Vec::new(), std: Vec::new() }
    }
}

/// The Python that has LiteRT: `RESIDUAL_LITERT_PYTHON`, or `python3`; `None` if it lacks it.
pub fn python() -> Option<PathBuf> {
    let python = env::var_os("RESIDUAL_LITERT_PYTHON").map_or_else(|| "python3".into(), PathBuf::from);
    let args = ["-c", "import ai_edge_litert.interpreter"];
    let status = Command::new(&python).args(args).stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|s| s.success()).then_some(python)
}

/// Compares every model, and fails if a byte differs.
pub fn run(args: &LitertArgs) -> Result<()> {
    let Some(python) = python() else {
        println!("skipped: LiteRT is not at hand: pip install ai-edge-litert, RESIDUAL_LITERT_PYTHON names the python");
        return Ok(());
    };
    let mut differ = 0;
    for model in &args.models {
        differ += compare(&python, model, args).with_context(|| model.display().to_string())?;
    }
    ensure!(differ == 0, "{differ} bytes differ");
    Ok(())
}

fn compare(python: &Path, file: &Path, args: &LitertArgs) -> Result<usize> {
    let bytes = fs::read(file)?;
    let Imported { network, softmax, input: from_file, output: to_file } = import(&file.display().to_string(), &bytes)?;
    let model = network.to_model()?;
    let view = View::new_checked(&model)?;
    // Of the network, which are what the file's become.
    let own = inputs(args, &network)?;
    let bytes: Vec<u8> = match &from_file {
        End::Float32(encoding) => own.iter().flat_map(|v| encoding.dequantize(*v).to_le_bytes()).collect(),
        _ => own.iter().map(|v| *v as u8).collect(),
    };
    let Ok(input) = from_file.to_int8(&bytes) else { bail!("an input is not finite") };
    let folder = env::temp_dir().join(format!("residual-litert-{}", std::process::id()));
    fs::create_dir_all(&folder)?;
    let (from, to) = (folder.join("inputs.bin"), folder.join("outputs.bin"));
    fs::write(&from, bytes)?;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/litert.py");
    let status = Command::new(python).arg(script).args([file, &from, &to]).stderr(Stdio::null()).status()?;
    let want = fs::read(&to).unwrap_or_default();
    let each = output_len(&view)? * to_file.width();
    fs::remove_dir_all(&folder)?;
    ensure!(status.success(), "LiteRT failed on it");

    let mut total = 0;
    for isa in Isa::available() {
        let mut session = Session::new(&view.net()?, &Options { isa, ..Options::default() })?;
        let (mut got, mut differ) = (Vec::new(), 0);
        for (picture, want) in input.chunks_exact(view_len(&view)?).zip(want.chunks_exact(each)) {
            let logits = session.run(picture)?;
            got.clear();
            got.extend_from_slice(logits);
            if let Some(softmax) = &softmax {
                softmax.run(logits, &mut got);
            }
            differ += to_file.to_numbers(&got).to_le_bytes().iter().zip(want).filter(|(a, b)| a != b).count();
        }
        let pictures = want.len() / each;
        ensure!(pictures == input.len() / view_len(&view)?, "LiteRT computed {pictures} outputs only");
        println!("{}: {differ} of {} bytes differ, {pictures} pictures, {isa}", file.display(), want.len());
        total += differ;
    }
    Ok(total)
}

fn view_len(view: &View<'_>) -> Result<usize> {
    Ok(view.input().context("no input")?.shape.elements())
}

fn output_len(view: &View<'_>) -> Result<usize> {
    Ok(view.output().context("no output")?.shape.elements())
}

fn inputs(args: &LitertArgs, network: &residual_io::quantized::Network) -> Result<Vec<i8>> {
    let len = network.input.elements();
    let Some(dir) = &args.data_path else {
        return Ok(crate::mcu::pictures(args.images * len));
    };
    let (Ok(mean), Ok(std)) = (<[f32; 3]>::try_from(&args.mean[..]), <[f32; 3]>::try_from(&args.std[..])) else {
        bail!("--mean and --std need three numbers");
    };
    let data = Cifar::open(dir, CifarKind::Cifar10, Split::Test)?;
    let mut all = Vec::new();
    for i in 0..args.images.min(data.len()) {
        let image = data.image(i)?;
        for (at, pixel) in image.pixels().iter().enumerate() {
            let real = (f32::from(*pixel) / 255.0 - mean[at % 3]) / std[at % 3];
            all.push(network.quantization.quantize(real));
        }
    }
    Ok(all)
}
