//! Accuracy on a data set.

use std::time::Instant;

use residual_core::logits::rank;
use residual_io::{DataError, dataset::Dataset};

use crate::{Error, Model, Pictures, map_pictures};

/// How the classes of a data set find the network's outputs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Matching {
    /// by name; by number where the network or the data set knows no names
    #[default]
    Name,
    /// by number: both have as many classes, in the same order
    Index,
}

/// What a network reached on a data set.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluation {
    /// pictures classified
    pub images: usize,
    /// how classes were matched: by number, too, where one side knows no names
    pub matching: Matching,
    /// percentage whose class was the answer
    pub top1: f64,
    /// percentage whose class was among the five best
    pub top5: f64,
    /// the same for each class of the data set
    pub classes: Vec<ClassResult>,
    /// what was wrong with pictures that could not be read
    pub unreadable: Vec<String>,
    /// seconds for reading and classifying, preparation not counted
    pub seconds: f64,
}

/// What a network reached on one class.
#[derive(Clone, Debug, PartialEq)]
pub struct ClassResult {
    /// the class
    pub name: String,
    /// its pictures
    pub images: usize,
    /// those it was the answer for
    pub top1: usize,
    /// those it was among the five best for
    pub top5: usize,
}

/// Classifies every picture of `data`; `progress` is called with the number of pictures just finished.
///
/// A data set may have only some of the network's classes where they are matched by name.
///
/// # Errors
/// [`Error::UnknownClass`] for a class whose name the network does not know, [`Error::Classes`] where two counts of
/// classes cannot be matched by number; a picture that cannot be read, unless they are skipped;
/// [`Error::AllUnreadable`] when none can.
///
/// ```no_run
/// use residual::{Matching, Model, Pictures, dataset, evaluate};
///
/// let model = Model::open("resnet50.safetensors")?;
/// let data = dataset::open("imagenet/val", dataset::Split::Test)?;
/// let how = Pictures { threads: 8, batch: 8, isa: residual::isa()?, skip_unreadable: false };
/// let result = evaluate(&model, data.as_ref(), &how, Matching::Name, |_| {})?;
/// println!("top-1 {:.2}% of {} pictures", result.top1, result.images);
/// # Ok::<(), residual::Error>(())
/// ```
pub fn evaluate(
    model: &Model,
    data: &dyn Dataset,
    how: &Pictures,
    matching: Matching,
    progress: impl Fn(usize) + Sync,
) -> Result<Evaluation, Error> {
    let names = model.class_names().filter(|names| matching == Matching::Name && named(names) && named(data.classes()));
    let outputs = match names {
        Some(names) => by_name(model, names, data)?,
        None => by_number(model, data)?,
    };
    let begin = Instant::now();
    let ranks = map_pictures(
        model,
        how,
        data.len(),
        |i| data.image(i),
        |i, logits| rank(logits, outputs[data.label(i)]),
        progress,
    )?;
    let matching = if names.is_some() { Matching::Name } else { Matching::Index };
    tally(data, ranks, matching, begin.elapsed().as_secs_f64())
}

fn tally(
    data: &dyn Dataset,
    ranks: Vec<Result<usize, DataError>>,
    matching: Matching,
    seconds: f64,
) -> Result<Evaluation, Error> {
    let class = |name: &String| ClassResult { name: name.clone(), images: 0, top1: 0, top5: 0 };
    let mut classes: Vec<ClassResult> = data.classes().iter().map(class).collect();
    let mut unreadable: Vec<DataError> = Vec::new();
    for (i, rank) in ranks.into_iter().enumerate() {
        match rank {
            Ok(rank) => {
                let class = &mut classes[data.label(i)];
                class.images += 1;
                class.top1 += usize::from(rank < 1);
                class.top5 += usize::from(rank < 5);
            }
            Err(error) => unreadable.push(error),
        }
    }
    let images = classes.iter().map(|c| c.images).sum::<usize>();
    if images == 0 && !unreadable.is_empty() {
        return Err(Error::AllUnreadable { pictures: unreadable.len(), first: unreadable.swap_remove(0) });
    }
    let percent = |n: usize| 100.0 * n as f64 / images.max(1) as f64;
    Ok(Evaluation {
        images,
        matching,
        top1: percent(classes.iter().map(|c| c.top1).sum()),
        top5: percent(classes.iter().map(|c| c.top5).sum()),
        classes,
        unreadable: unreadable.iter().map(ToString::to_string).collect(),
        seconds,
    })
}

/// Whether classes have names: without, they are called by their numbers.
fn named(classes: &[String]) -> bool {
    classes.iter().enumerate().any(|(class, name)| *name != class.to_string())
}

/// The network's output for every class of the data set.
fn by_name(model: &Model, names: &[String], data: &dyn Dataset) -> Result<Vec<usize>, Error> {
    let found = data.classes();
    let known: Vec<usize> = found.iter().filter_map(|class| names.iter().position(|name| name == class)).collect();
    match found.iter().find(|class| !names.contains(class)) {
        None => Ok(known),
        Some(class) => Err(Error::UnknownClass {
            data: data.place(),
            class: class.clone(),
            unknown: found.len() - known.len(),
            found: found.len(),
            network: model.name(),
            classes: names.len(),
            nearest: names.iter().min_by_key(|name| distance(name, class)).cloned().unwrap_or_default(),
        }),
    }
}

fn by_number(model: &Model, data: &dyn Dataset) -> Result<Vec<usize>, Error> {
    let (found, classes) = (data.classes().len(), model.classes());
    match found == classes {
        true => Ok((0..classes).collect()),
        false => Err(Error::Classes { data: data.place(), found, network: model.name(), classes }),
    }
}

/// Letters to insert, leave out or replace between two names, whatever their case.
fn distance(a: &str, b: &str) -> usize {
    /// A name that is longer is no name.
    const LETTERS: usize = 64;
    let letters = |text: &str| text.chars().flat_map(char::to_lowercase).take(LETTERS).collect::<Vec<_>>();
    let (a, b) = (letters(a), letters(b));
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::distance;

    #[test]
    fn names_are_as_far_apart_as_letters_change() {
        for (a, b, letters) in
            [("cat", "cat", 0), ("Cat", "cAT", 0), ("kitten", "sitting", 3), ("", "dog", 3), ("ship", "", 4)]
        {
            assert_eq!((distance(a, b), distance(b, a)), (letters, letters), "{a} {b}");
        }
        assert_eq!(distance(&"a".repeat(1000), "b"), 64);
    }
}
