//! Pointers from C, checked before use.

use core::{marker::PhantomData, mem::MaybeUninit, ptr::NonNull};

use crate::{Error, Status};

/// An error about one argument.
pub fn fault<T>(status: Status, argument: &'static str) -> Result<T, Error> {
    Err(Error::new(status, argument))
}

/// NULL, alignment, and whether `len` elements can exist there.
pub fn check<T>(ptr: *const T, len: usize, argument: &'static str) -> Result<(), Error> {
    if ptr.is_null() {
        return fault(Status::NullPointer, argument);
    }
    if !ptr.is_aligned() {
        return fault(Status::Misaligned, argument);
    }
    let bytes = len.checked_mul(size_of::<T>()).filter(|bytes| isize::try_from(*bytes).is_ok());
    match bytes.and_then(|bytes| ptr.addr().checked_add(bytes)) {
        Some(_) => Ok(()),
        None => fault(Status::BadArgument, argument),
    }
}

/// Whether two pieces of memory, in bytes, have a byte in common.
pub fn overlap<A, B>(a: *const A, a_bytes: usize, b: *const B, b_bytes: usize) -> bool {
    let (a, b) = (a.addr(), b.addr());
    a < b.saturating_add(b_bytes) && b < a.saturating_add(a_bytes)
}

/// `len` elements to read.
///
/// # Safety
/// Where `ptr` is neither NULL nor misaligned, `len` initialised elements lie there, which nobody writes to
/// during `'a`; every bit pattern is a `T`.
pub unsafe fn slice<'a, T: Copy>(ptr: *const T, len: usize, argument: &'static str) -> Result<&'a [T], Error> {
    check(ptr, len, argument)?;
    // SAFETY: not NULL, aligned, not longer than memory; the rest is the caller's promise.
    Ok(unsafe { core::slice::from_raw_parts(ptr, len) })
}

/// Elements to write: a place for results, which may be uninitialised memory.
pub struct Out<'a, T>(NonNull<T>, usize, PhantomData<&'a mut MaybeUninit<T>>);

/// A place for `len` results.
///
/// # Safety
/// Where `ptr` is neither NULL nor misaligned, `len` elements may be written there during `'a`, and nothing
/// that is borrowed while [`Out::write`] runs lies there.
pub unsafe fn out<'a, T: Copy>(ptr: *mut T, len: usize, argument: &'static str) -> Result<Out<'a, T>, Error> {
    check(ptr, len, argument)?;
    match NonNull::new(ptr) {
        Some(ptr) => Ok(Out(ptr, len, PhantomData)),
        None => fault(Status::NullPointer, argument),
    }
}

impl<T: Copy> Out<'_, T> {
    /// Writes as many of `values` as there is room for.
    pub fn write(&self, values: &[T]) {
        let len = values.len().min(self.1);
        // SAFETY: `values` are borrowed, so by the promise given to `out` they do not lie there; `len` fits.
        unsafe { core::ptr::copy_nonoverlapping(values.as_ptr(), self.0.as_ptr(), len) };
    }
}

#[cfg(test)]
mod tests {
    use super::{check, overlap};
    use crate::Status;

    #[test]
    fn impossible_memory_is_refused() {
        let status = |ptr: usize, len| check(ptr as *const f32, len, "x").map_err(|f| f.status);
        assert_eq!(status(0, 0), Err(Status::NullPointer));
        assert_eq!(status(6, 1), Err(Status::Misaligned));
        assert_eq!(status(8, usize::MAX / 2), Err(Status::BadArgument));
        assert_eq!(status(8, usize::MAX), Err(Status::BadArgument));
        assert_eq!(status(usize::MAX - 7, 2), Err(Status::BadArgument));
        assert_eq!(status(usize::MAX - 7, 1), Ok(()));
    }

    #[test]
    fn overlap_is_about_bytes() {
        let at = |n: usize| n as *const u8;
        for (a, la, b, lb, both) in
            [(8, 8, 16, 8, false), (8, 9, 16, 8, true), (16, 1, 8, 64, true), (8, 0, 8, 0, false)]
        {
            assert_eq!(overlap(at(a), la, at(b), lb), both);
        }
        assert!(overlap(at(usize::MAX - 3), 9, at(usize::MAX - 1), 1));
    }
}
