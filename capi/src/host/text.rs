//! Strings from C and for C.

use std::{
    ffi::{CStr, CString, c_char},
    path::Path,
};

use crate::{Error, Status, pointer::fault};

/// Text that C can read.
pub(super) fn c_string(text: &str) -> CString {
    CString::new(text.replace('\0', "\u{fffd}")).unwrap_or_default()
}

/// A string from C.
///
/// # Safety
/// Where `text` is not NULL, a string that ends with a NUL and does not change during `'a`.
unsafe fn string<'a>(text: *const c_char, argument: &'static str) -> Result<&'a CStr, Error> {
    if text.is_null() {
        return fault(Status::NullPointer, argument);
    }
    // SAFETY: the caller's promise.
    Ok(unsafe { CStr::from_ptr(text) })
}

/// A string in UTF-8, or `None` for NULL.
///
/// # Safety
/// As `string`.
pub(super) unsafe fn text<'a>(text: *const c_char, argument: &'static str) -> Result<Option<&'a str>, Error> {
    if text.is_null() {
        return Ok(None);
    }
    // SAFETY: the caller's promise.
    match unsafe { string(text, argument)? }.to_str() {
        Ok(text) => Ok(Some(text)),
        Err(_) => fault(Status::BadArgument, argument),
    }
}

/// A file's name: any bytes on Unix, UTF-8 elsewhere.
///
/// # Safety
/// As `string`.
pub(super) unsafe fn path<'a>(file: *const c_char, argument: &'static str) -> Result<&'a Path, Error> {
    // SAFETY: the caller's promise.
    let name = unsafe { string(file, argument)? };
    #[cfg(unix)]
    return Ok(Path::new(<std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(name.to_bytes())));
    #[cfg(not(unix))]
    match name.to_str() {
        Ok(name) => Ok(Path::new(name)),
        Err(_) => fault(Status::BadArgument, argument),
    }
}
