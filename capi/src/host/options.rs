//! How a model is loaded: what the caller asks for.

use std::ffi::c_char;

use residual::Given;

use crate::{
    Error, Status,
    host::text::text,
    pointer::{fault, slice},
};

/// The most threads and the most pictures at once that a model can be made for.
const MOST: u32 = 1024;

/// How a model is loaded. Zeros and NULLs (`RESIDUAL_OPTIONS_INIT`) mean: as the file says.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Options {
    /// threads that share the layers of a batch, at most 1024; 0 for all the process may use. Each session
    /// starts its own, so use 1 where sessions run side by side. Results do not depend on it
    pub threads: u32,
    /// pictures run at once, at most 1024; 0 for 1. Results do not depend on it
    pub batch: u32,
    /// the network, such as "resnet20-cifar-Ac", for weights that do not name it; or NULL
    pub architecture: *const c_char,
    /// three means of R, G, B in 0..1 instead of the file's; or NULL, together with `std`
    pub mean: *const f32,
    /// three standard deviations of R, G, B in 0..1 instead of the file's; or NULL, together with `mean`
    pub std: *const f32,
    /// class names, one a line, in the order of the outputs, instead of the file's; or NULL
    pub class_names: *const c_char,
}

/// What the caller said, without pointers.
pub(super) struct Asked {
    pub given: Given,
    pub threads: usize,
    pub batch: usize,
}

/// Reads the options, NULL or not.
///
/// # Safety
/// The contract of this library for every pointer in `options`.
pub(super) unsafe fn asked(options: *const Options) -> Result<Asked, Error> {
    let zeros = (0, 0, std::ptr::null(), std::ptr::null(), std::ptr::null(), std::ptr::null());
    let (threads, batch, architecture, mean, std, class_names) = if options.is_null() {
        zeros
    } else {
        // SAFETY: the caller's promise.
        let o = unsafe { slice(options, 1, "options")? }[0];
        (o.threads, o.batch, o.architecture, o.mean, o.std, o.class_names)
    };
    if threads > MOST {
        return fault(Status::BadArgument, "threads");
    }
    if batch > MOST {
        return fault(Status::BadArgument, "batch");
    }
    // SAFETY: the caller's promise.
    let (arch, names) = unsafe { (text(architecture, "architecture")?, text(class_names, "class_names")?) };
    let normalisation = if mean.is_null() && std.is_null() {
        None
    } else {
        // SAFETY: the caller's promise.
        let (mean, std) = unsafe { (slice(mean, 3, "mean")?, slice(std, 3, "std")?) };
        Some((mean.to_vec(), std.to_vec()))
    };
    let given = Given {
        arch: arch.map(str::parse).transpose()?,
        input: None,
        normalisation,
        class_names: names.map(|names| names.lines().map(str::to_owned).collect()),
    };
    let threads = if threads == 0 { residual::available_threads().min(MOST as usize) } else { threads as usize };
    Ok(Asked { given, threads, batch: batch.max(1) as usize })
}
