//! Sorts the pictures of a folder by what is on them, the most certain first.
//!
//! ```text
//! cargo run --release --example classify_folder -- resnet50.safetensors holiday/
//! ```

use std::{collections::BTreeMap, path::PathBuf, process::ExitCode};

use residual::{
    Image, Model, Pictures, available_threads,
    dataset::pictures_below,
    logits::{argmax, softmax},
    map_pictures,
};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [weights, folder] = &args[..] else {
        eprintln!("usage: classify_folder WEIGHTS FOLDER");
        return ExitCode::from(2);
    };
    match run(weights, folder) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(weights: &str, folder: &str) -> Result<(), residual::Error> {
    let model = Model::open(weights)?;
    let files = pictures_below(folder.as_ref())?;
    let how = Pictures { threads: available_threads(), batch: 4, isa: residual::isa()?, skip_unreadable: true };
    let answers = map_pictures(
        &model,
        &how,
        files.len(),
        |i| Image::open(&files[i]),
        |_, logits| (argmax(logits), softmax(logits)[argmax(logits)]),
        |_| {},
    )?;

    let mut classes: BTreeMap<String, Vec<(f32, &PathBuf)>> = BTreeMap::new();
    for (file, answer) in files.iter().zip(answers) {
        match answer {
            Ok((class, certainty)) => classes.entry(model.class_name(class)).or_default().push((certainty, file)),
            Err(error) => eprintln!("skipped {error}"),
        }
    }
    for (class, mut pictures) in classes {
        println!("{class} ({})", pictures.len());
        pictures.sort_by(|a, b| b.0.total_cmp(&a.0));
        for (certainty, file) in pictures {
            println!("  {:5.1}%  {}", 100.0 * certainty, file.display());
        }
    }
    Ok(())
}
