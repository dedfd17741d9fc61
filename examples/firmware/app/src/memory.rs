//! A model in flash and the memory it runs in.

/// Memory aligned as models and arenas ask for.
#[derive(Debug)]
#[repr(C, align(16))]
pub struct Aligned<T>(pub T);

/// How much memory a model needs; `build` writes it.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// bytes of the engine's arena
    pub arena: usize,
    /// bytes of a picture that has the input's size
    pub picture: usize,
    /// numbers in the output
    pub classes: usize,
    /// layers
    pub ops: usize,
}

/// Everything a network needs; [`memory!`](crate::memory!) gives it.
#[derive(Debug)]
pub struct Memory<'a> {
    /// the model file
    pub model: &'a [u8],
    /// [`Sizes::arena`] bytes, aligned
    pub arena: &'a mut [u8],
    /// [`Sizes::picture`] bytes
    pub picture: &'a mut [u8],
    /// [`Sizes::classes`] numbers
    pub scores: &'a mut [i8],
    /// [`Sizes::classes`] numbers
    pub probabilities: &'a mut [i8],
    /// [`Sizes::ops`] numbers
    pub times: &'a mut [u32],
}

/// The memory of the model that the crate's build script brought in. It exists once: a second call panics.
#[macro_export]
macro_rules! memory {
    () => {{
        use $crate::{Aligned, ConstStaticCell, Memory, Sizes};
        const SIZES: Sizes = include!(concat!(env!("OUT_DIR"), "/sizes.rs"));
        const BYTES: usize = include_bytes!(concat!(env!("OUT_DIR"), "/model.rsd")).len();
        static MODEL: Aligned<[u8; BYTES]> = Aligned(*include_bytes!(concat!(env!("OUT_DIR"), "/model.rsd")));
        static ARENA: ConstStaticCell<Aligned<[u8; SIZES.arena]>> = ConstStaticCell::new(Aligned([0; SIZES.arena]));
        static PICTURE: ConstStaticCell<[u8; SIZES.picture]> = ConstStaticCell::new([0; SIZES.picture]);
        static SCORES: ConstStaticCell<[i8; SIZES.classes]> = ConstStaticCell::new([0; SIZES.classes]);
        static PROBABILITIES: ConstStaticCell<[i8; SIZES.classes]> = ConstStaticCell::new([0; SIZES.classes]);
        static TIMES: ConstStaticCell<[u32; SIZES.ops]> = ConstStaticCell::new([0; SIZES.ops]);
        Memory {
            model: &MODEL.0,
            arena: &mut ARENA.take().0,
            picture: PICTURE.take(),
            scores: SCORES.take(),
            probabilities: PROBABILITIES.take(),
            times: TIMES.take(),
        }
    }};
}
