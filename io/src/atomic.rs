//! Files that are either complete or absent.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

const PREFIX: &str = ".residual-";
const SUFFIX: &str = ".tmp";

/// Writes a file so that `path` never holds half of it: the bytes go to a temporary name in the same
/// folder, are flushed to the disk, and the name is then changed. On an error nothing is left behind.
///
/// A link stays a link: the file it names is written. A file that is replaced leaves its permissions to the new one.
/// What is no regular file, such as a pipe or a device, is written to as it is.
pub fn write_atomic(path: &Path, write: impl FnOnce(&mut BufWriter<&mut File>) -> io::Result<()>) -> io::Result<()> {
    let old = fs::metadata(path).ok();
    if old.as_ref().is_some_and(|old| !old.is_file()) {
        let mut file = OpenOptions::new().write(true).open(path)?;
        return fill(&mut file, write);
    }
    let path = &target(path)?;
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    sweep(folder);
    let mut new = Temporary::create(folder)?;
    // Says that somebody is still writing; where locks are unknown, only age does.
    let _ = new.file.try_lock();
    fill(&mut new.file, write)?;
    if let Some(old) = old {
        new.file.set_permissions(old.permissions())?;
    }
    new.file.sync_all()?;
    new.rename(path)?;
    // The new name itself is durable only once the folder is flushed.
    #[cfg(unix)]
    File::open(folder)?.sync_all()?;
    Ok(())
}

/// A new file that is removed again unless it gets its name.
struct Temporary {
    file: File,
    path: PathBuf,
    named: bool,
}

impl Temporary {
    /// A file that nobody else has made, with the permissions of any new file.
    fn create(folder: &Path) -> io::Result<Self> {
        /// Names that processes killed long ago may have left, on systems that count their processes anew.
        const TRIES: usize = 1000;
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        for _ in 0..TRIES {
            let number = NUMBER.fetch_add(1, Ordering::Relaxed);
            let path = folder.join(format!("{PREFIX}{}-{number}{SUFFIX}", process::id()));
            match OpenOptions::new().write(true).create_new(true).open(&path) {
                Ok(file) => return Ok(Temporary { file, path, named: false }),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::other("the folder is full of temporary files"))
    }

    fn rename(mut self, path: &Path) -> io::Result<()> {
        fs::rename(&self.path, path)?;
        self.named = true;
        Ok(())
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.named {
            // There is nobody to tell, and an error to report already.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn fill(file: &mut File, write: impl FnOnce(&mut BufWriter<&mut File>) -> io::Result<()>) -> io::Result<()> {
    let mut out = BufWriter::with_capacity(1 << 16, file);
    write(&mut out)?;
    out.flush()
}

/// The file that a path names, behind all links, whether it exists or not.
fn target(path: &Path) -> io::Result<PathBuf> {
    /// As many as Linux follows.
    const LINKS: usize = 40;
    let mut path = path.to_path_buf();
    for _ in 0..LINKS {
        let Ok(next) = fs::read_link(&path) else { return Ok(path) };
        // A relative link begins where the link is.
        path = path.parent().unwrap_or(Path::new("")).join(next);
    }
    Err(io::Error::other("too many links"))
}

/// Removes the temporary files that killed processes left in a folder where nobody else writes.
///
/// # Errors
/// What the operating system says of the folder or a file.
pub fn remove_leftovers(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if is_temporary(&entry) && entry.file_type()?.is_file() {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn is_temporary(entry: &fs::DirEntry) -> bool {
    entry.file_name().to_str().is_some_and(|name| name.starts_with(PREFIX) && name.ends_with(SUFFIX))
}

/// Removes temporary files of processes that were killed: old ones that nobody has locked.
fn sweep(folder: &Path) {
    /// A process may have made its file and not locked it yet.
    const AGE: Duration = Duration::from_secs(600);
    let stale = |entry: &fs::DirEntry| {
        let old = || entry.metadata().ok()?.modified().ok()?.elapsed().ok();
        is_temporary(entry)
            && old().is_some_and(|age| age > AGE)
            && File::open(entry.path()).is_ok_and(|f| f.try_lock().is_ok())
    };
    // What cannot be removed is not in the way.
    for entry in fs::read_dir(folder).into_iter().flatten().flatten().filter(stale) {
        let _ = fs::remove_file(entry.path());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_leaves_the_old_file_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("weights");
        write_atomic(&path, |out| out.write_all(b"old")).unwrap();
        let error = write_atomic(&path, |out| {
            out.write_all(b"half")?;
            Err(io::Error::other("disk full"))
        });
        assert_eq!(error.unwrap_err().to_string(), "disk full");
        assert_eq!(fs::read(&path).unwrap(), b"old");
        write_atomic(&path, |out| out.write_all(b"new")).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        assert!(write_atomic(&dir.path().join("absent/weights"), |_| Ok(())).is_err());
    }

    #[cfg(unix)]
    #[test]
    fn links_are_followed_and_permissions_kept() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let dir = tempfile::tempdir().unwrap();
        let (real, link, far) = (dir.path().join("real"), dir.path().join("link"), dir.path().join("far"));
        fs::write(&real, "old").unwrap();
        fs::set_permissions(&real, fs::Permissions::from_mode(0o640)).unwrap();
        symlink("real", &link).unwrap();
        symlink(&link, &far).unwrap();
        write_atomic(&far, |out| out.write_all(b"new")).unwrap();
        assert_eq!(fs::read(&real).unwrap(), b"new");
        assert!(fs::symlink_metadata(&far).unwrap().is_symlink() && fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::metadata(&real).unwrap().permissions().mode() & 0o777, 0o640);
        // A link to what is not there yet makes it; a ring of links is an error.
        let dangling = dir.path().join("dangling");
        symlink("made", &dangling).unwrap();
        write_atomic(&dangling, |out| out.write_all(b"new")).unwrap();
        assert_eq!(fs::read(dir.path().join("made")).unwrap(), b"new");
        let ring = dir.path().join("ring");
        symlink("ring", &ring).unwrap();
        assert!(write_atomic(&ring, |_| Ok(())).is_err());
    }

    #[cfg(unix)]
    #[test]
    fn pipes_and_devices_are_written_to_as_they_are() {
        use std::os::unix::fs::FileTypeExt;
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let reader = std::thread::spawn({
            let pipe = pipe.clone();
            move || fs::read(pipe).unwrap()
        });
        write_atomic(&pipe, |out| out.write_all(b"through")).unwrap();
        assert_eq!(reader.join().unwrap(), b"through");
        assert!(fs::metadata(&pipe).unwrap().file_type().is_fifo());
        write_atomic(Path::new("/dev/null"), |out| out.write_all(b"gone")).unwrap();
        assert!(fs::metadata("/dev/null").unwrap().file_type().is_char_device());
        assert!(write_atomic(dir.path(), |_| Ok(())).is_err());
    }

    #[test]
    fn temporary_files_of_killed_processes_are_removed() {
        let dir = tempfile::tempdir().unwrap();
        let make = |name: &str, seconds: u64| {
            let file = File::create(dir.path().join(name)).unwrap();
            file.set_modified(std::time::SystemTime::now() - Duration::from_secs(seconds)).unwrap();
            file
        };
        drop((make(".residual-a.tmp", 3600), make(".residual-new.tmp", 1), make("other.tmp", 3600)));
        let busy = make(".residual-busy.tmp", 3600);
        busy.try_lock().unwrap();
        write_atomic(&dir.path().join("w"), |_| Ok(())).unwrap();
        let mut names: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, [".residual-busy.tmp", ".residual-new.tmp", "other.tmp", "w"]);
    }
}
