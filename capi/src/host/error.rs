//! From Rust's errors and panics to a status and a text.

use std::{
    any::Any,
    cell::RefCell,
    ffi::{CString, c_char},
    panic::{AssertUnwindSafe, catch_unwind},
};

use residual::{CoreError, DataError, ImportError};

use crate::Status;

/// A status and one line about it.
#[derive(Debug)]
pub struct Error {
    pub status: Status,
    pub text: String,
}

impl Error {
    /// About an argument.
    pub fn new(status: Status, argument: &'static str) -> Self {
        let reason = match status {
            Status::NullPointer => "is NULL",
            Status::Misaligned => "is misaligned",
            Status::TooShort => "is too short",
            Status::BadHandle => "is not a living handle of this kind",
            Status::Busy => "is in use by another call",
            Status::WrongVersion => "and library are of different versions",
            Status::BadPicture => "does not fit the picture",
            Status::NoPreprocessing => "does not say how pictures become inputs",
            Status::Defect => "met something its checks had excluded: a defect of this library",
            _ => "makes no sense",
        };
        Error { status, text: format!("`{argument}` {reason}") }
    }

    /// With a text of its own.
    pub fn with(status: Status, text: impl ToString) -> Self {
        Error { status, text: text.to_string() }
    }
}

impl From<residual_edge::Error> for Error {
    fn from(error: residual_edge::Error) -> Self {
        Error::with(crate::engine::status(&error), error)
    }
}

impl From<CoreError> for Error {
    fn from(error: CoreError) -> Self {
        let status = match error {
            CoreError::Threads { .. } => Status::NoThreads,
            CoreError::UnavailableIsa => Status::Unsupported,
            CoreError::UnknownArchitecture { .. } => Status::BadArgument,
            _ => Status::BadModel,
        };
        Error::with(status, error)
    }
}

impl From<DataError> for Error {
    fn from(error: DataError) -> Self {
        let status = if matches!(error, DataError::Io { .. }) { Status::Io } else { Status::BadPicture };
        Error::with(status, error)
    }
}

impl From<residual::Error> for Error {
    fn from(error: residual::Error) -> Self {
        use residual::Error as E;
        let status = match error {
            E::Network(error) => return error.into(),
            E::Data(error) => return error.into(),
            // What helps is called otherwise in C.
            E::NoNormalisation { file, network } => {
                let text = format!("{file} does not say how pictures are normalised for {network}; set mean and std");
                return Error::with(Status::NoPreprocessing, text);
            }
            E::Import(ImportError::NoArchitecture { file, .. }) => {
                let text = format!("{file} does not say which network it holds; set architecture");
                return Error::with(Status::BadArgument, text);
            }
            E::Import(ImportError::Io { .. }) => Status::Io,
            E::Import(ImportError::UnknownArchitecture { .. }) => Status::BadArgument,
            E::ClassNames { .. } => Status::BadArgument,
            E::Isa { .. } => Status::Unsupported,
            E::Threads { .. } => Status::NoThreads,
            _ => Status::BadModel,
        };
        Error::with(status, error)
    }
}

thread_local! {
    static LAST: RefCell<CString> = RefCell::default();
}

/// Runs the body of a function of this library. Its error's text is kept for [`residual_last_error`]; a panic
/// ends here.
pub fn guard(body: impl FnOnce() -> Result<(), Error>) -> Status {
    let error = match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(())) => return Status::Ok,
        Ok(Err(error)) => error,
        Err(panic) => Error::with(Status::Defect, message(panic)),
    };
    let text = CString::new(error.text.replace('\0', "\u{fffd}")).unwrap_or_default();
    // Where the thread is ending there is nobody left to ask.
    let _ = LAST.try_with(|last| last.replace(text));
    error.status
}

fn message(panic: Box<dyn Any + Send>) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
    let text = format!("a defect of this library: {}", text.unwrap_or("panic"));
    // Dropping what was thrown may throw again.
    std::mem::forget(panic);
    text
}

/// One line about the last call of this thread that failed, naming the file or argument and the values that
/// disagree; empty if none did. It lives until this thread's next call that fails, or its end.
///
/// Thread-safe: every thread has its own.
#[unsafe(no_mangle)]
pub extern "C" fn residual_last_error() -> *const c_char {
    LAST.try_with(|last| last.borrow().as_ptr()).unwrap_or(c"".as_ptr())
}

#[cfg(test)]
mod tests {
    use std::ffi::CStr;

    use super::{Error, guard, residual_last_error};
    use crate::Status;

    fn last() -> String {
        // SAFETY: never NULL, ends with a NUL, and lives until the next failure.
        unsafe { CStr::from_ptr(residual_last_error()) }.to_str().unwrap().to_owned()
    }

    #[test]
    fn nothing_unwinds_and_every_failure_leaves_a_text() {
        assert_eq!(last(), "");
        assert_eq!(guard(|| panic!("wheel {}", 3)), Status::Defect);
        assert_eq!(last(), "a defect of this library: wheel 3");
        assert_eq!(guard(|| std::panic::panic_any(7)), Status::Defect);
        assert_eq!(last(), "a defect of this library: panic");
        assert_eq!(guard(|| Err(Error::with(Status::Io, "a\0b"))), Status::Io);
        assert_eq!(last(), "a\u{fffd}b");
        assert_eq!(guard(|| Ok(())), Status::Ok);
        assert_eq!(last(), "a\u{fffd}b");
    }
}
