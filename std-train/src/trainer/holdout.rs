//! Training pictures that are held out for validation.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::TrainError;
use crate::{
    data::Dataset,
    random::{Purpose, Stream},
};

/// How many training pictures are held out. In JSON a number: a fraction below 1, or a count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(into = "f64", try_from = "f64")]
pub enum Holdout {
    /// none
    #[default]
    None,
    /// so many in all, divided over the classes as the pictures are
    Count(usize),
    /// this fraction of every class, above 0 and below 1
    Fraction(f64),
}

const WRONG: &str = "must be a fraction between 0 and 1, such as 0.1, or a number of pictures";

impl From<Holdout> for f64 {
    fn from(holdout: Holdout) -> f64 {
        match holdout {
            Holdout::None => 0.0,
            Holdout::Count(count) => count as f64,
            Holdout::Fraction(fraction) => fraction,
        }
    }
}

impl TryFrom<f64> for Holdout {
    type Error = &'static str;

    fn try_from(number: f64) -> Result<Self, Self::Error> {
        match number {
            0.0 => Ok(Holdout::None),
            n if n > 0.0 && n < 1.0 => Ok(Holdout::Fraction(n)),
            n if (1.0..=f64::from(u32::MAX)).contains(&n) && n.fract() == 0.0 => Ok(Holdout::Count(n as usize)),
            _ => Err(WRONG),
        }
    }
}

impl FromStr for Holdout {
    type Err = &'static str;

    /// `0.1` or `5000`; `1.0` could mean either and is refused.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Ok(count) = text.parse::<u32>() {
            return Holdout::try_from(f64::from(count));
        }
        match text.parse::<f64>() {
            Ok(fraction) if fraction > 0.0 && fraction < 1.0 => Ok(Holdout::Fraction(fraction)),
            _ => Err(WRONG),
        }
    }
}

impl Holdout {
    /// The pictures to train on and those held out, in their order. Which ones depends on the labels and `seed` alone.
    /// A class with two pictures or more keeps at least one to train on; of a fraction it also gives at least one.
    ///
    /// # Errors
    /// [`TrainError::Data`] when fewer would remain than one a class.
    pub(super) fn divide(self, data: &dyn Dataset, seed: u64) -> Result<(Vec<u32>, Vec<u32>), TrainError> {
        let mut classes = vec![Vec::new(); data.classes().len()];
        (0..data.len()).for_each(|i| classes[data.label(i)].push(i as u32));
        let sizes: Vec<usize> = classes.iter().map(Vec::len).collect();
        let quotas = match self {
            Holdout::None => vec![0; sizes.len()],
            Holdout::Fraction(fraction) => sizes.iter().map(|&n| share(n, fraction)).collect(),
            Holdout::Count(count) => apportion(&sizes, count)?,
        };
        let (mut train, mut held) = (Vec::new(), Vec::new());
        for (class, (pictures, quota)) in classes.iter().zip(quotas).enumerate() {
            let order = Stream::new(seed, Purpose::Holdout, [class as u64, 0]).permutation(pictures.len());
            let pick = |part: &[u32]| part.iter().map(|&i| pictures[i as usize]).collect::<Vec<_>>();
            held.extend(pick(&order[..quota]));
            train.extend(pick(&order[quota..]));
        }
        train.sort_unstable();
        held.sort_unstable();
        Ok((train, held))
    }
}

/// A fraction of one class.
fn share(pictures: usize, fraction: f64) -> usize {
    match pictures {
        0 | 1 => 0,
        n => ((n as f64 * fraction).round() as usize).clamp(1, n - 1),
    }
}

/// A count over classes of these sizes, by largest remainders (Hamilton's method).
fn apportion(sizes: &[usize], count: usize) -> Result<Vec<usize>, TrainError> {
    let total: usize = sizes.iter().sum();
    let most = |size: usize| size.saturating_sub(1);
    if count > sizes.iter().map(|&n| most(n)).sum() {
        let need = count + sizes.iter().filter(|&&n| n > 0).count();
        return Err(TrainError::Data { what: "training pictures, of which every class keeps one", need, got: total });
    }
    let exact = |size: usize| size as u128 * count as u128;
    let mut quotas: Vec<usize> =
        sizes.iter().map(|&n| most(n).min((exact(n) / total.max(1) as u128) as usize)).collect();
    let mut order: Vec<usize> = (0..sizes.len()).collect();
    order.sort_by_key(|&i| std::cmp::Reverse(exact(sizes[i]) % total.max(1) as u128));
    let mut left = count - quotas.iter().sum::<usize>();
    // Classes that are full pass theirs on, hence the rounds; there is room for all.
    for &class in order.iter().cycle() {
        if left == 0 {
            break;
        }
        let more = usize::from(quotas[class] < most(sizes[class]));
        (quotas[class], left) = (quotas[class] + more, left - more);
    }
    Ok(quotas)
}

#[cfg(test)]
mod tests {
    use super::{Holdout, apportion};

    #[test]
    fn a_count_is_divided_as_the_classes_are() {
        assert_eq!(apportion(&[100, 100, 50], 25).unwrap(), [10, 10, 5]);
        assert_eq!(apportion(&[10, 10, 10], 4).unwrap(), [2, 1, 1]);
        assert_eq!(apportion(&[1, 1, 100], 60).unwrap(), [0, 0, 60]);
        assert_eq!(apportion(&[2, 2, 6], 7).unwrap(), [1, 1, 5]);
        let error = apportion(&[2, 2, 6], 8).unwrap_err().to_string();
        assert!(error.contains("10 training pictures") && error.contains("11 needed"), "{error}");
    }

    #[test]
    fn text_and_json_are_fractions_or_counts() {
        for (text, want) in [("0.1", Holdout::Fraction(0.1)), ("5000", Holdout::Count(5000)), ("0", Holdout::None)] {
            let parsed: Holdout = text.parse().unwrap();
            assert_eq!(parsed, want);
            let json = serde_json::to_string(&parsed).unwrap();
            assert_eq!(serde_json::from_str::<Holdout>(&json).unwrap(), want, "{json}");
        }
        for text in ["1.0", "-1", "1.5", "NaN", "inf", "", "10%", "0.0"] {
            assert!(text.parse::<Holdout>().is_err(), "{text}");
        }
        assert!(serde_json::from_str::<Holdout>("1.5").is_err());
    }
}
