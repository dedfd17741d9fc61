//! Classifies every picture built into it and prints, over semihosting, each output in hexadecimal
//! and the stack's high-water mark. `cargo xtask mcu` builds, runs and reads it.
#![no_std]
#![no_main]

use core::arch::asm;

use cortex_m_rt::entry;
use cortex_m_semihosting::{debug, hio};
use residual_edge::{Engine, Error};

#[cfg(feature = "small")]
type Mode = residual_edge::Small;
#[cfg(not(feature = "small"))]
type Mode = residual_edge::Fast;

include!(concat!(env!("OUT_DIR"), "/constants.rs"));

#[repr(C, align(16))]
struct Aligned<const N: usize>([u8; N]);

#[unsafe(no_mangle)]
static MODEL: Aligned<MODEL_BYTES> = Aligned(*include_bytes!(concat!(env!("OUT_DIR"), "/model.rsd")));
#[unsafe(no_mangle)]
static PICTURES: Aligned<PICTURES_BYTES> = Aligned(*include_bytes!(concat!(env!("OUT_DIR"), "/pictures.bin")));
#[unsafe(no_mangle)]
static mut ARENA: Aligned<ARENA_BYTES> = Aligned([0; ARENA_BYTES]);

/// The vector table's interrupts, which a device crate would list: nothing here raises any.
#[unsafe(link_section = ".vector_table.interrupts")]
#[unsafe(no_mangle)]
static __INTERRUPTS: [unsafe extern "C" fn(); 1] = [DefaultHandler];

unsafe extern "C" {
    fn DefaultHandler();
    static mut _stack_end: u32;
    static mut _stack_start: u32;
}

/// A hint no core defines, which the counting plugin looks for.
fn mark() {
    // SAFETY: undefined hints do nothing.
    unsafe { asm!(".inst.n 0xbf50") };
}

/// Bytes of stack that no longer hold the start-up pattern.
fn stack_used() -> usize {
    let (end, start) = (&raw const _stack_end, &raw const _stack_start);
    let mut at = end;
    // SAFETY: the words between both symbols are the stack's memory, painted at start-up.
    while at < start && unsafe { at.read_volatile() } == cortex_m_rt::STACK_PAINT_VALUE {
        at = at.wrapping_add(1);
    }
    start.addr() - at.addr()
}

fn print(words: &[&[u8]]) {
    if let Ok(mut host) = hio::hstdout() {
        for word in words {
            let _ = host.write_all(word);
        }
    }
}

fn digit(n: u8) -> u8 {
    n + if n < 10 { b'0' } else { b'a' - 10 }
}

fn run() -> Result<(), Error> {
    // SAFETY: `run` is called once, by `main`, and nothing else names ARENA.
    let arena = unsafe { &mut (*&raw mut ARENA).0 };
    let mut engine = Engine::<Mode>::new(&MODEL.0, arena)?;
    let len = engine.input_mut().len();
    for picture in PICTURES.0.chunks_exact(len.max(1)) {
        for (to, from) in engine.input_mut().iter_mut().zip(picture) {
            *to = *from as i8;
        }
        mark();
        let output = engine.run();
        mark();
        let used = stack_used();
        print(&[b"output "]);
        for value in output?.values {
            print(&[&[digit(*value as u8 >> 4), digit(*value as u8 & 15)]]);
        }
        print(&[b"\nstack "]);
        for shift in [16, 12, 8, 4, 0] {
            print(&[&[digit((used >> shift) as u8 & 15)]]);
        }
        print(&[b"\n"]);
    }
    Ok(())
}

#[entry]
fn main() -> ! {
    match run() {
        Ok(()) => debug::exit(debug::EXIT_SUCCESS),
        Err(_) => {
            print(&[b"error\n"]);
            debug::exit(debug::EXIT_FAILURE);
        }
    }
    loop {}
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    print(&[b"panic\n"]);
    debug::exit(debug::EXIT_FAILURE);
    loop {}
}
