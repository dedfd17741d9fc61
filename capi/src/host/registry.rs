//! Living handles. A handle is an address that is looked up here and never followed, so that a stale, foreign
//! or twice freed one is found out.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::{Error, Status, pointer::fault};

/// All living objects of one kind, sorted by address.
pub struct Registry<T>(Mutex<Vec<Arc<T>>>);

impl<T> Registry<T> {
    pub const fn new() -> Self {
        Registry(Mutex::new(Vec::new()))
    }

    fn living(&self) -> MutexGuard<'_, Vec<Arc<T>>> {
        // The vector is whole at every point where a thread could have died.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps `object` and returns its handle.
    pub fn add<H>(&self, object: T) -> *mut H {
        let object = Arc::new(object);
        let address = Arc::as_ptr(&object);
        let mut living = self.living();
        let place = living.partition_point(|other| Arc::as_ptr(other) < address);
        living.insert(place, object);
        address.cast_mut().cast()
    }

    /// The object of a handle; it lives at least as long as the result.
    pub fn get<H>(&self, handle: *const H, argument: &'static str) -> Result<Arc<T>, Error> {
        if handle.is_null() {
            return fault(Status::NullPointer, argument);
        }
        let living = self.living();
        match living.binary_search_by_key(&handle.addr(), |object| Arc::as_ptr(object).addr()) {
            Ok(place) => Ok(Arc::clone(&living[place])),
            Err(_) => fault(Status::BadHandle, argument),
        }
    }

    /// Forgets a handle; NULL is nothing to forget. Whoever uses the object now finishes first.
    pub fn remove<H>(&self, handle: *const H, argument: &'static str) -> Result<(), Error> {
        if handle.is_null() {
            return Ok(());
        }
        let mut living = self.living();
        let Ok(place) = living.binary_search_by_key(&handle.addr(), |object| Arc::as_ptr(object).addr()) else {
            return fault(Status::BadHandle, argument);
        };
        let object = living.remove(place);
        if living.is_empty() {
            // Programs that free everything leave nothing behind.
            *living = Vec::new();
        }
        drop(living);
        drop(object);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Registry;
    use crate::Status;

    #[test]
    fn only_living_handles_are_found() {
        let registry = Registry::<u64>::new();
        let handles: Vec<*mut u8> = (0..9).map(|i| registry.add(i)).collect();
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
}
