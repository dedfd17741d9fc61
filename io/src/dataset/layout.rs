//! Which data set a folder holds, and in which of its folders each part lies.

use std::path::{Path, PathBuf};

use super::{
    Cifar, CifarKind, Dataset, ImageFolder, Split, cifar,
    image_folder::{holds_pictures, subfolders},
};
use crate::DataError;

/// A data set whose pictures are not looked at yet. Every command finds its data by this one rule.
///
/// - CIFAR's binary files, in the folder or in the one that their archive unpacks to;
/// - else parts: `train` (or `training`) beside `val`, `valid`, `validation`, `test` or `testing`, in small or capital
///   letters, each with a folder of pictures for every class. Training validates on the first of `val`, `valid`,
///   `validation`, `test`, `testing` that is there; [`Split::Test`] looks for `test` and `testing` first. A part without
///   class folders (ImageNet's unlabelled `test`) is left out. Both are said ([`Dataset::remarks`]);
/// - else one tree: the folders are the classes, and the pictures are in no parts.
///
/// A folder that could be read in two ways is refused, with the names that say so.
#[derive(Clone, Debug)]
pub struct Layout {
    root: PathBuf,
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    Cifar(CifarKind, PathBuf),
    Parts {
        /// those with class folders, most preferred for validation first
        labelled: Vec<(Split, String)>,
        /// those without
        unlabelled: Vec<String>,
    },
    Classes,
}

/// Names of parts, in small letters; earlier ones are preferred.
const PARTS: [(&str, Split); 7] = [
    ("train", Split::Train),
    ("training", Split::Train),
    ("val", Split::Validation),
    ("valid", Split::Validation),
    ("validation", Split::Validation),
    ("test", Split::Test),
    ("testing", Split::Test),
];

/// The part a folder's name stands for, as an index into [`PARTS`].
fn part(name: &str) -> Option<usize> {
    PARTS.iter().position(|(part, _)| part.eq_ignore_ascii_case(name))
}

impl Layout {
    /// Looks into `dir`.
    ///
    /// # Errors
    /// [`DataError::NoFolder`], [`DataError::NoClasses`]; [`DataError::Ambiguous`], [`DataError::Mixed`] or
    /// [`DataError::Nested`] for what could be read in two ways; [`DataError::CifarVersion`] for CIFAR in files for
    /// other programs; [`DataError::Io`].
    pub fn find(dir: &Path) -> Result<Self, DataError> {
        if !dir.is_dir() {
            return Err(DataError::NoFolder(dir.into()));
        }
        if let Some((kind, folder)) = Cifar::find(dir)? {
            return Ok(Layout { root: dir.into(), kind: Kind::Cifar(kind, folder) });
        }
        cifar::refuse_other_versions(dir)?;
        Layout::of_trees(dir)
    }

    /// The layout of folders of pictures.
    pub(super) fn of_trees(dir: &Path) -> Result<Self, DataError> {
        let mut parts = Vec::new();
        let mut others = Vec::new();
        for name in subfolders(dir)? {
            match part(&name) {
                Some(index) => parts.push((index, name)),
                None => others.push(name),
            }
        }
        parts.sort_unstable();
        let (mut labelled, mut unlabelled) = (Vec::new(), Vec::new());
        for (index, name) in parts {
            match subfolders(&dir.join(&name))?.is_empty() {
                true => unlabelled.push((PARTS[index].1, name)),
                false => labelled.push((PARTS[index].1, name)),
            }
        }
        let kind = match (labelled.first(), unlabelled.first()) {
            (None, None) => Kind::Classes,
            // Folders of pictures beside each other, one of which happens to be called `train`, are classes.
            (None, Some((Split::Train, _))) if unlabelled.len() == 1 && !others.is_empty() => Kind::Classes,
            (None, Some((_, name))) => match others.first() {
                Some(class) => return Err(mixed(dir, name, class)),
                None => return Err(DataError::NoClasses(dir.join(name))),
            },
            (Some((_, name)), _) => {
                for class in &others {
                    if holds_pictures(&dir.join(class))? {
                        return Err(mixed(dir, name, class));
                    }
                }
                if let Some((_, name)) = unlabelled.iter().find(|(split, _)| *split == Split::Train) {
                    return Err(DataError::NoClasses(dir.join(name)));
                }
                if let [(_, first), (Split::Train, second), ..] = &labelled[..] {
                    let (first, second) = (first.clone(), second.clone());
                    return Err(DataError::Ambiguous { path: dir.into(), first, second });
                }
                Kind::Parts { labelled, unlabelled: unlabelled.into_iter().map(|(_, name)| name).collect() }
            }
        };
        if matches!(kind, Kind::Classes) {
            others.iter().try_for_each(|class| refuse_nested(&dir.join(class)))?;
        }
        Ok(Layout { root: dir.into(), kind })
    }

    /// Whether training pictures lie apart from those to validate on.
    pub fn has_parts(&self) -> bool {
        match &self.kind {
            Kind::Cifar(..) => true,
            Kind::Parts { labelled, .. } => {
                let trains = labelled.iter().filter(|(split, _)| *split == Split::Train).count();
                trains == 1 && labelled.len() > 1
            }
            Kind::Classes => false,
        }
    }

    /// Opens a part; a tree without parts is the same whichever is asked for.
    ///
    /// # Errors
    /// What [`Cifar::open`] and [`ImageFolder::open`] report.
    pub fn open(&self, split: Split) -> Result<Box<dyn Dataset>, DataError> {
        Ok(match &self.kind {
            Kind::Cifar(kind, dir) => Box::new(Cifar::open(dir, *kind, split)?),
            _ => Box::new(self.tree(split)?),
        })
    }

    /// Opens a part that is a tree of class folders.
    pub(super) fn tree(&self, split: Split) -> Result<ImageFolder, DataError> {
        let Kind::Parts { labelled, unlabelled } = &self.kind else { return ImageFolder::tree(&self.root) };
        let train = labelled.iter().find(|(split, _)| *split == Split::Train).map(|(_, name)| self.root.join(name));
        if split == Split::Train {
            let train = train.ok_or_else(|| self.missing("train", &labelled[0].1))?;
            return ImageFolder::tree(&train);
        }
        let held = || labelled.iter().filter(|(split, _)| *split != Split::Train);
        let chosen = held().find(|(part, _)| *part == split).or_else(|| held().next());
        let Some((_, name)) = chosen else {
            return Err(self.missing("val, valid, validation or test with class folders", &labelled[0].1));
        };
        let folder = self.root.join(name);
        let mut opened = match &train {
            Some(train) => ImageFolder::labelled_by(&folder, subfolders(train)?, train)?,
            None => ImageFolder::tree(&folder)?,
        };
        for (_, other) in held().filter(|(_, other)| other != name) {
            opened.remark(format!("{}: measured on `{name}`; `{other}` is left out", self.root.display()));
        }
        for other in unlabelled {
            let reason = "it holds no class folders";
            opened.remark(format!("{}: measured on `{name}`; `{other}` is left out: {reason}", self.root.display()));
        }
        Ok(opened)
    }

    fn missing(&self, what: &'static str, found: &str) -> DataError {
        DataError::NoPart { path: self.root.clone(), what, found: found.into() }
    }
}

fn mixed(dir: &Path, part: &str, class: &str) -> DataError {
    DataError::Mixed { path: dir.into(), part: part.into(), class: class.into() }
}

/// A class that holds `train` and `test` is a data set of its own.
fn refuse_nested(class: &Path) -> Result<(), DataError> {
    let names = subfolders(class)?;
    let find = |train: bool| names.iter().find(|n| part(n).is_some_and(|i| (PARTS[i].1 == Split::Train) == train));
    match (find(true), find(false)) {
        (Some(train), Some(held)) => {
            Err(DataError::Nested { path: class.into(), first: train.clone(), second: held.clone() })
        }
        _ => Ok(()),
    }
}
