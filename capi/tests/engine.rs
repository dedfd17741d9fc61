//! The engine on a small model that knows its preprocessing and its classes.

use std::{ffi::c_void, ptr::null_mut, thread};

use residual_capi as c;
use residual_core::{
    geom::Shape,
    rsd::{AlignedBytes, Builder, Preprocessing},
};

const SCALE: f32 = 0.02;
const ZERO: i8 = -3;
const MEAN: [f32; 3] = [0.5, 0.4, 0.3];
const STD: [f32; 3] = [0.25, 0.3, 0.2];

/// The mean of each channel of a picture of 5 x 4.
fn model() -> AlignedBytes {
    let mut model = Builder::new(Shape::new(4, 5, 3), SCALE, ZERO);
    model.preprocessing(Preprocessing { mean: MEAN, std: STD, resize: [0; 2], crop: [0; 2] });
    model.classes(["red", "green", "blå"]).architecture("means");
    model.global_average_pool("avgpool", 0).unwrap();
    model.finish().unwrap()
}

struct Engine {
    handle: *mut c::Engine,
    _model: AlignedBytes,
    _arena: AlignedBytes,
}

// The engine guards itself.
// SAFETY: the handle is only passed to the library, which marks it as in use.
unsafe impl Sync for Engine {}

impl Engine {
    fn new() -> Self {
        let model = model();
        let (mut bytes, mut handle) = (0, null_mut());
        let at = model.as_ptr().cast::<c_void>();
        // SAFETY: pointers and lengths are those of living objects.
        unsafe {
            assert_eq!(c::residual_arena_bytes(at, model.len(), &mut bytes), c::Status::Ok);
            let mut arena = AlignedBytes::zeroed(bytes);
            let to = arena.as_mut_ptr().cast::<c_void>();
            assert_eq!(c::residual_engine_new(at, model.len(), to, bytes, &mut handle), c::Status::Ok);
            Engine { handle, _model: model, _arena: arena }
        }
    }

    fn run(&self) -> c::Status {
        // SAFETY: a living engine.
        unsafe { c::residual_engine_run(self.handle) }
    }
}

#[test]
fn pixels_become_inputs_as_the_model_says() {
    let engine = Engine::new();
    let pixels: Vec<u8> = (0..60).map(|i| (i * 37 % 256) as u8).collect();
    let (mut input, mut len) = (null_mut(), 0);
    // SAFETY: living objects; the input lies in the arena until the next inference.
    let got = unsafe {
        assert_eq!(c::residual_engine_input(engine.handle, &mut input, &mut len), c::Status::Ok);
        for wrong in [0, 59, 61] {
            let status = c::residual_engine_input_rgb(engine.handle, [0; 64].as_ptr(), wrong);
            assert_eq!(status, c::Status::BadPicture);
        }
        assert_eq!(c::residual_engine_input_rgb(engine.handle, input.cast(), 60), c::Status::BadArgument);
        assert_eq!(c::residual_engine_input_rgb(engine.handle, pixels.as_ptr(), 60), c::Status::Ok);
        std::slice::from_raw_parts(input, len)
    };
    for (i, (got, pixel)) in got.iter().zip(&pixels).enumerate() {
        let real = (f32::from(*pixel) / 255.0 - MEAN[i % 3]) / STD[i % 3];
        assert_eq!(*got, ((real / SCALE).round() + f32::from(ZERO)).clamp(-128.0, 127.0) as i8, "{i}");
    }
}

#[test]
fn the_class_and_its_name_come_from_the_output() {
    let engine = Engine::new();
    for (best, name) in ["red", "green", "blå"].into_iter().enumerate() {
        let pixels: Vec<u8> = (0..60).map(|i| if i % 3 == best { 200 } else { 20 }).collect();
        let (mut class, mut text, mut len, mut info) = (9, std::ptr::null(), 0, None);
        // SAFETY: living objects; the name lies in the model.
        let found = unsafe {
            assert_eq!(c::residual_engine_input_rgb(engine.handle, pixels.as_ptr(), 60), c::Status::Ok);
            assert_eq!(engine.run(), c::Status::Ok);
            assert_eq!(c::residual_engine_class(engine.handle, &mut class), c::Status::Ok);
            assert_eq!(c::residual_engine_class_name(engine.handle, class, &mut text, &mut len), c::Status::Ok);
            let place = info.insert(std::mem::zeroed::<c::EngineInfo>());
            assert_eq!(c::residual_engine_info(engine.handle, place), c::Status::Ok);
            std::slice::from_raw_parts(text.cast::<u8>(), len)
        };
        assert_eq!((class as usize, found), (best, name.as_bytes()));
        let info = info.unwrap();
        assert_eq!((info.height, info.width, info.channels, info.classes, info.ops), (4, 5, 3, 3, 1));
        assert_eq!((info.input_scale, info.input_zero_point), (SCALE, ZERO.into()));
    }
}

#[test]
fn two_threads_never_enter_one_engine() {
    let engine = Engine::new();
    let ran: usize = thread::scope(|scope| {
        let work = || (0..2000).filter(|_| engine.run() == c::Status::Ok).count();
        let other = scope.spawn(|| {
            let busy = |_: &i32| matches!(engine.run(), c::Status::Ok | c::Status::Busy);
            (0..2000).filter(busy).count()
        });
        let own = work();
        assert_eq!(other.join().unwrap(), 2000);
        own
    });
    assert!(ran > 0);
}
