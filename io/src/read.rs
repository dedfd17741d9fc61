//! Reading files that somebody else chose: only regular ones, and only so many bytes.

use std::{
    fs::{self, File, FileType},
    io::{self, Read},
    path::Path,
};

/// Opens a regular file, or what a link to one names.
///
/// A pipe would wait for a writer that may never come, and a device may never end. So the kind is asked before the
/// file is opened, and asked again of what was opened.
///
/// # Errors
/// What the operating system says, or which other kind of file it is.
pub fn open_regular(path: &Path) -> io::Result<File> {
    let regular = |kind: FileType| match kind.is_file() {
        true => Ok(()),
        false => Err(io::Error::other(format!("it is {}, not a regular file", kind_name(kind)))),
    };
    regular(fs::metadata(path)?.file_type())?;
    let file = File::open(path)?;
    regular(file.metadata()?.file_type())?;
    Ok(file)
}

/// A whole regular file of at most `most` bytes.
///
/// # Errors
/// What [`open_regular`] says; a longer file; want of memory.
pub fn read_regular(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let file = open_regular(path)?;
    let too_long = |len: u64| io::Error::other(format!("its {len} bytes are more than the {most} that are read"));
    let len = file.metadata()?.len();
    if len > most {
        return Err(too_long(len));
    }
    let mut bytes = Vec::new();
    // Room for one more byte: `read_to_end` then meets the end without growing.
    let room = usize::try_from(len + 1).map_err(|_| too_long(len))?;
    bytes.try_reserve_exact(room).map_err(|_| io::Error::from(io::ErrorKind::OutOfMemory))?;
    // The file may grow meanwhile, or be one of those that do not say their length.
    file.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    match bytes.len() as u64 {
        len if len > most => Err(io::Error::other(format!("it is longer than the {most} bytes that are read"))),
        _ => Ok(bytes),
    }
}

/// [`read_regular`] for text in UTF-8.
///
/// # Errors
/// As [`read_regular`]; a byte that is no UTF-8.
pub fn read_text(path: &Path, most: u64) -> io::Result<String> {
    String::from_utf8(read_regular(path, most)?).map_err(|e| {
        io::Error::new(io::ErrorKind::InvalidData, format!("byte {} is not UTF-8 text", e.utf8_error().valid_up_to()))
    })
}

fn kind_name(kind: FileType) -> &'static str {
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        if kind.is_fifo() {
            return "a pipe";
        }
        if kind.is_char_device() || kind.is_block_device() {
            return "a device";
        }
        if kind.is_socket() {
            return "a socket";
        }
    }
    if kind.is_dir() { "a folder" } else { "something else" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_regular_files_of_bounded_length_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("text");
        fs::write(&path, "twelve bytes").unwrap();
        assert_eq!(read_regular(&path, 12).unwrap(), b"twelve bytes");
        assert_eq!(read_text(&path, 12).unwrap(), "twelve bytes");
        let long = read_regular(&path, 11).unwrap_err().to_string();
        assert_eq!(long, "its 12 bytes are more than the 11 that are read");
        fs::write(&path, b"caf\xe9").unwrap();
        assert_eq!(read_text(&path, 12).unwrap_err().to_string(), "byte 3 is not UTF-8 text");
        let folder = read_regular(dir.path(), 12).unwrap_err().to_string();
        assert_eq!(folder, "it is a folder, not a regular file");
        assert_eq!(read_regular(&dir.path().join("absent"), 1).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[cfg(unix)]
    #[test]
    fn pipes_and_devices_are_refused_before_they_are_opened() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&pipe, &link).unwrap();
        for path in [&pipe, &link] {
            assert_eq!(read_regular(path, 12).unwrap_err().to_string(), "it is a pipe, not a regular file");
        }
        let device = read_regular(Path::new("/dev/zero"), 12).unwrap_err().to_string();
        assert_eq!(device, "it is a device, not a regular file");
        // A file that says it is empty and is not.
        if Path::new("/proc/self/status").exists() {
            let endless = read_regular(Path::new("/proc/self/status"), 12).unwrap_err().to_string();
            assert_eq!(endless, "it is longer than the 12 bytes that are read");
        }
    }
}
