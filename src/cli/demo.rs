//! `residual demo`: everything at once, with nothing downloaded.

use std::{
    io::Write,
    path::{Path, PathBuf},
    sync::atomic::AtomicBool,
    time::Instant,
};

use anyhow::{anyhow, ensure};
use residual::{
    Classifier, Given, Image, Isa, Matching, Model, Pictures, Preprocessing,
    data::{Dataset, Split, Synthetic},
    evaluate,
    plan::{Options, Plan},
    resnet::{ResNet, fold_batch_norm},
    session::Session,
    testing::Generated,
    trainer::{Config, Event, Limits, Resources, RunFolder, Source, TrainError, Trainer},
};

use super::{
    args,
    bench::ms,
    shipped,
    stats::Stats,
    table::{bytes, grouped, sentence},
    train,
};

/// See it work: inspect, run and check a network on a drawn picture, train a small one in about a minute and use it
#[derive(clap::Args)]
pub struct Args {
    /// Architecture to show
    #[arg(long, value_name = "NAME", default_value = "resnet50", value_parser = args::architecture)]
    arch: ResNet,
    #[command(flatten)]
    threads: args::Threads,
    /// Keep what training writes: report.html, model.safetensors and the rest
    #[arg(long, value_name = "OUT")]
    output_dir: Option<PathBuf>,
    /// Generated pictures to train on
    #[arg(long, value_name = "N", default_value = "5000", value_parser = args::batch, hide = true)]
    pictures: usize,
}

pub fn run(args: &Args, out: &mut dyn Write) -> anyhow::Result<()> {
    let options = args::options(1, args.threads.get(), true)?;
    network(&args.arch, &options, out)?;
    match &args.output_dir {
        Some(folder) => learning(args, &options, folder, out)?,
        None => {
            let folder = tempfile::tempdir()?;
            learning(args, &options, folder.path(), out)?;
            writeln!(out, "  (--output-dir OUT would have kept the report with its curves)")?;
        }
    }
    trained(&options, out)
}

/// The full circle: a small network trained from nothing, folded, and run on pictures it has not seen.
fn learning(args: &Args, options: &Options, folder: &Path, out: &mut dyn Write) -> anyhow::Result<()> {
    let spec: ResNet = "resnet8-cifar".parse()?;
    let (side, test) = (spec.input().h, Synthetic::standard(spec.input().h, Split::Test));
    let source = Source::synthetic(args.pictures, test.len(), side);
    let mut config = Config::paper(&spec, 5);
    (config.lr, config.lr_scheduler, config.nesterov) = (0.2, "one-cycle".into(), true);
    config.batch_size = config.batch_size.min(args.pictures);
    writeln!(
        out,
        "training {spec} from nothing on {} generated pictures of {} classes",
        args.pictures,
        spec.classes()
    )?;
    out.flush()?;
    let resources = Resources { threads: options.threads, workers: options.threads, isa: options.isa };
    let begin = Instant::now();
    let folder = RunFolder::create(folder).map_err(|error| match error {
        TrainError::HoldsRun { folder, .. } => anyhow!("{folder} holds a run already: choose another --output-dir"),
        error => error.into(),
    })?;
    let weights = folder.path().join("model.safetensors");
    let mut trainer = Trainer::new(config, source, resources, folder)?;
    let mut written = Ok(());
    trainer.run(&Limits::default(), &AtomicBool::new(false), |event| {
        if let (Event::Epoch(row), Ok(())) = (event, &written) {
            written = writeln!(out, "  {}", train::line(row)).and_then(|()| out.flush());
        }
    })?;
    written?;
    let seconds = begin.elapsed().as_secs_f64();

    let model = Model::open(weights)?;
    let how = Pictures { threads: options.threads, batch: 8, isa: options.isa, skip_unreadable: false };
    let result = evaluate(&model, &test, &how, Matching::Name, |_| {})?;
    let claimed = trainer.rows().last().map_or(0.0, |row| row.val_top1);
    ensure!(
        (result.top1 - claimed).abs() < 0.5,
        "the folded network gets {:.2}%, training saw {claimed:.2}%",
        result.top1
    );
    let (images, rate) = (result.images, result.images as f64 / result.seconds.max(f64::MIN_POSITIVE));
    writeln!(
        out,
        "  trained in {seconds:.0} s; folded and run on {images} new pictures: {:.1}% right, {rate:.0} a second",
        result.top1
    )?;
    Ok(())
}

/// Generated weights: everything but the meaning of the answer is real.
fn network(spec: &ResNet, options: &Options, out: &mut dyn Write) -> anyhow::Result<()> {
    writeln!(out, "{spec}, as in \"Deep Residual Learning for Image Recognition\", with generated weights")?;
    writeln!(
        out,
        "  {} layers, {} parameters, {} multiply-adds a picture",
        spec.depth(),
        grouped(spec.params()),
        grouped(spec.macs())
    )?;
    let weights = Generated::new(*spec);
    let net = fold_batch_norm(spec, &weights)?;
    let plan = Plan::new(&net, options)?;
    let activations: usize = plan.steps().iter().map(|step| step.output_range().len()).sum();
    writeln!(
        out,
        "  {} ops share an arena of {} ({} if none shared)",
        plan.steps().len(),
        bytes(4 * plan.arena_len() as u64),
        bytes(activations as u64)
    )?;

    let picture = drawn(640, 480)?;
    let preprocessing = Preprocessing::imagenet().with_input_size(spec.input().into());
    let mut input = vec![0.0; plan.input_len()];
    let begin = Instant::now();
    preprocessing.apply(&picture, &mut input)?;
    writeln!(out, "a drawn picture of 640x480, resized, cropped and normalised in {:.1} ms", ms(begin.elapsed()))?;
    out.flush()?;

    let mut first: Option<Vec<f32>> = None;
    for isa in Isa::available().filter(|&isa| isa <= options.isa) {
        for threads in if options.threads == 1 { vec![1, 2] } else { vec![1, options.threads] } {
            let mut session = Session::new(&net, &Options { isa, threads, ..*options })?;
            session.run(&input)?;
            let mut times = Vec::new();
            for _ in 0..5 {
                let begin = Instant::now();
                session.run(&input)?;
                times.push(ms(begin.elapsed()));
            }
            let logits = session.run(&input)?;
            let verdict = match (&first, threads) {
                (Some(one), n) if n > 1 => {
                    ensure!(one == logits, "{isa}: {n} threads give other bits than 1");
                    "the same bits as on 1 thread"
                }
                _ => "",
            };
            if threads == 1 {
                first = Some(logits.to_vec());
            }
            let line = format!("  {isa:8} {threads:2} threads  {:8.2} ms  {verdict}", Stats::new(times).median());
            writeln!(out, "{}", line.trim_end())?;
            out.flush()?;
        }
    }
    Ok(())
}

/// The shipped weights: an answer that means something.
fn trained(options: &Options, out: &mut dyn Write) -> anyhow::Result<()> {
    let model = shipped::open(&Given::default())?;
    let mut classifier = Classifier::builder().threads(options.threads).build(&model)?;
    sentence(out, &format!("{}, a trained {}, on the drawn picture:", shipped::NAME, model.name()))?;
    for prediction in classifier.classify(&drawn(640, 480)?, 3)? {
        writeln!(out, "  {:6.2}%  {}", 100.0 * prediction.probability, prediction.name)?;
    }
    Ok(())
}

/// A scene: sky over ground, a sun and its glow.
fn drawn(width: usize, height: usize) -> anyhow::Result<Image> {
    let mut pixels = Vec::with_capacity(width * height * 3);
    for y in 0..height {
        for x in 0..width {
            let (u, v) = (x as f32 / width as f32, y as f32 / height as f32);
            let distance = ((u - 0.7).powi(2) + (v - 0.3).powi(2)).sqrt();
            let rgb = if v > 0.65 + 0.05 * (u * 9.0).sin() {
                [70.0 + 60.0 * u, 110.0 - 50.0 * (v - 0.65), 50.0]
            } else if distance < 0.08 {
                [255.0, 240.0, 170.0]
            } else {
                let glow = 90.0 * (-6.0 * distance).exp();
                [110.0 + 80.0 * v + glow, 160.0 + 40.0 * v + glow, 230.0]
            };
            // Saturating: `as` clamps.
            pixels.extend(rgb.map(|c| c as u8));
        }
    }
    Ok(Image::new(width, height, pixels)?)
}
