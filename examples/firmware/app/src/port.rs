//! Text on a serial line.

use core::fmt;

use embedded_io::Write;

/// What ends an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error<E> {
    /// The line failed.
    Line(E),
    /// The line takes no more bytes.
    Full,
}

impl<E: fmt::Debug> fmt::Display for Error<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Line(e) => write!(f, "the line failed: {e:?}"),
            Error::Full => f.write_str("the line takes no more bytes"),
        }
    }
}

impl<E: fmt::Debug> core::error::Error for Error<E> {}

/// Writes formatted text, all of it.
pub fn print<W: Write>(port: &mut W, text: fmt::Arguments<'_>) -> Result<(), Error<W::Error>> {
    let mut printer = Printer { port, result: Ok(()) };
    // Only a failing line makes it fail, and that is in `result`.
    let _ = fmt::write(&mut printer, text);
    printer.result
}

struct Printer<'p, W: Write> {
    port: &'p mut W,
    result: Result<(), Error<W::Error>>,
}

impl<W: Write> fmt::Write for Printer<'_, W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text.as_bytes();
        while !rest.is_empty() {
            match self.port.write(rest) {
                Ok(written @ 1..) => rest = rest.get(written..).unwrap_or_default(),
                Ok(0) => self.result = Err(Error::Full),
                Err(e) => self.result = Err(Error::Line(e)),
            }
            if self.result.is_err() {
                return Err(fmt::Error);
            }
        }
        Ok(())
    }
}
