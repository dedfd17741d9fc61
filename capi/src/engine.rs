//! The engine: int8 models in memory the caller owns. This face needs no standard library.

use core::{
    ffi::{c_char, c_void},
    sync::atomic::{AtomicBool, Ordering},
};

use residual_edge::{ARENA_ALIGN, Engine as Inner, Progress, arena_bytes, source::quantize_pixel};

use crate::{
    Error, Status, guard,
    pointer::{check, fault, out, overlap, slice},
};

#[cfg(not(feature = "small"))]
type Mode = residual_edge::Fast;
#[cfg(feature = "small")]
type Mode = residual_edge::Small;

/// A model, its arena, and where in an inference it is. Lives at the start of the arena. Opaque.
pub struct Engine(());

/// What an engine's handle points to.
#[repr(C, align(16))]
struct Head {
    /// [`MAGIC`] mixed with its own address, so that copies do not count
    magic: usize,
    busy: AtomicBool,
    engine: Inner<'static, Mode>,
}

const MAGIC: usize = 0x7265_7369_u32 as usize;

/// Bytes at the start of an arena for the engine itself; `RESIDUAL_ENGINE_BYTES` in the header.
const ENGINE_BYTES: usize = if size_of::<usize>() > 4 { 512 } else { 256 };
const _: () = assert!(size_of::<Head>() <= ENGINE_BYTES && ENGINE_BYTES.is_multiple_of(ARENA_ALIGN));

/// Shapes and encodings of an engine's input and output. The real value of a number `q` is
/// `(q - zero_point) * scale`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct EngineInfo {
    /// rows of the input
    pub height: u32,
    /// columns of the input
    pub width: u32,
    /// channels of the input, next to each other
    pub channels: u32,
    /// numbers in the output
    pub classes: u32,
    /// layers
    pub ops: u32,
    /// of the input
    pub input_scale: f32,
    /// of the input
    pub input_zero_point: i32,
    /// of the output
    pub output_scale: f32,
    /// of the output
    pub output_zero_point: i32,
}

/// The engine behind a handle, marked as in use until dropped.
struct Entered<'a> {
    engine: &'a mut Inner<'static, Mode>,
    busy: &'a AtomicBool,
    /// an inference goes on; still set where a panic ends it
    computing: bool,
}

impl Entered<'_> {
    /// Lets the engine compute.
    fn compute<R>(&mut self, work: impl FnOnce(&mut Inner<'static, Mode>) -> R) -> R {
        self.computing = true;
        let result = work(self.engine);
        self.computing = false;
        result
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        if self.computing {
            // Nobody knows where it stands: the next inference begins anew.
            self.engine.input_mut();
        }
        self.busy.store(false, Ordering::Release);
    }
}

fn enter<'a>(engine: *mut Engine) -> Result<Entered<'a>, Error> {
    let engine = engine.cast::<Head>();
    check(engine, 1, "engine")?;
    // SAFETY: not NULL and aligned; by the contract of this library there is readable memory of at least a word.
    let magic = unsafe { (&raw const (*engine).magic).read() };
    if magic != MAGIC ^ engine.addr() {
        return fault(Status::BadHandle, "engine");
    }
    // SAFETY: `residual_engine_new` wrote an engine to this address.
    let busy = unsafe { &(*engine).busy };
    #[cfg(target_has_atomic = "8")]
    let taken = busy.swap(true, Ordering::Acquire);
    // Without it there is one core, and whatever interrupts this one ends before it goes on.
    #[cfg(not(target_has_atomic = "8"))]
    let taken = busy.load(Ordering::Acquire) || {
        busy.store(true, Ordering::Relaxed);
        false
    };
    if taken {
        return fault(Status::Busy, "engine");
    }
    // SAFETY: an engine, and `busy` says that no other reference to it exists.
    Ok(Entered { engine: unsafe { &mut (*engine).engine }, busy, computing: false })
}

/// The bytes of a model.
///
/// # Safety
/// As `slice`.
unsafe fn bytes<'a>(model: *const c_void, len: usize) -> Result<&'a [u8], Error> {
    check(model.cast::<u32>(), len.div_ceil(4), "model")?;
    // SAFETY: the caller's promise.
    unsafe { slice(model.cast::<u8>(), len, "model") }
}

/// Bytes of arena that a model needs, the same as the constant that `residual-embed` writes beside the
/// model's array.
///
/// The model (a `.rsd` file) must start at a multiple of 4 bytes. Thread-safe.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn residual_arena_bytes(model: *const c_void, model_len: usize, bytes_out: *mut usize) -> Status {
    guard(|| {
        // SAFETY: the contract of this library.
        let (model, out) = unsafe { (bytes(model, model_len)?, out(bytes_out, 1, "bytes_out")?) };
        let need = arena_bytes::<Mode>(model)?;
        match need.checked_add(ENGINE_BYTES) {
            Some(bytes) => out.write(&[bytes]),
            None => return fault(Status::BadModel, "model"),
        }
        Ok(())
    })
}

/// Makes an engine in `arena`, which must start at a multiple of `RESIDUAL_ARENA_ALIGN` bytes and have at
/// least `residual_arena_bytes`. Model and arena must stay where they are as long as the engine is used, the
/// model unchanged. There is nothing to free: forget the engine and use the arena for something else.
///
/// The model is checked completely, once: afterwards nothing about it can fail. Thread-safe.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn residual_engine_new(
    model: *const c_void,
    model_len: usize,
    arena: *mut c_void,
    arena_len: usize,
    engine: *mut *mut Engine,
) -> Status {
    guard(|| {
        // SAFETY: the contract of this library.
        let (model, handle) = unsafe { (bytes(model, model_len)?, out(engine, 1, "engine")?) };
        handle.write(&[core::ptr::null_mut()]);
        let place = arena.cast::<Head>();
        check(place, 1, "arena")?;
        check(arena.cast::<u8>(), arena_len, "arena")?;
        if overlap(model.as_ptr(), model_len, arena, arena_len) {
            return fault(Status::BadArgument, "arena");
        }
        let Some(rest) = arena_len.checked_sub(ENGINE_BYTES) else { return fault(Status::TooShort, "arena") };
        // SAFETY: the caller lends `arena_len` bytes, at least ENGINE_BYTES, to the engine alone; zeros are
        // bytes, so what follows the engine is a slice of initialised memory.
        let values = unsafe {
            arena.cast::<u8>().write_bytes(0, arena_len);
            core::slice::from_raw_parts_mut(arena.cast::<u8>().add(ENGINE_BYTES), rest)
        };
        let engine = Inner::new(model, values)?;
        // SAFETY: aligned, and ENGINE_BYTES hold an engine, before `values`.
        unsafe { place.write(Head { magic: MAGIC ^ place.addr(), busy: AtomicBool::new(false), engine }) };
        handle.write(&[place.cast()]);
        Ok(())
    })
}

/// Shapes and encodings. One engine is used by one thread at a time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn residual_engine_info(engine: *mut Engine, info: *mut EngineInfo) -> Status {
    guard(|| {
        // SAFETY: the contract of this library.
        let info = unsafe { out(info, 1, "info")? };
        let view = *enter(engine)?.engine.model();
        let (Some(input), Some(output)) = (view.input(), view.output()) else {
            return fault(Status::Defect, "engine");
        };
        // A checked model's extents are below 2^30.
        info.write(&[EngineInfo {
            height: input.shape.h as u32,
            width: input.shape.w as u32,
            channels: input.shape.c as u32,
            classes: output.shape.elements() as u32,
            ops: view.ops() as u32,
            input_scale: input.scale,
            input_zero_point: input.zero_point.into(),
            output_scale: output.scale,
            output_zero_point: output.zero_point.into(),
        }]);
        Ok(())
    })
}

/// Where the next input goes: `*len` numbers, rows from the top, pixels from the left, channels together.
/// Layers overwrite it, so ask and fill it before every inference. Abandons an unfinished inference.
///
/// One engine is used by one thread at a time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn residual_engine_input(engine: *mut Engine, values: *mut *mut i8, len: *mut usize) -> Status {
    guard(|| {
        // SAFETY: the contract of this library.
        let (values, len) = unsafe { (out(values, 1, "values")?, out(len, 1, "len")?) };
        let entered = enter(engine)?;
        let input = entered.engine.input_mut();
        values.write(&[input.as_mut_ptr()]);
        len.write(&[input.len()]);
        Ok(())
    })
}

/// Makes the next input from `height * width` pixels of 8-bit R, G, B with the model's own mean, deviation and
/// encoding. The picture must have the input's size. Abandons an unfinished inference.
///
/// `RESIDUAL_NO_PREPROCESSING` if the model does not say how, `RESIDUAL_BAD_PICTURE` if `len` is not
/// `height * width * 3`. One engine is used by one thread at a time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn residual_engine_input_rgb(engine: *mut Engine, pixels: *const u8, len: usize) -> Status {
    guard(|| {
        // SAFETY: the contract of this library.
        let pixels = unsafe { slice(pixels, len, "pixels")? };
        let entered = enter(engine)?;
        let view = *entered.engine.model();
        let Some(input) = view.input() else { return fault(Status::Defect, "engine") };
        let Some(preprocessing) = view.preprocessing().filter(|_| input.shape.c == 3) else {
            return fault(Status::NoPreprocessing, "engine");
        };
        let values = entered.engine.input_mut();
        if len != values.len() {
            return fault(Status::BadPicture, "len");
        }
        if overlap(pixels.as_ptr(), len, values.as_ptr(), len) {
            return fault(Status::BadArgument, "pixels");
        }
        for (c, (mean, std)) in preprocessing.mean.into_iter().zip(preprocessing.std).enumerate() {
            let mut table = [0; 256];
            for (v, entry) in (0u8..=255).zip(&mut table) {
                *entry = quantize_pixel(v, mean, std, input.scale, input.zero_point);
            }
            for (value, pixel) in values.iter_mut().zip(pixels).skip(c).step_by(3) {
                *value = table[usize::from(*pixel)];
            }
        }
        Ok(())
    })
}

/// Computes everything that is left of an inference. One engine is used by one thread at a time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn residual_engine_run(engine: *mut Engine) -> Status {
    guard(|| {
        enter(engine)?.compute(|engine| engine.run().map(|_| ()))?;
        Ok(())
    })
}

/// Computes a small part of an inference, at most a few output rows of one layer, and sets `*done` to 1 when
/// the output is ready, to 0 otherwise. Between two calls a watchdog can be fed. After the last part the next
/// call begins another inference.
///
/// One engine is used by one thread at a time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn residual_engine_step(engine: *mut Engine, done: *mut i32) -> Status {
    guard(|| {
        // SAFETY: the contract of this library.
        let done = unsafe { out(done, 1, "done")? };
        let progress = enter(engine)?.compute(Inner::step)?;
        done.write(&[i32::from(progress == Progress::Done)]);
        Ok(())
    })
}

/// The output of a finished inference, `*len` numbers, one a class. They lie in the arena until the next
/// input or inference.
///
/// One engine is used by one thread at a time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn residual_engine_output(
    engine: *mut Engine,
    values: *mut *const i8,
    len: *mut usize,
) -> Status {
    guard(|| {
        // SAFETY: the contract of this library.
        let (values, len) = unsafe { (out(values, 1, "values")?, out(len, 1, "len")?) };
        let entered = enter(engine)?;
        let output = entered.engine.output();
        values.write(&[output.values.as_ptr()]);
        len.write(&[output.values.len()]);
        Ok(())
    })
}

/// The class with the largest output of a finished inference, the first of equals.
///
/// One engine is used by one thread at a time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn residual_engine_class(engine: *mut Engine, class_index: *mut u32) -> Status {
    guard(|| {
        // SAFETY: the contract of this library.
        let class = unsafe { out(class_index, 1, "class_index")? };
        class.write(&[enter(engine)?.engine.output().argmax() as u32]);
        Ok(())
    })
}

/// A class's name in the model: `*len` bytes of UTF-8, without a NUL behind them.
///
/// `RESIDUAL_BAD_ARGUMENT` where the model has no name for it. One engine is used by one thread at a time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn residual_engine_class_name(
    engine: *mut Engine,
    class_index: u32,
    name: *mut *const c_char,
    len: *mut usize,
) -> Status {
    guard(|| {
        // SAFETY: the contract of this library.
        let (name, len) = unsafe { (out(name, 1, "name")?, out(len, 1, "len")?) };
        let entered = enter(engine)?;
        let view = *entered.engine.model();
        let Some(text) = view.classes().nth(class_index as usize) else {
            return fault(Status::BadArgument, "class_index");
        };
        name.write(&[text.as_ptr().cast()]);
        len.write(&[text.len()]);
        Ok(())
    })
}

/// What a C program is told.
pub(crate) fn status(error: &residual_edge::Error) -> Status {
    use residual_core::rsd::FormatError;
    use residual_edge::Error;

    match error {
        Error::Model(FormatError::Misaligned { .. }) | Error::ArenaMisaligned { .. } => Status::Misaligned,
        Error::ArenaTooSmall { .. } => Status::TooShort,
        Error::Defect { .. } => Status::Defect,
        _ => Status::BadModel,
    }
}

#[cfg(all(test, feature = "host"))]
mod tests {
    use residual_core::{
        geom::Shape,
        rsd::{AlignedBytes, Builder},
    };

    use super::*;

    /// The means of two channels, over and over.
    fn model() -> AlignedBytes {
        let mut model = Builder::new(Shape::new(2, 2, 2), 0.1, 0);
        for (i, name) in ["a", "b", "c"].into_iter().enumerate() {
            model.global_average_pool(name, i).unwrap();
        }
        model.finish().unwrap()
    }

    #[test]
    fn after_a_panic_the_next_inference_begins_anew() {
        let model = model();
        let bytes = arena_bytes::<Mode>(&model).unwrap() + ENGINE_BYTES;
        let mut arena = AlignedBytes::zeroed(bytes);
        let mut handle = core::ptr::null_mut();
        // SAFETY: pointers and lengths are those of living objects.
        let made = unsafe {
            residual_engine_new(model.as_ptr().cast(), model.len(), arena.as_mut_ptr().cast(), bytes, &mut handle)
        };
        assert_eq!(made, Status::Ok);
        let thrown = guard(|| {
            enter(handle)?.compute(|engine| -> Result<(), Error> {
                engine.step()?;
                assert_eq!(engine.position(), 1);
                panic!("in the middle")
            })
        });
        assert_eq!(thrown, Status::Defect);
        assert_eq!(enter(handle).map(|entered| entered.engine.position()).unwrap_or(9), 0);
        // SAFETY: a living engine.
        assert_eq!(unsafe { residual_engine_run(handle) }, Status::Ok);
    }
}
