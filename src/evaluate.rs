//! Accuracy on a data set.

use std::time::Instant;

use residual_core::logits::rank;
use residual_io::{DataError, dataset::Dataset};

use crate::{Error, Model, Pictures, map_pictures};

/// What a network reached on a data set.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluation {
    /// pictures classified
    pub images: usize,
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
/// Classes are matched by name where the weights know names and all of the data set's are among them, else by
/// number.
///
/// # Errors
/// [`Error::Classes`] when they cannot be matched; a picture that cannot be read, unless they are skipped;
/// [`Error::AllUnreadable`] when none can.
pub fn evaluate(
    model: &Model,
    data: &dyn Dataset,
    how: &Pictures,
    progress: impl Fn(usize) + Sync,
) -> Result<Evaluation, Error> {
    let outputs = outputs(model.class_names(), model.classes(), data)?;
    let begin = Instant::now();
    let ranks = map_pictures(
        model,
        how,
        data.len(),
        |i| data.image(i),
        |i, logits| rank(logits, outputs[data.label(i)]),
        progress,
    )?;
    tally(data, ranks, begin.elapsed().as_secs_f64())
}

fn tally(data: &dyn Dataset, ranks: Vec<Result<usize, DataError>>, seconds: f64) -> Result<Evaluation, Error> {
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
        top1: percent(classes.iter().map(|c| c.top1).sum()),
        top5: percent(classes.iter().map(|c| c.top5).sum()),
        classes,
        unreadable: unreadable.iter().map(ToString::to_string).collect(),
        seconds,
    })
}

/// The network's output for every class of the data set.
fn outputs(names: Option<&[String]>, classes: usize, data: &dyn Dataset) -> Result<Vec<usize>, Error> {
    let found = data.classes();
    let by_name =
        names.and_then(|names| found.iter().map(|class| names.iter().position(|name| name == class)).collect());
    match by_name {
        Some(outputs) => Ok(outputs),
        None if found.len() == classes => Ok((0..classes).collect()),
        None => Err(Error::Classes { found: found.len(), classes }),
    }
}
