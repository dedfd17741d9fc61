//! Text out of files, fit for a terminal.

/// `text` with what a terminal would act on escaped: control characters, which can change its title or colours or
/// forge lines, and those that reorder a line.
///
/// ```
/// assert_eq!(residual_io::printable("caf\u{e9}\u{1b}[2J\n"), "caf\u{e9}\\u{1b}[2J\\n");
/// ```
pub fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    text.chars().for_each(|c| push_printable(&mut out, c));
    out
}

pub(crate) fn push_printable(out: &mut String, c: char) {
    let reorders = matches!(c, '\u{61c}' | '\u{200e}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    match c.is_control() || reorders {
        true => out.extend(c.escape_debug()),
        false => out.push(c),
    }
}

/// Names for a message: the first few, and how many more there are.
pub fn listed<T: std::fmt::Display>(names: &[T]) -> String {
    const SHOWN: usize = 10;
    let shown: Vec<String> = names.iter().take(SHOWN).map(ToString::to_string).collect();
    match names.len().saturating_sub(SHOWN) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}
