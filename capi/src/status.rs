//! Status codes and versions.

use core::ffi::{CStr, c_char};

use crate::{guard, pointer::fault};

/// What a call came to.
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It did what was asked.
    Ok = 0,
    /// A pointer that must not be NULL is.
    NullPointer = 1,
    /// A pointer is not aligned for what it points to.
    Misaligned = 2,
    /// A buffer or an arena is too short.
    TooShort = 3,
    /// A handle is of another kind, was freed, or never came from this library.
    BadHandle = 4,
    /// An argument has a value that makes no sense.
    BadArgument = 5,
    /// Another thread, or the code this one interrupted, is using the handle.
    Busy = 6,
    /// The header and the library are of different versions.
    WrongVersion = 7,
    /// The operating system refused to read a file.
    Io = 8,
    /// The model is damaged, of an unknown format, or does not fit its network.
    BadModel = 9,
    /// The picture is damaged or of a kind that is not supported.
    BadPicture = 10,
    /// The model does not say how pictures become inputs, and the caller did not either.
    NoPreprocessing = 11,
    /// The processor lacks what was asked for.
    Unsupported = 12,
    /// Threads could not be started, or stayed in the process that this one was forked from.
    NoThreads = 13,
    /// A defect of this library, a panic, caught at its border.
    Defect = 14,
}

const TEXTS: [&CStr; 15] = [
    c"success",
    c"a pointer is NULL",
    c"a pointer is misaligned",
    c"a buffer is too short",
    c"not a living handle of this kind",
    c"an argument makes no sense",
    c"the handle is in use",
    c"header and library are of different versions",
    c"a file cannot be read",
    c"the model is damaged, unknown or does not fit its network",
    c"the picture is damaged or not supported",
    c"it is not known how pictures become inputs of this model",
    c"the processor lacks what was asked for",
    c"threads cannot be started or are not of this process",
    c"a defect of the library",
];

/// A short text for a status, never NULL. It lives forever.
///
/// Thread-safe.
#[unsafe(no_mangle)]
pub extern "C" fn residual_status_string(status: i32) -> *const c_char {
    let text = usize::try_from(status).ok().and_then(|i| TEXTS.get(i)).unwrap_or(&c"unknown status");
    text.as_ptr()
}

/// Major, minor and patch number of this version, as in `RESIDUAL_VERSION`.
const VERSION: u32 = number(env!("CARGO_PKG_VERSION_MAJOR")) << 16
    | number(env!("CARGO_PKG_VERSION_MINOR")) << 8
    | number(env!("CARGO_PKG_VERSION_PATCH"));

const fn number(text: &str) -> u32 {
    let (bytes, mut i, mut n) = (text.as_bytes(), 0, 0);
    while i < bytes.len() {
        n = n * 10 + (bytes[i] - b'0') as u32;
        i += 1;
    }
    assert!(n < 256, "a byte of the version");
    n
}

/// The library's version: `major << 16 | minor << 8 | patch`.
///
/// Thread-safe.
#[unsafe(no_mangle)]
pub extern "C" fn residual_version() -> u32 {
    VERSION
}

/// Whether the library fits the header a program was compiled with: pass `RESIDUAL_VERSION`. The major
/// numbers must be equal, and before 1.0 the minor ones; the library may not be older than the header.
///
/// `RESIDUAL_WRONG_VERSION` if it does not fit. Thread-safe.
#[unsafe(no_mangle)]
pub extern "C" fn residual_check_version(header: u32) -> Status {
    guard(|| match fits(header, VERSION) {
        true => Ok(()),
        false => fault(Status::WrongVersion, "header"),
    })
}

const fn fits(header: u32, library: u32) -> bool {
    let kept = if library >> 16 == 0 { 8 } else { 16 };
    header >> kept == library >> kept && header <= library
}

#[cfg(test)]
mod tests {
    use super::{Status, TEXTS, fits};

    #[test]
    fn versions_fit_within_what_semantic_versioning_promises() {
        for (header, library, fit) in [
            (0x000100, 0x000100, true),
            (0x000100, 0x000103, true),
            (0x000103, 0x000100, false),
            (0x000100, 0x000200, false),
            (0x010203, 0x010300, true),
            (0x010300, 0x010203, false),
            (0x010000, 0x020000, false),
            (0x020000, 0x010000, false),
        ] {
            assert_eq!(fits(header, library), fit, "{header:06x} {library:06x}");
        }
    }

    #[test]
    fn every_status_has_a_text() {
        assert_eq!(Status::Defect as usize + 1, TEXTS.len());
    }
}
