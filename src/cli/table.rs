//! Text for people: tables and sentences that fit the output.

use std::{
    fmt::Display,
    io::{self, IsTerminal, Write},
};

/// Columns where the output is no terminal, or does not say.
const WIDTH: usize = 80;

/// Columns of standard output.
fn width() -> usize {
    let terminal = io::stdout().is_terminal().then(terminal_size::terminal_size).flatten();
    terminal.map_or(WIDTH, |(width, _)| usize::from(width.0))
}

use residual::printable;

/// Rows of cells under a header; the first column is aligned left, the others right.
pub struct Table {
    rows: Vec<Vec<String>>,
    /// columns that may be left out, by name
    optional: Vec<String>,
}

impl Table {
    /// Shorter cells than this say nothing.
    const SHORTEST: usize = 8;

    pub fn new(header: &[&str]) -> Self {
        Table { rows: vec![header.iter().map(ToString::to_string).collect()], optional: Vec::new() }
    }

    /// Names the columns to leave out where the output is too narrow, the least important first.
    pub fn leave_out(mut self, columns: &[&str]) -> Self {
        self.optional = columns.iter().map(ToString::to_string).collect();
        self
    }

    pub fn row(&mut self, cells: &[&dyn Display]) {
        // Names of classes come out of files.
        self.rows.push(cells.iter().map(|cell| printable(&cell.to_string())).collect());
    }

    /// Writes the table so that it fits standard output: without columns that may be left out, then with a shorter first
    /// column.
    pub fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        self.write_within(width(), out)
    }

    fn write_within(&self, most: usize, out: &mut dyn Write) -> io::Result<()> {
        let header = self.rows.first().map_or(&[][..], Vec::as_slice);
        let cells = |column: usize| self.rows.iter().filter_map(move |row| row.get(column));
        let mut widths: Vec<usize> =
            (0..header.len()).map(|i| cells(i).map(|cell| cell.chars().count()).max().unwrap_or_default()).collect();
        let mut shown: Vec<usize> = (0..header.len()).collect();
        let total = |shown: &[usize], widths: &[usize]| shown.iter().map(|&i| widths[i] + 2).sum::<usize>();
        // Every column but the first has two spaces before it.
        let most = most + 2;
        let mut left_out = Vec::new();
        for name in &self.optional {
            if total(&shown, &widths) <= most {
                break;
            }
            shown.retain(|&i| header[i] != *name);
            left_out.push(name.as_str());
        }
        let excess = total(&shown, &widths).saturating_sub(most);
        if let Some(first) = widths.first_mut() {
            *first = first.saturating_sub(excess).max(Self::SHORTEST.min(*first));
        }
        for row in &self.rows {
            let mut line = String::new();
            for &i in &shown {
                let (cell, width) = (row.get(i).map_or("", String::as_str), widths[i]);
                line += &if i == 0 { format!("{:width$}", shorten(cell, width)) } else { format!("  {cell:>width$}") };
            }
            writeln!(out, "{}", line.trim_end())?;
        }
        match left_out[..] {
            [] => Ok(()),
            _ => writeln!(out, "(left out for want of room: {}; --json has all)", left_out.join(", ")),
        }
    }
}

/// Text of at most `most` characters: what is too long loses its middle.
pub fn shorten(text: &str, most: usize) -> String {
    let characters: Vec<char> = text.chars().collect();
    match characters.len().checked_sub(most) {
        None | Some(0) => text.to_owned(),
        Some(_) => {
            let (before, after) = (most / 2, most.saturating_sub(most / 2 + 1));
            let end = characters.len() - after;
            characters[..before].iter().chain(&['\u{2026}']).chain(&characters[end..]).collect()
        }
    }
}

/// Writes a sentence in as many lines as standard output needs.
pub fn sentence(out: &mut dyn Write, text: &str) -> io::Result<()> {
    sentence_within(width(), out, text)
}

fn sentence_within(most: usize, out: &mut dyn Write, text: &str) -> io::Result<()> {
    let indent = text.len() - text.trim_start().len();
    let mut line = " ".repeat(indent);
    for word in text.split_whitespace() {
        let empty = line.trim().is_empty();
        if !empty && line.chars().count() + 1 + word.chars().count() > most {
            writeln!(out, "{line}")?;
            line = " ".repeat(indent + 2);
        } else if !empty {
            line.push(' ');
        }
        line.push_str(word);
    }
    writeln!(out, "{line}")
}

/// Writes text that may be one long word, such as JSON, in as many lines as standard output needs.
pub fn folded(out: &mut dyn Write, text: &str) -> io::Result<()> {
    folded_within(width(), out, text)
}

fn folded_within(most: usize, out: &mut dyn Write, text: &str) -> io::Result<()> {
    const INDENT: usize = 4;
    let characters: Vec<char> = text.chars().collect();
    let (first, rest) = characters.split_at(most.min(characters.len()));
    writeln!(out, "{}", first.iter().collect::<String>())?;
    for part in rest.chunks(most.saturating_sub(INDENT).max(1)) {
        writeln!(out, "{:INDENT$}{}", "", part.iter().collect::<String>())?;
    }
    Ok(())
}

/// Digits in groups of three: `25 557 032`.
pub fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

/// Bytes for people: `1.2 MB`.
pub fn bytes(n: u64) -> String {
    match n {
        0..10_000 => format!("{n} B"),
        10_000..10_000_000 => format!("{:.1} kB", n as f64 / 1e3),
        _ => format!("{:.1} MB", n as f64 / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let mut table = Table::new(&["layer", "n"]);
        table.row(&[&"conv1", &grouped(9_408)]);
        table.row(&[&"fc", &grouped(2_048_000)]);
        let mut text = Vec::new();
        table.write(&mut text).unwrap();
        assert_eq!(String::from_utf8(text).unwrap(), "layer          n\nconv1      9 408\nfc     2 048 000\n");
        assert_eq!((grouped(0), grouped(100), grouped(1000)), ("0".into(), "100".into(), "1 000".into()));
        assert_eq!(
            (bytes(9_999), bytes(12_340), bytes(12_340_000)),
            ("9999 B".into(), "12.3 kB".into(), "12.3 MB".into())
        );
    }

    fn lines(write: impl FnOnce(&mut Vec<u8>)) -> Vec<String> {
        let mut text = Vec::new();
        write(&mut text);
        String::from_utf8(text).unwrap().lines().map(str::to_owned).collect()
    }

    #[test]
    fn a_table_leaves_out_what_has_no_room() {
        let mut table = Table::new(&["layer", "shape", "kernel", "ms"]).leave_out(&["shape", "kernel"]);
        table.row(&[&"layer1.0.conv1", &"56x56x64 3x3/1", &"direct", &"0.125"]);
        let within = |most| lines(|text| table.write_within(most, text).unwrap());
        assert_eq!(within(60)[1], "layer1.0.conv1  56x56x64 3x3/1  direct  0.125");
        assert_eq!(within(45), within(60));
        let short = within(44);
        assert_eq!(short[1], "layer1.0.conv1  direct  0.125");
        assert_eq!(short[2], "(left out for want of room: shape; --json has all)");
        assert_eq!(within(28)[1], "layer1.0.conv1  0.125");
        // At last the first column gives way, down to what can still be told apart.
        assert_eq!(
            (within(19)[1].as_str(), within(1)[1].as_str()),
            ("layer1\u{2026}conv1  0.125", "laye\u{2026}nv1  0.125")
        );
    }

    #[test]
    fn long_text_is_shortened_and_sentences_are_broken() {
        assert_eq!((shorten("abcdef", 6).as_str(), shorten("abcdefg", 6).as_str()), ("abcdef", "abc\u{2026}fg"));
        assert_eq!((shorten("\u{e9}\u{e9}\u{e9}", 2), shorten("abc", 0)), ("\u{e9}\u{2026}".into(), "\u{2026}".into()));
        let text = lines(|text| sentence_within(14, text, "  one two three four, fiveandtwentyfive").unwrap());
        assert_eq!(text, ["  one two", "    three", "    four,", "    fiveandtwentyfive"]);
        let text = lines(|text| folded_within(8, text, "key = \u{e9}bcdefg").unwrap());
        assert_eq!(text, ["key = \u{e9}b", "    cdef", "    g"]);
    }
}
