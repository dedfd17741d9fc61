//! nRF52840 development kit: UART on P0.06 (sends) and P0.08 (receives), which its debug probe shows as a serial port,
//! 115200 baud; logs over the probe.
#![no_std]

use embedded_io::{ErrorType, Read, Write};
use firmware_app::CycleCounter;
use nrf52840_hal::{
    Clocks, Uarte,
    gpio::{Level, p0},
    pac::{self, UARTE0},
    uarte::{Baudrate, Error, Parity, Pins},
};
use {defmt_rtt as _, panic_probe as _};

/// The core's frequency.
const HERTZ: u32 = 64_000_000;

/// Bytes sent at once: they have to be in RAM, since the peripheral fetches them itself.
const PIECE: usize = 64;

/// The serial line and the clock.
///
/// # Panics
/// When called twice.
pub fn start() -> (Line, CycleCounter) {
    let mut core = cortex_m::Peripherals::take().expect("called once");
    let chip = pac::Peripherals::take().expect("called once");
    // The crystal: the internal oscillator is not accurate enough for long transfers.
    Clocks::new(chip.CLOCK).enable_ext_hfosc();
    let port = p0::Parts::new(chip.P0);
    let pins = Pins {
        txd: port.p0_06.into_push_pull_output(Level::High).degrade(),
        rxd: port.p0_08.into_floating_input().degrade(),
        cts: None,
        rts: None,
    };
    let uarte = Uarte::new(chip.UARTE0, pins, Parity::EXCLUDED, Baudrate::BAUD115200);
    (Line(uarte), CycleCounter::new(&mut core.DCB, &mut core.DWT, HERTZ))
}

/// UARTE0.
pub struct Line(Uarte<UARTE0>);

impl ErrorType for Line {
    type Error = Error;
}

impl Read for Line {
    /// A byte at a time: the peripheral fills all it is given before it says so, and keeps a few more meanwhile.
    fn read(&mut self, bytes: &mut [u8]) -> Result<usize, Error> {
        let Some(first) = bytes.first_mut() else { return Ok(0) };
        self.0.read(core::slice::from_mut(first))?;
        Ok(1)
    }
}

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Error> {
        let mut piece = [0; PIECE];
        let len = bytes.len().min(PIECE);
        if len > 0 {
            piece[..len].copy_from_slice(&bytes[..len]);
            self.0.write(&piece[..len])?;
        }
        Ok(len)
    }

    fn flush(&mut self) -> Result<(), Error> {
        Ok(())
    }
}
