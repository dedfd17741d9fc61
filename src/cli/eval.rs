//! `residual eval`: accuracy on a data set.

use std::{io::Write, path::PathBuf};

use residual::{
    Evaluation, Matching, Pictures,
    data::{self, Split},
    evaluate,
};
use serde_json::json;

use super::{
    args, note, progress,
    table::{Table, sentence},
};

/// Measure top-1 and top-5 accuracy on a data set
///
/// The data set is a folder of CIFAR-10 or CIFAR-100 binary files, or a tree with one folder of pictures for each
/// class; where it holds `train` beside `test` or `val` (also `valid`, `validation`), --split chooses. Where the part
/// asked for is missing, `test` and `val` stand for each other, which is said.
///
/// Classes of the data set are matched with the network's by name; one that the network does not know is an error.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  residual eval --weights resnet50.safetensors --data-path imagenet/val
  residual eval --weights resnet50.pth --arch resnet50 --data-path imagenet --json
  residual eval --weights resnet20.th --arch resnet20-cifar-Ac --data-path cifar-10-batches-bin \\
      --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225")]
pub struct Args {
    #[command(flatten)]
    model: args::Model,
    /// Folder of the data set, or `synthetic`: the generated pictures that `train` knows by this name
    #[arg(long, value_name = "DIR")]
    data_path: PathBuf,
    /// Which part of the data set
    #[arg(long, value_enum, default_value = "test")]
    split: Part,
    #[command(flatten)]
    threads: args::Threads,
    /// Pictures a thread runs at once
    #[arg(long, alias = "batch", value_name = "N", default_value = "8", value_parser = args::batch)]
    batch_size: usize,
    /// Count pictures that cannot be read instead of stopping at the first
    #[arg(long)]
    skip_unreadable: bool,
    /// How the data set's classes find the network's outputs: by name (by number where one side has no names), or
    /// by number, in the order of the data set's names
    #[arg(long, value_enum, value_name = "BY", default_value = "name")]
    match_classes: By,
    /// Use the kernels of a file that `residual tune` wrote
    #[arg(long, value_name = "FILE")]
    plan: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Part {
    Train,
    Val,
    Test,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum By {
    Name,
    Index,
}

pub fn run(args: &Args, out: &mut dyn Write) -> anyhow::Result<()> {
    let how = Pictures {
        threads: args.threads.get(),
        batch: args.batch_size,
        isa: residual::isa()?,
        skip_unreadable: args.skip_unreadable,
    };
    let mut model = args.model.open_any()?;
    args::use_plan(&mut model, args.plan.as_deref(), &how)?;
    let (split, split_name) = match args.split {
        Part::Train => (Split::Train, "train"),
        Part::Val => (Split::Validation, "val"),
        Part::Test => (Split::Test, "test"),
    };
    let data = data::open_or_generate(&args.data_path, model.input()?.shape, split)?;

    data.remarks().iter().for_each(|remark| note(remark));

    let bar = progress::pictures(data.len());
    let matching = match args.match_classes {
        By::Name => Matching::Name,
        By::Index => Matching::Index,
    };
    let result = evaluate(&model, data.as_ref(), &how, matching, |n| bar.inc(n as u64));
    bar.finish_and_clear();
    let result = result.map_err(|error| args::naming(&args.model.weights, error))?;
    if result.matching != matching {
        let (weights, data) = (args.model.weights.display(), args.data_path.display());
        note(&format!("classes are matched by number, as {weights} or {data} has no names for them"));
    }
    for unreadable in &result.unreadable {
        note(&format!("skipped {unreadable}"));
    }

    let images_per_second = result.images as f64 / result.seconds.max(f64::MIN_POSITIVE);
    if args.json {
        let classes = result.classes.iter();
        let classes = classes.map(|c| {
            let fraction = |n: usize| (c.images > 0).then(|| n as f64 / c.images as f64);
            json!({
                "name": c.name,
                "images": c.images,
                "correct": c.top1,
                "correct_top5": c.top5,
                "top1": fraction(c.top1),
                "top5": fraction(c.top5),
            })
        });
        let object = json!({
            "arch": model.name(),
            "top1": result.top1 / 100.0,
            "top5": result.top5 / 100.0,
            "images": result.images,
            "images_per_second": images_per_second,
            "seconds": result.seconds,
            "unreadable": result.unreadable.len(),
            "split": split_name,
            "matched_by": match result.matching {
                Matching::Name => "name",
                Matching::Index => "index",
            },
            "threads": how.threads,
            "batch_size": how.batch,
            "isa": how.isa.name(),
            "type": model.dtype()?.name(),
            "classes": classes.collect::<Vec<_>>(),
        });
        writeln!(out, "{object:#}")?;
        return Ok(());
    }
    show(&result, &model.name(), out)?;
    writeln!(out, "{images_per_second:.0} pictures/s on {} threads, {}", how.threads, how.isa)?;
    Ok(())
}

fn show(result: &Evaluation, name: &str, out: &mut dyn Write) -> anyhow::Result<()> {
    let mut table = Table::new(&["class", "pictures", "top-1 %", "top-5 %"]);
    let percent = |n: usize, of: usize| match of {
        0 => "-".to_owned(),
        _ => format!("{:.2}", 100.0 * n as f64 / of as f64),
    };
    for class in &result.classes {
        table.row(&[
            &class.name,
            &class.images,
            &percent(class.top1, class.images),
            &percent(class.top5, class.images),
        ]);
    }
    table.write(out)?;
    writeln!(out)?;
    let (images, unreadable) = (result.images, result.unreadable.len());
    let mut text = format!("{name}: top-1 {:.2}%, top-5 {:.2}% of {images} pictures", result.top1, result.top5);
    if unreadable > 0 {
        text += &format!("; {unreadable} could not be read");
    }
    Ok(sentence(out, &text)?)
}
