//! One folder for every class, as torchvision's `ImageFolder`.

use std::path::{Path, PathBuf};

use walkdir::WalkDir;

use super::{Dataset, Split};
use crate::{DataError, Image};

/// File name extensions that count as pictures, in any case.
const EXTENSIONS: [&str; 5] = ["jpg", "jpeg", "png", "bmp", "webp"];

/// Pictures in `DIR/CLASS/**`, labelled by the position of `CLASS` in the sorted list of folders.
///
/// Pictures are found when the folder is opened and decoded when asked for. Links are followed;
/// hidden folders are no classes.
#[derive(Debug)]
pub struct ImageFolder {
    classes: Vec<String>,
    pictures: Vec<(PathBuf, usize)>,
}

impl ImageFolder {
    /// The data set in `dir`.
    ///
    /// Where `dir` holds `train` and one of `test` and `val`, `split` picks between them, and the
    /// training part defines the classes of both. Otherwise `dir` is itself the tree of classes.
    ///
    /// # Errors
    /// [`DataError::NoFolder`], [`DataError::NoClasses`], [`DataError::EmptyClass`],
    /// [`DataError::UnknownClass`] or [`DataError::Io`], naming the folder.
    pub fn open(dir: impl AsRef<Path>, split: Split) -> Result<Self, DataError> {
        let dir = dir.as_ref();
        if !dir.is_dir() {
            return Err(DataError::NoFolder(dir.into()));
        }
        let part = |name: &str| {
            let part = dir.join(name);
            // ImageNet's unlabelled `test` holds no class folders; `val` is meant then.
            let labelled = part.is_dir() && !class_folders(&part)?.is_empty();
            Ok(labelled.then_some(part))
        };
        let train = dir.join("train");
        let test = if train.is_dir() { part("test")?.map_or_else(|| part("val"), |p| Ok(Some(p)))? } else { None };
        match (split, test) {
            (_, None) => ImageFolder::tree(dir),
            (Split::Train, Some(_)) => ImageFolder::tree(&train),
            (Split::Test, Some(test)) => {
                let classes = class_folders(&train)?;
                ImageFolder::labelled_by(&test, classes, &train)
            }
        }
    }

    /// A tree that defines its own classes.
    fn tree(dir: &Path) -> Result<Self, DataError> {
        let classes = class_folders(dir)?;
        if classes.is_empty() {
            return Err(DataError::NoClasses(dir.into()));
        }
        ImageFolder::labelled_by(dir, classes, dir)
    }

    /// A tree with the classes of `train`; it may lack some.
    fn labelled_by(dir: &Path, classes: Vec<String>, train: &Path) -> Result<Self, DataError> {
        let mut pictures = Vec::new();
        for class in class_folders(dir)? {
            let folder = dir.join(&class);
            let label = match classes.binary_search(&class) {
                Ok(label) => label,
                Err(_) => {
                    let classes = classes.len();
                    return Err(DataError::UnknownClass { path: folder, class, train: train.into(), classes });
                }
            };
            let found = pictures_below(&folder)?;
            if found.is_empty() {
                return Err(DataError::EmptyClass { path: folder, extensions: EXTENSIONS.join(", ") });
            }
            pictures.extend(found.into_iter().map(|path| (path, label)));
        }
        Ok(ImageFolder { classes, pictures })
    }

    /// The file of picture `index`.
    pub fn path(&self, index: usize) -> Option<&Path> {
        self.pictures.get(index).map(|(path, _)| path.as_path())
    }
}

impl Dataset for ImageFolder {
    fn len(&self) -> usize {
        self.pictures.len()
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn label(&self, index: usize) -> usize {
        self.pictures[index].1
    }

    fn image(&self, index: usize) -> Result<Image, DataError> {
        let path = self.path(index).ok_or(DataError::Index { index, len: self.len() })?;
        Image::open(path)
    }

    fn name(&self, index: usize) -> String {
        self.path(index).map_or_else(String::new, |path| path.display().to_string())
    }
}

/// The names of the folders in `dir`, sorted by code point as Python sorts them.
fn class_folders(dir: &Path) -> Result<Vec<String>, DataError> {
    let unreadable = |source| DataError::Io { path: dir.into(), source };
    let mut names = Vec::new();
    for entry in dir.read_dir().map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        // `is_dir` of the path follows links.
        if !entry.path().is_dir() {
            continue;
        }
        let name = entry.file_name().into_string().map_err(|_| DataError::Io {
            path: entry.path(),
            source: std::io::Error::other("the folder's name is not UTF-8, so no class can be called that"),
        })?;
        if !name.starts_with('.') {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// All pictures below `dir`, told by their extension: folders in the order of their paths, names in order within
/// each. Links are followed.
///
/// # Errors
/// [`DataError::Io`] for a folder that cannot be read, naming it.
pub fn pictures_below(dir: &Path) -> Result<Vec<PathBuf>, DataError> {
    let mut found = Vec::new();
    for entry in WalkDir::new(dir).follow_links(true) {
        let entry = entry.map_err(|e| DataError::Io {
            path: e.path().unwrap_or(dir).into(),
            source: e.into_io_error().unwrap_or_else(|| std::io::Error::other("the folder links back to itself")),
        })?;
        let is_picture = entry
            .path()
            .extension()
            .and_then(|e| e.to_str())
            .is_some_and(|e| EXTENSIONS.iter().any(|known| known.eq_ignore_ascii_case(e)));
        if is_picture && entry.file_type().is_file() {
            found.push(entry.into_path());
        }
    }
    found.sort_by(|a, b| {
        let key = |p: &Path| (p.parent().map(|d| d.as_os_str().to_owned()), p.file_name().map(ToOwned::to_owned));
        key(a).cmp(&key(b))
    });
    Ok(found)
}
