//! The folder of a run: one run at a time, and none is written over unasked.

use std::{
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
};

use residual_io::remove_leftovers;

use super::{CHECKPOINT, Config, TrainError, tensorboard};

/// A run's folder, locked until it is dropped. The system releases the lock of a process that is killed.
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
    /// it holds a run that is not, or not yet, ours
    foreign: bool,
    _lock: File,
}

/// The file that is locked; empty, and left behind: a lock on a file that is removed and made anew locks nothing.
const LOCK: &str = ".lock";

/// What a run leaves, besides its configuration and event files.
const FILES: [&str; 4] = [CHECKPOINT, "metrics.csv", "model.safetensors", "report.html"];

impl RunFolder {
    /// A folder for a new run, made if it does not exist.
    ///
    /// # Errors
    /// [`TrainError::HoldsRun`] if it holds a run, [`TrainError::InUse`] if one is at work there, [`TrainError::Io`].
    pub fn create(path: &Path) -> Result<Self, TrainError> {
        let folder = RunFolder::lock(path)?;
        match folder.run()? {
            Some(file) => Err(TrainError::HoldsRun { folder: path.display().to_string(), file: file.into() }),
            None => Ok(folder),
        }
    }

    /// A folder for a new run in place of the one it holds, which is removed when the new one begins. The checkpoint
    /// of the old one stays as `checkpoint.old`, or `checkpoint.old.2` and so on.
    ///
    /// # Errors
    /// [`TrainError::InUse`] and [`TrainError::Io`].
    pub fn overwrite(path: &Path) -> Result<Self, TrainError> {
        let folder = RunFolder::lock(path)?;
        Ok(RunFolder { foreign: folder.run()?.is_some(), ..folder })
    }

    /// The folder of a run that will go on: [`super::Trainer::resume`] takes it over.
    ///
    /// # Errors
    /// [`TrainError::Io`] without a checkpoint in it, [`TrainError::InUse`].
    pub fn resume(path: &Path) -> Result<Self, TrainError> {
        let checkpoint = path.join(CHECKPOINT);
        fs::metadata(&checkpoint).map_err(|e| TrainError::io(&checkpoint, e))?;
        RunFolder::overwrite(path)
    }

    fn lock(path: &Path) -> Result<Self, TrainError> {
        fs::create_dir_all(path).map_err(|source| TrainError::io(path, source))?;
        let file = path.join(LOCK);
        let fault = |source| TrainError::io(&file, source);
        let lock = File::options().write(true).create(true).truncate(false).open(&file).map_err(fault)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(TrainError::InUse { folder: path.display().to_string() }),
            // Some network file systems have no locks; a run is possible there, if not protected.
            Err(TryLockError::Error(e)) if e.kind() == io::ErrorKind::Unsupported => {}
            Err(TryLockError::Error(e)) => return Err(fault(e)),
        }
        remove_leftovers(path).map_err(|source| TrainError::io(path, source))?;
        Ok(RunFolder { path: path.into(), foreign: false, _lock: lock })
    }

    /// A file that would be lost if another run wrote here.
    fn run(&self) -> Result<Option<&'static str>, TrainError> {
        if let Some(file) = FILES.into_iter().find(|file| self.path.join(file).exists()) {
            return Ok(Some(file));
        }
        // A run that was killed before its first checkpoint leaves nothing to lose; another program's file is.
        match fs::read_to_string(self.path.join("config.json")) {
            Ok(text) if serde_json::from_str::<Config>(&text).is_ok() => Ok(None),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            _ => Ok(Some("config.json")),
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Takes over the run it holds, whose checkpoint was read from `folder`.
    pub(super) fn adopt(&mut self, folder: &Path) {
        let same = match (fs::canonicalize(folder), fs::canonicalize(&self.path)) {
            (Ok(a), Ok(b)) => a == b,
            _ => false,
        };
        self.foreign &= !same;
    }

    /// Clears away the run of somebody else, if there is one: from here on the folder is the new run's.
    pub(super) fn begin(&mut self) -> Result<(), TrainError> {
        if !self.foreign {
            return Ok(());
        }
        let fault = |path: &Path, source| TrainError::io(path, source);
        let checkpoint = self.path.join(CHECKPOINT);
        if checkpoint.exists() {
            let mut names = (1..).map(|i| self.path.join(if i == 1 { OLD.to_owned() } else { format!("{OLD}.{i}") }));
            // An older one is never lost.
            let free = names.find(|name| !name.exists()).unwrap_or_default();
            fs::rename(&checkpoint, &free).map_err(|e| fault(&checkpoint, e))?;
        }
        for entry in fs::read_dir(&self.path).map_err(|e| fault(&self.path, e))? {
            let path = entry.map_err(|e| fault(&self.path, e))?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if FILES.contains(&&*name) || tensorboard::is_ours(&name) {
                fs::remove_file(&path).map_err(|e| fault(&path, e))?;
            }
        }
        self.foreign = false;
        Ok(())
    }
}

/// What the checkpoint of a run before is called.
const OLD: &str = "checkpoint.old";

#[cfg(test)]
mod tests {
    use std::fs;

    use super::RunFolder;

    #[test]
    fn a_folder_belongs_to_one_run_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let first = RunFolder::create(dir.path()).unwrap();
        let error = RunFolder::overwrite(dir.path()).unwrap_err().to_string();
        assert!(error.contains("another run is at work"), "{error}");
        drop(first);
        drop(RunFolder::create(dir.path()).unwrap());
        // Whatever of a run it holds.
        for file in ["checkpoint", "metrics.csv", "model.safetensors", "report.html", "config.json"] {
            fs::write(dir.path().join(file), "x").unwrap();
            let error = RunFolder::create(dir.path()).unwrap_err().to_string();
            assert!(error.contains(&format!("`{file}`")) && error.contains("--overwrite"), "{error}");
            fs::remove_file(dir.path().join(file)).unwrap();
        }
        assert!(RunFolder::resume(dir.path()).unwrap_err().to_string().contains("checkpoint"));
    }

    #[test]
    fn what_killed_runs_left_is_removed_and_no_checkpoint_is_lost() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(".residual-a1B2c3.tmp"), "half").unwrap();
        fs::write(dir.path().join("notes.txt"), "mine").unwrap();
        for run in ["one", "two", "three"] {
            let mut folder = RunFolder::overwrite(dir.path()).unwrap();
            folder.begin().unwrap();
            fs::write(dir.path().join("checkpoint"), run).unwrap();
            fs::write(dir.path().join("metrics.csv"), run).unwrap();
        }
        let read = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap_or_default();
        assert_eq!(["checkpoint.old", "checkpoint.old.2", "checkpoint"].map(read), ["one", "two", "three"]);
        assert_eq!((read("notes.txt"), read(".residual-a1B2c3.tmp")), ("mine".into(), String::new()));
        // One that is taken over stays as it is.
        let mut folder = RunFolder::resume(dir.path()).unwrap();
        folder.adopt(&dir.path().join("."));
        folder.begin().unwrap();
        assert_eq!(["checkpoint", "metrics.csv", "checkpoint.old.3"].map(read), ["three", "three", ""]);
    }
}
