//! What a run remembers of its pictures, so that it goes on with no others.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::data::Dataset;

/// The pictures of a run. It lies in checkpoints.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Identity {
    /// names, in the order of the network's outputs
    pub classes: Vec<String>,
    pub train: Pictures,
    pub validation: Pictures,
}

/// Some pictures of a data set; where it lies does not matter.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Pictures {
    /// how many there are of every class
    counts: Vec<u64>,
    /// CRC-32 of the files' names and the labels, in order
    names: u32,
}

impl Pictures {
    pub fn of(data: &dyn Dataset, indices: &[u32]) -> Self {
        let mut counts = vec![0; data.classes().len()];
        let mut names = crc32fast::Hasher::new();
        for index in indices.iter().map(|&i| i as usize) {
            let (name, label) = (data.name(index), data.label(index));
            counts[label] += 1;
            names.update(Path::new(&name).file_name().unwrap_or_default().as_encoded_bytes());
            names.update(&(label as u64).to_le_bytes());
        }
        Pictures { counts, names: names.finalize() }
    }

    /// Classes without a picture.
    pub fn absent(&self) -> impl Iterator<Item = usize> {
        self.counts.iter().enumerate().filter(|(_, n)| **n == 0).map(|(class, _)| class)
    }

    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }
}

impl Identity {
    /// Says where a run's pictures, `self`, differ from `other`, those at hand.
    pub fn difference(&self, other: &Identity) -> Option<String> {
        let (before, now) = (self.classes.len(), other.classes.len());
        if before != now {
            return Some(format!("is of a run with {before} classes, these data have {now}"));
        }
        if let Some((before, now)) = self.classes.iter().zip(&other.classes).find(|(before, now)| before != now) {
            let (before, now) = (before.escape_debug(), now.escape_debug());
            return Some(format!("is of a run with a class `{before}` where these data have `{now}`"));
        }
        for (what, before, now) in
            [("training", &self.train, &other.train), ("validation", &self.validation, &other.validation)]
        {
            let (total, here) = (before.total(), now.total());
            if total != here {
                return Some(format!("is of a run on {total} {what} pictures, this one has {here}"));
            }
            let mut counts = before.counts.iter().zip(&now.counts).zip(&self.classes);
            if let Some(((before, now), class)) = counts.find(|((before, now), _)| before != now) {
                let class = class.escape_debug();
                return Some(format!("is of a run on {before} {what} pictures of `{class}`, this one has {now}"));
            }
            if before.names != now.names {
                return Some(format!("is of a run on {what} pictures of other names, or divided otherwise"));
            }
        }
        None
    }
}
