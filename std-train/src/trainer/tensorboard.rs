//! TensorBoard event files: scalars only.
//!
//! A file is a sequence of records, each `length: u64, crc(length): u32, data, crc(data): u32`, little endian;
//! the checksum is CRC-32C rotated and shifted by a constant ("masked", as in TFRecord files). The data is an
//! `Event` protocol buffer: 1 wall time (double), 2 step (varint), 3 file version (string), 5 summary, which
//! holds values (1) of a tag (1, string) and a number (2, float).

use std::{
    fs::File,
    io::{self, Write},
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

const PREFIX: &str = "events.out.tfevents.";
const SUFFIX: &str = ".residual";

/// Whether a file of this name is one that this program wrote.
pub fn is_ours(name: &str) -> bool {
    name.starts_with(PREFIX) && name.ends_with(SUFFIX)
}

/// An event file that grows.
#[derive(Debug)]
pub struct EventFile(File);

impl EventFile {
    /// A new file in `folder`. Its name holds the time, as TensorBoard expects; files of earlier runs stay.
    ///
    /// # Errors
    /// What the operating system reports.
    pub fn create(folder: &Path) -> io::Result<Self> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let name = format!("{PREFIX}{}.{:09}{SUFFIX}", now.as_secs(), now.subsec_nanos());
        let mut file = EventFile(File::create(folder.join(name))?);
        let mut event = Vec::new();
        double(&mut event, 1, now.as_secs_f64());
        bytes(&mut event, 3, b"brain.Event:2");
        file.record(&event)?;
        Ok(file)
    }

    /// Adds one point to each named curve.
    ///
    /// # Errors
    /// What the operating system reports.
    pub fn scalars(&mut self, step: u64, scalars: &[(&str, f64)]) -> io::Result<()> {
        let mut summary = Vec::new();
        for (tag, value) in scalars {
            let mut entry = Vec::new();
            bytes(&mut entry, 1, tag.as_bytes());
            entry.push(2 << 3 | 5);
            entry.extend((*value as f32).to_le_bytes());
            bytes(&mut summary, 1, &entry);
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut event = Vec::new();
        double(&mut event, 1, now.as_secs_f64());
        event.push(2 << 3);
        varint(&mut event, step);
        bytes(&mut event, 5, &summary);
        self.record(&event)?;
        self.0.flush()
    }

    fn record(&mut self, data: &[u8]) -> io::Result<()> {
        let length = (data.len() as u64).to_le_bytes();
        let mut record = Vec::with_capacity(data.len() + 16);
        record.extend(length);
        record.extend(masked(&length).to_le_bytes());
        record.extend(data);
        record.extend(masked(data).to_le_bytes());
        self.0.write_all(&record)
    }
}

fn masked(data: &[u8]) -> u32 {
    // CRC-32C, bit by bit: records are short.
    let bit = |crc: u32, _| (crc >> 1) ^ (0x82f6_3b78 * (crc & 1));
    let crc = !data.iter().fold(!0, |crc, &byte| (0..8).fold(crc ^ u32::from(byte), bit));
    crc.rotate_right(15).wrapping_add(0xA282_EAD8)
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn bytes(out: &mut Vec<u8>, field: u8, value: &[u8]) {
    out.push(field << 3 | 2);
    varint(out, value.len() as u64);
    out.extend(value);
}

fn double(out: &mut Vec<u8>, field: u8, value: f64) {
    out.push(field << 3 | 1);
    out.extend(value.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::{EventFile, masked};

    #[test]
    fn records_frame_their_events() {
        // CRC-32C's check value, masked.
        assert_eq!(masked(b"123456789"), 0xE306_9283u32.rotate_right(15).wrapping_add(0xA282_EAD8));
        let dir = tempfile::tempdir().unwrap();
        let mut file = EventFile::create(dir.path()).unwrap();
        file.scalars(300, &[("loss/train", 1.5)]).unwrap();
        let path = std::fs::read_dir(dir.path()).unwrap().next().unwrap().unwrap().path();
        let data = std::fs::read(path).unwrap();
        let mut at = 0;
        let mut events = Vec::new();
        while at < data.len() {
            let length = u64::from_le_bytes(data[at..at + 8].try_into().unwrap()) as usize;
            let event = &data[at + 12..at + 12 + length];
            assert_eq!(data[at + 8..at + 12], masked(&data[at..at + 8]).to_le_bytes());
            assert_eq!(data[at + 12 + length..at + 16 + length], masked(event).to_le_bytes());
            events.push(event);
            at += length + 16;
        }
        assert_eq!(events.len(), 2);
        // Step 300 as a varint, then a summary of 19 bytes with one value of 17.
        assert_eq!(events[1][9..15], [16, 0xAC, 0x02, 42, 19, 10]);
        assert_eq!(events[1][events[1].len() - 4..], 1.5f32.to_le_bytes());
    }
}
