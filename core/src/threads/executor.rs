//! Who runs the bands of a layer.

use core::cell::RefCell;

/// Runs the bands of one layer, each exactly once, and returns when all are done.
pub trait Executor {
    /// Calls `band(i, scratch)` for every `i` in `0..n`; `scratch` is not shared while it runs.
    fn for_each(&self, n: usize, band: &(dyn Fn(usize, &mut [f32]) + Sync));
}

/// One band after the other, on the calling thread.
pub struct Serial<'s>(RefCell<&'s mut [f32]>);

impl<'s> Serial<'s> {
    /// With the scratch a plan asks for.
    pub fn new(scratch: &'s mut [f32]) -> Self {
        Serial(RefCell::new(scratch))
    }
}

impl Executor for Serial<'_> {
    fn for_each(&self, n: usize, band: &(dyn Fn(usize, &mut [f32]) + Sync)) {
        let mut scratch = self.0.borrow_mut();
        (0..n).for_each(|i| band(i, &mut scratch));
    }
}
