//! Classifies the pictures that come over the serial line.
#![no_std]
#![no_main]

use cortex_m_rt::entry;

#[entry]
fn main() -> ! {
    let (mut line, clock) = residual_mps::start();
    firmware_app::start(firmware_app::memory!(), clock, &mut line, firmware_app::classify)
}
