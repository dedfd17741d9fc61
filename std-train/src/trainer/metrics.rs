//! `metrics.csv`: a row an epoch.

use std::{fmt::Write as _, io, path::Path};

use residual_io::{read_text, write_atomic};

/// Longest file of rows, in bytes.
const MAX_FILE: u64 = 256 << 20;

/// The columns, in order.
pub const HEADER: &str = "epoch,step,lr,train_loss,train_top1,val_loss,val_top1,images_per_second";

/// One epoch, or the part of one a run ended with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Row {
    /// epochs done
    pub epoch: u64,
    /// steps done
    pub step: u64,
    /// learning rate of the last step
    pub lr: f64,
    /// mean loss of the epoch's training pictures, as they passed
    pub train_loss: f64,
    /// percentage of them that were right
    pub train_top1: f64,
    /// mean loss of the validation pictures; NaN without any, and an empty field in the file
    pub val_loss: f64,
    /// percentage of them that were right; NaN without any
    pub val_top1: f64,
    /// training pictures a second
    pub images_per_second: f64,
}

impl Row {
    fn fields(&self) -> [f64; 6] {
        [self.lr, self.train_loss, self.train_top1, self.val_loss, self.val_top1, self.images_per_second]
    }

    fn parse(line: &str) -> Option<Row> {
        let mut parts = line.split(',');
        let (epoch, step) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        let mut number = || match parts.next()? {
            "" => Some(f64::NAN),
            text => text.parse::<f64>().ok(),
        };
        let row = Row {
            epoch,
            step,
            lr: number()?,
            train_loss: number()?,
            train_top1: number()?,
            val_loss: number()?,
            val_top1: number()?,
            images_per_second: number()?,
        };
        parts.next().is_none().then_some(row)
    }
}

/// The file's text.
pub fn text(rows: &[Row]) -> String {
    let mut text = format!("{HEADER}\n");
    for row in rows {
        let _ = write!(text, "{},{}", row.epoch, row.step);
        for (value, digits) in row.fields().into_iter().zip([8, 6, 3, 6, 3, 1]) {
            let _ = if value.is_nan() { write!(text, ",") } else { write!(text, ",{value:.digits$}") };
        }
        text.push('\n');
    }
    text
}

/// The rows up to step `last`; lines that are no rows are left out.
pub fn parse(text: &str, last: u64) -> Vec<Row> {
    text.lines().filter_map(Row::parse).filter(|row| row.step <= last).collect()
}

/// Writes all rows, atomically.
///
/// # Errors
/// What the operating system reports.
pub fn write(path: &Path, rows: &[Row]) -> io::Result<()> {
    write_atomic(path, |out| io::Write::write_all(out, text(rows).as_bytes()))
}

/// [`parse`] of an earlier run's file; none where there is no such file.
pub fn read(path: &Path, last: u64) -> Vec<Row> {
    parse(&read_text(path, MAX_FILE).unwrap_or_default(), last)
}

#[cfg(test)]
mod tests {
    use super::{Row, read, write};

    #[test]
    fn rows_survive_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metrics.csv");
        let row = |epoch, step| Row {
            epoch,
            step,
            lr: 0.125,
            train_loss: 1.5,
            train_top1: 25.0,
            val_loss: 2.25,
            val_top1: 12.5,
            images_per_second: 100.0,
        };
        write(&path, &[row(1, 10), row(2, 20)]).unwrap();
        assert_eq!(read(&path, 20), [row(1, 10), row(2, 20)]);
        assert_eq!(read(&path, 19), [row(1, 10)]);
        let unvalidated = Row { val_loss: f64::NAN, val_top1: f64::NAN, ..row(1, 10) };
        write(&path, &[unvalidated]).unwrap();
        assert!(std::fs::read_to_string(&path).unwrap().ends_with("1,10,0.12500000,1.500000,25.000,,,100.0\n"));
        assert!(read(&path, 10)[0].val_loss.is_nan());
        write(&path, &[row(1, 10), row(2, 20)]).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("epoch,step,lr,train_loss,train_top1,val_loss,val_top1,images_per_second\n1,10,"));
    }
}
