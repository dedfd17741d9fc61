//! Cameras that put a picture into a memory of their own and hand it out over SPI.

use core::fmt;

use embedded_hal::{
    delay::DelayNs,
    spi::{Operation, SpiDevice},
};

use super::{Frame, FrameError};

/// The registers of such a memory. A register is read by its address and written by its address with
/// [`Registers::write`] set; each access is a transaction of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Registers {
    /// set in the address of a register that is written
    pub write: u8,
    /// a register that holds what was written to it
    pub test: u8,
    /// the control register
    pub control: u8,
    /// in it, forgets the last picture
    pub clear: u8,
    /// in it, takes a picture
    pub start: u8,
    /// the status register
    pub status: u8,
    /// in it, a picture is complete
    pub done: u8,
    /// the memory's fill level in bytes, low byte first
    pub len: [u8; 3],
    /// bits of the fill level that count
    pub len_mask: u32,
    /// the command that hands out bytes until the transaction ends, and goes on in the next
    pub burst: u8,
    /// bytes before the first pixel
    pub lead: u8,
}

impl Registers {
    /// ArduChip, of the ArduCAM shields and minis. Some of their older revisions hand out one byte before the picture:
    /// set [`Registers::lead`] to 1 for those.
    pub const ARDUCHIP: Self = Registers {
        write: 0x80,
        test: 0x00,
        control: 0x04,
        clear: 0x01,
        start: 0x02,
        status: 0x41,
        done: 0x08,
        len: [0x42, 0x43, 0x44],
        len_mask: 0x7f_ffff,
        burst: 0x3c,
        lead: 0,
    };
}

/// Why there is no picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum CaptureError<E> {
    /// The bus failed.
    Bus(E),
    /// Nothing at the other end holds what is written to it.
    NoCamera {
        /// what was written
        wrote: u8,
        /// what was read
        read: u8,
    },
    /// The picture was not complete in time.
    Timeout {
        /// milliseconds waited
        ms: u32,
    },
    /// The memory holds less than a picture.
    Frame(FrameError),
}

impl<E> From<FrameError> for CaptureError<E> {
    fn from(e: FrameError) -> Self {
        CaptureError::Frame(e)
    }
}

impl<E: fmt::Debug> fmt::Display for CaptureError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CaptureError::Bus(e) => write!(f, "the camera's bus failed: {e:?}"),
            CaptureError::NoCamera { wrote, read } => write!(f, "no camera answers: wrote {wrote}, read {read}"),
            CaptureError::Timeout { ms } => write!(f, "the camera took no picture in {ms} ms"),
            CaptureError::Frame(e) => e.fmt(f),
        }
    }
}

impl<E: fmt::Debug> core::error::Error for CaptureError<E> {}

/// Bytes of a burst; they pass through the stack.
const BURST: usize = 128;

/// A camera behind such a memory. The image sensor itself, its size and pixel format, is set up by its own driver
/// (over I2C in ArduCAMs) before.
#[derive(Debug)]
pub struct FifoCamera<SPI> {
    spi: SPI,
    registers: Registers,
}

impl<SPI: SpiDevice> FifoCamera<SPI> {
    /// A camera that answers.
    ///
    /// # Errors
    /// [`CaptureError::Bus`], [`CaptureError::NoCamera`].
    pub fn new(spi: SPI, registers: Registers) -> Result<Self, CaptureError<SPI::Error>> {
        let mut camera = FifoCamera { spi, registers };
        for wrote in [0x55, 0xaa] {
            camera.write(registers.test, wrote)?;
            let read = camera.read(registers.test)?;
            if read != wrote {
                return Err(CaptureError::NoCamera { wrote, read });
            }
        }
        Ok(camera)
    }

    /// Takes a picture and reads it into `frame`.
    ///
    /// # Errors
    /// [`CaptureError::Bus`], [`CaptureError::Timeout`] after `timeout_ms` milliseconds, [`FrameError::Length`] if the
    /// memory holds less than the picture; what it holds beyond is left.
    pub fn capture(
        &mut self,
        mut frame: Frame<'_>,
        delay: &mut impl DelayNs,
        timeout_ms: u32,
    ) -> Result<(), CaptureError<SPI::Error>> {
        let registers = self.registers;
        self.write(registers.control, registers.clear)?;
        self.write(registers.control, registers.start)?;
        let mut waited = 0;
        while self.read(registers.status)? & registers.done == 0 {
            if waited >= timeout_ms {
                return Err(CaptureError::Timeout { ms: waited });
            }
            delay.delay_ms(1);
            waited += 1;
        }
        let mut len = 0;
        for (address, shift) in registers.len.into_iter().zip([0, 8, 16]) {
            len |= u32::from(self.read(address)?) << shift;
        }
        let (lead, need) = (usize::from(registers.lead), frame.missing());
        let got = ((len & registers.len_mask) as usize).saturating_sub(lead);
        if got < need {
            return Err(FrameError::Length { need, got }.into());
        }
        let mut burst = [0; BURST];
        for _ in 0..lead {
            self.burst(burst.get_mut(..1).unwrap_or_default())?;
        }
        while frame.missing() > 0 {
            let piece = burst.get_mut(..frame.missing().min(BURST)).unwrap_or_default();
            self.burst(piece)?;
            frame.push(piece)?;
        }
        Ok(frame.finish()?)
    }

    /// The bus.
    pub fn release(self) -> SPI {
        self.spi
    }

    fn burst(&mut self, bytes: &mut [u8]) -> Result<(), CaptureError<SPI::Error>> {
        let command = [self.registers.burst];
        self.spi.transaction(&mut [Operation::Write(&command), Operation::Read(bytes)]).map_err(CaptureError::Bus)
    }

    fn write(&mut self, address: u8, value: u8) -> Result<(), CaptureError<SPI::Error>> {
        self.spi.write(&[address | self.registers.write, value]).map_err(CaptureError::Bus)
    }

    fn read(&mut self, address: u8) -> Result<u8, CaptureError<SPI::Error>> {
        let mut value = [0];
        let operations = &mut [Operation::Write(&[address]), Operation::Read(&mut value)];
        self.spi.transaction(operations).map_err(CaptureError::Bus)?;
        Ok(value[0])
    }
}
