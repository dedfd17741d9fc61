//! Living handles. A handle is a number that is looked up here and never followed, so that a stale, foreign or twice
//! freed one is found out.

use std::{
    collections::BTreeMap,
    ptr::without_provenance_mut,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use crate::{Error, Status, pointer::fault};

/// From one handle to the next: handles are aligned as pointers to objects are.
const STEP: usize = 16;

/// The next handle of any kind. No number is given out twice, so no handle is ever mistaken for a later one or for one
/// of another kind.
static NEXT: AtomicUsize = AtomicUsize::new(STEP);

/// Takes a number that nobody had before; `None` when all are gone, which 64 bits never come to.
fn take(next: &AtomicUsize) -> Option<usize> {
    next.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |number| number.checked_add(STEP)).ok()
}

/// All living objects of one kind by their handles.
pub struct Registry<T>(Mutex<BTreeMap<usize, Arc<T>>>);

impl<T> Registry<T> {
    pub const fn new() -> Self {
        Registry(Mutex::new(BTreeMap::new()))
    }

    fn living(&self) -> MutexGuard<'_, BTreeMap<usize, Arc<T>>> {
        // Nothing of the caller's runs while it is locked, so the map is whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps `object` and returns its handle.
    pub fn add<H>(&self, object: T) -> Result<*mut H, Error> {
        let Some(number) = take(&NEXT) else {
            let text = "this process has used up its handles, which are never given out twice; start it anew";
            return Err(Error::with(Status::Unsupported, text));
        };
        self.living().insert(number, Arc::new(object));
        Ok(without_provenance_mut(number))
    }

    /// The object of a handle; it lives at least as long as the result.
    pub fn get<H>(&self, handle: *const H, argument: &'static str) -> Result<Arc<T>, Error> {
        if handle.is_null() {
            return fault(Status::NullPointer, argument);
        }
        match self.living().get(&handle.addr()) {
            Some(object) => Ok(Arc::clone(object)),
            None => fault(Status::BadHandle, argument),
        }
    }

    /// Forgets a handle; NULL is nothing to forget. Whoever uses the object now finishes first.
    pub fn remove<H>(&self, handle: *const H, argument: &'static str) -> Result<(), Error> {
        if handle.is_null() {
            return Ok(());
        }
        let mut living = self.living();
        let Some(object) = living.remove(&handle.addr()) else { return fault(Status::BadHandle, argument) };
        if living.is_empty() {
            // Programs that free everything leave nothing behind.
            *living = BTreeMap::new();
        }
        // An object may take long to end, or panic: nobody else is to notice.
        drop(living);
        drop(object);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::{Registry, STEP, take};
    use crate::Status;

    #[test]
    fn only_living_handles_are_found() {
        let registry = Registry::<u64>::new();
        let handles: Vec<*mut u8> = (0..9).map(|i| registry.add(i).unwrap()).collect();
        for (i, handle) in (0..).zip(&handles) {
            assert_eq!(*registry.get(*handle, "h").unwrap(), i);
        }
        let status = |handle: *const u8| registry.get(handle, "h").map(|_| ()).map_err(|e| e.status);
        assert_eq!(status(std::ptr::null()), Err(Status::NullPointer));
        assert_eq!(status(handles[3].wrapping_add(1)), Err(Status::BadHandle));
        let kept = registry.get(handles[3], "h").unwrap();
        registry.remove(handles[3], "h").unwrap();
        assert_eq!(status(handles[3]), Err(Status::BadHandle));
        assert_eq!(registry.remove(handles[3], "h").unwrap_err().status, Status::BadHandle);
        assert_eq!((*kept, status(handles[4])), (3, Ok(())));
        registry.remove(std::ptr::null::<u8>(), "h").unwrap();
    }

    #[test]
    fn no_handle_is_given_out_twice_whatever_its_kind() {
        let (some, others) = (Registry::<u64>::new(), Registry::<u64>::new());
        let mut stale: Vec<*mut u8> = Vec::new();
        for i in 0..100 {
            let handle = some.add(i).unwrap();
            assert!(!stale.contains(&handle) && handle.addr().is_multiple_of(STEP));
            assert_eq!(others.get(handle, "h").unwrap_err().status, Status::BadHandle);
            some.remove(handle, "h").unwrap();
            stale.push(handle);
        }
        let living: *mut u8 = some.add(100).unwrap();
        assert!(stale.iter().all(|handle| some.get(*handle, "h").is_err()));
        assert_eq!(*some.get(living, "h").unwrap(), 100);
    }

    #[test]
    fn numbers_end_and_never_begin_again() {
        let next = AtomicUsize::new(usize::MAX - 2 * STEP + 1);
        assert_eq!(take(&next), Some(usize::MAX - 2 * STEP + 1));
        assert_eq!((take(&next), take(&next)), (None, None));
    }

    #[test]
    fn a_panic_at_the_end_of_an_object_leaves_the_others_alone() {
        struct Bad(bool);
        impl Drop for Bad {
            fn drop(&mut self) {
                assert!(!self.0, "at the end");
            }
        }
        let registry = Registry::<Bad>::new();
        let (bad, good): (*mut u8, *mut u8) = (registry.add(Bad(true)).unwrap(), registry.add(Bad(false)).unwrap());
        assert_eq!(crate::guard(|| registry.remove(bad, "h")), Status::Defect);
        assert_eq!(crate::guard(|| registry.remove(bad, "h")), Status::BadHandle);
        assert_eq!(crate::guard(|| registry.remove(good, "h")), Status::Ok);
    }
}
