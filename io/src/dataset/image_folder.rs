//! One folder for every class, as torchvision's `ImageFolder`.

use std::{
    collections::BTreeMap,
    fs, io,
    ops::ControlFlow,
    path::{Path, PathBuf},
};

use super::{Dataset, Layout, Split};
use crate::{DataError, Image, listed};

/// File name extensions that count as pictures, in any case.
const EXTENSIONS: [&str; 5] = ["jpg", "jpeg", "png", "bmp", "webp"];

/// Pictures in `DIR/CLASS/**`, labelled by the position of `CLASS` in the sorted list of folders.
///
/// Pictures are found when the folder is opened and decoded when asked for. Links are followed;
/// hidden folders are no classes.
#[derive(Debug)]
pub struct ImageFolder {
    dir: PathBuf,
    classes: Vec<String>,
    pictures: Vec<(PathBuf, usize)>,
    remarks: Vec<String>,
}

impl ImageFolder {
    /// A part of the data set in `dir`, found as [`Layout`] says; the training part defines the classes of all.
    ///
    /// # Errors
    /// What [`Layout::find`] reports; [`DataError::NoPart`], [`DataError::EmptyClass`], [`DataError::UnknownClass`] or
    /// [`DataError::Io`], naming the folder.
    pub fn open(dir: impl AsRef<Path>, split: Split) -> Result<Self, DataError> {
        let dir = dir.as_ref();
        if !dir.is_dir() {
            return Err(DataError::NoFolder(dir.into()));
        }
        Layout::of_trees(dir)?.tree(split)
    }

    /// A tree that defines its own classes.
    pub(super) fn tree(dir: &Path) -> Result<Self, DataError> {
        let classes = subfolders(dir)?;
        if classes.is_empty() {
            return Err(DataError::NoClasses(dir.into()));
        }
        ImageFolder::labelled_by(dir, classes, dir)
    }

    /// A tree with the classes of `train`; it may lack some, which a remark says.
    pub(super) fn labelled_by(dir: &Path, classes: Vec<String>, train: &Path) -> Result<Self, DataError> {
        let own = subfolders(dir)?;
        let unknown: Vec<_> =
            own.iter().filter(|c| classes.binary_search(c).is_err()).map(|c| format!("`{c}`")).collect();
        if !unknown.is_empty() {
            let (class, several, classes) = (listed(&unknown), unknown.len() > 1, classes.len());
            return Err(DataError::UnknownClass { path: dir.into(), class, several, train: train.into(), classes });
        }
        let mut found = ImageFolder { dir: dir.into(), classes, pictures: Vec::new(), remarks: Vec::new() };
        let mut left_out = BTreeMap::new();
        for class in &own {
            let folder = dir.join(class);
            let Ok(label) = found.classes.binary_search(class) else { continue };
            let files = Files::below(&folder)?;
            if files.pictures.is_empty() {
                let (extensions, left_out) = (EXTENSIONS.join(", "), counted(&files.others));
                return Err(DataError::EmptyClass { path: folder, extensions, left_out });
            }
            found.pictures.extend(files.pictures.into_iter().map(|path| (path, label)));
            files.others.into_iter().for_each(|(kind, n)| *left_out.entry(kind).or_insert(0) += n);
        }
        if !left_out.is_empty() {
            let (n, kinds) = (left_out.values().sum::<usize>(), counted(&left_out));
            let read = EXTENSIONS.join(", ");
            found.remark(format!("{}: {n} files are left out ({kinds}); pictures are {read}", dir.display()));
        }
        let missing: Vec<_> = found.classes.iter().filter(|c| own.binary_search(c).is_err()).collect();
        if !missing.is_empty() {
            let text =
                format!("{}: no pictures of {} of the classes: {}", dir.display(), missing.len(), listed(&missing));
            found.remark(text);
        }
        Ok(found)
    }

    pub(super) fn remark(&mut self, text: String) {
        self.remarks.push(text);
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

    fn place(&self) -> String {
        self.dir.display().to_string()
    }

    fn remarks(&self) -> &[String] {
        &self.remarks
    }
}

/// The names of the folders in `dir` that are not hidden, sorted by code point as Python sorts them.
pub(super) fn subfolders(dir: &Path) -> Result<Vec<String>, DataError> {
    let unreadable = |source| DataError::Io { path: dir.into(), source };
    let mut names = Vec::new();
    for entry in dir.read_dir().map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let kind = entry.file_type().map_err(unreadable)?;
        // `is_dir` of the path follows links.
        if !(kind.is_dir() || kind.is_symlink() && entry.path().is_dir()) {
            continue;
        }
        let name = entry.file_name().into_string().map_err(|_| DataError::Io {
            path: entry.path(),
            source: io::Error::other("the folder's name is not UTF-8, so no class can be called that"),
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
    Ok(Files::below(dir)?.pictures)
}

/// Whether there is any picture below `dir`.
pub(super) fn holds_pictures(dir: &Path) -> Result<bool, DataError> {
    let found = walk(dir, &mut Vec::new(), &mut |file| match is_picture(&file) {
        true => ControlFlow::Break(()),
        false => ControlFlow::Continue(()),
    });
    Ok(found?.is_break())
}

/// The files of a folder and of those in it.
#[derive(Default)]
struct Files {
    pictures: Vec<PathBuf>,
    /// how many others there are, by extension
    others: BTreeMap<String, usize>,
}

impl Files {
    fn below(dir: &Path) -> Result<Self, DataError> {
        let mut found = Files::default();
        let _ = walk(dir, &mut Vec::new(), &mut |path| {
            if is_picture(&path) {
                found.pictures.push(path);
            } else if !is_hidden(&path) {
                let kind = path.extension().map_or_else(
                    || "without extension".to_owned(),
                    |e| format!(".{}", e.to_string_lossy().to_ascii_lowercase().escape_debug()),
                );
                *found.others.entry(kind).or_insert(0) += 1;
            }
            ControlFlow::Continue(())
        })?;
        found.pictures.sort_by(|a, b| {
            let key = |p: &Path| (p.parent().map(|d| d.as_os_str().to_owned()), p.file_name().map(ToOwned::to_owned));
            key(a).cmp(&key(b))
        });
        Ok(found)
    }
}

/// Visits all files below `dir`, in no certain order, until `visit` breaks off. Links are followed, but not back into
/// one of the folders on the way, which `above` holds.
fn walk(
    dir: &Path,
    above: &mut Vec<PathBuf>,
    visit: &mut dyn FnMut(PathBuf) -> ControlFlow<()>,
) -> Result<ControlFlow<()>, DataError> {
    let fault = |path: &Path, source| DataError::Io { path: path.into(), source };
    let real = dir.canonicalize().map_err(|e| fault(dir, e))?;
    if above.contains(&real) {
        return Err(fault(dir, io::Error::other("the folder links back to itself")));
    }
    above.push(real);
    for entry in dir.read_dir().map_err(|e| fault(dir, e))? {
        let entry = entry.map_err(|e| fault(dir, e))?;
        let path = entry.path();
        // Only a link needs a look at the file itself.
        let kind = match entry.file_type().map_err(|e| fault(&path, e))? {
            link if link.is_symlink() => fs::metadata(&path).map_err(|e| fault(&path, e))?.file_type(),
            kind => kind,
        };
        let next = match () {
            () if kind.is_dir() => walk(&path, above, visit)?,
            () if kind.is_file() => visit(path),
            () => continue,
        };
        if next.is_break() {
            return Ok(next);
        }
    }
    above.pop();
    Ok(ControlFlow::Continue(()))
}

fn is_picture(path: &Path) -> bool {
    let extension = path.extension().and_then(|e| e.to_str());
    extension.is_some_and(|e| EXTENSIONS.iter().any(|known| known.eq_ignore_ascii_case(e)))
}

/// Files that systems put into folders, which nobody misses.
fn is_hidden(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.starts_with('.') || ["thumbs.db", "desktop.ini"].iter().any(|known| known.eq_ignore_ascii_case(&name))
}

/// `3 .gif, 2 .tif`.
fn counted(kinds: &BTreeMap<String, usize>) -> String {
    listed(&kinds.iter().map(|(kind, n)| format!("{n} {kind}")).collect::<Vec<_>>())
}
