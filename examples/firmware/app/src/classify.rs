//! Pictures in, classes out.

use embedded_io::{Read, Write};
use residual_edge::source::{ReadError, read_picture};

use crate::{Clock, Error, Network, port::print};

/// Answers every picture on the line until it ends.
///
/// A picture is preceded by [`Picture::header`](residual_edge::source::Picture::header). The first line says what is
/// expected, and each answer consists of lines too, the last of which is `ready`:
///
/// ```text
/// ready resnet20-cifar 32x32x3
/// layer conv1 483210
/// ...
/// scores 80f30d2c...          the output, two hexadecimal digits a class
/// class 8 ship
/// time 22012345 131026        cycles, microseconds
/// ready
/// ```
///
/// A picture that does not fit is answered by `error` and the reason.
///
/// # Errors
/// Those of the line.
pub fn classify<P: Read + Write, C: Clock>(network: &mut Network<'_, C>, port: &mut P) -> Result<(), Error<P::Error>> {
    let model = *network.engine.model();
    let name = model.architecture().unwrap_or("network");
    if let Some(input) = model.input() {
        print(port, format_args!("ready {name} {}\r\n", input.shape))?;
    }
    loop {
        match read_picture(port, &mut network.engine, &network.table) {
            Ok(_) => match network.run() {
                Ok((class, cycles)) => answer(network, port, class, cycles)?,
                Err(e) => print(port, format_args!("error {e}\r\n"))?,
            },
            Err(ReadError::Frame(e)) => print(port, format_args!("error {e}\r\n"))?,
            Err(ReadError::Read(e)) => return Err(Error::Line(e)),
            Err(ReadError::End) => return Ok(()),
        }
        print(port, format_args!("ready\r\n"))?;
        port.flush().map_err(Error::Line)?;
    }
}

fn answer<P: Write, C: Clock>(
    network: &Network<'_, C>,
    port: &mut P,
    class: usize,
    cycles: u64,
) -> Result<(), Error<P::Error>> {
    for (op, cycles) in network.times.iter().enumerate() {
        let name = network.engine.model().name(op).unwrap_or("?");
        print(port, format_args!("layer {name} {cycles}\r\n"))?;
    }
    print(port, format_args!("scores "))?;
    for score in network.scores.iter() {
        print(port, format_args!("{score:02x}"))?;
    }
    print(port, format_args!("\r\nclass {class} {}\r\n", network.class_name(class)))?;
    print(port, format_args!("time {cycles} {}\r\n", network.watch.micros(cycles)))
}
