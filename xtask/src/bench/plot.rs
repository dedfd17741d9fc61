//! The rows as a picture: a bar for every peer, as long as its ratio.

use std::fmt::Write;

use super::report::{Row, cases};

/// Pixels.
const LEFT: usize = 130;
const WIDTH: usize = 900;
const BAR: usize = 14;
const GAP: usize = 12;
const TOP: usize = 40;

/// Bars end here; their numbers go on.
const MOST: f64 = 8.0;

/// Every case a group of horizontal bars; the line at 1 is this project.
pub fn svg(rows: &[Row]) -> String {
    let mut peers: Vec<&str> = Vec::new();
    for row in rows {
        if !peers.contains(&row.peer.as_str()) {
            peers.push(&row.peer);
        }
    }
    let longest = rows.iter().map(|row| row.ratio).fold(1.0, f64::max).min(MOST);
    let scale = (WIDTH - LEFT - 60) as f64 / longest;
    let mut body = String::new();
    let mut y = TOP;
    for case in cases(rows) {
        let Row { network, batch, threads, .. } = &case[0];
        let _ = writeln!(
            body,
            "<text x='4' y='{}' font-weight='bold'>{network}, batch {batch}, {threads} threads</text>",
            y + BAR - 3
        );
        y += BAR + 4;
        for row in case {
            let colour = peers.iter().position(|peer| *peer == row.peer).unwrap_or_default() * 360 / peers.len();
            let (middle, length) = (y + BAR - 3, (row.ratio.min(MOST) * scale).max(0.0));
            let _ = writeln!(body, "<text x='{}' y='{middle}' text-anchor='end'>{}</text>", LEFT - 6, row.peer);
            let _ = writeln!(
                body,
                "<rect x='{LEFT}' y='{y}' width='{length:.1}' height='{}' fill='hsl({colour},55%,60%)'/>",
                BAR - 2
            );
            let _ = writeln!(body, "<text x='{:.1}' y='{middle}'>{:.2}</text>", LEFT as f64 + length + 4.0, row.ratio);
            y += BAR;
        }
        y += GAP;
    }
    let one = LEFT as f64 + scale;
    format!(
        "<svg xmlns='http://www.w3.org/2000/svg' width='{WIDTH}' height='{y}' font-family='sans-serif' font-size='11'>\n\
         <rect width='100%' height='100%' fill='white'/>\n\
         <text x='4' y='18' font-size='14'>Time divided by this project's: longer is slower</text>\n{body}\
         <line x1='{one:.1}' y1='{TOP}' x2='{one:.1}' y2='{y}' stroke='black' stroke-dasharray='3'/>\n</svg>\n"
    )
}

#[cfg(test)]
mod tests {
    use super::super::report::tests::row;

    #[test]
    fn every_row_has_a_bar_within_the_picture() {
        let rows = [row("resnet18", 1, "residual", 1.0, 1.0), row("resnet18", 1, "slow", 99.0, 99.0)];
        let svg = super::svg(&rows);
        assert_eq!(svg.matches("<rect").count(), 1 + rows.len());
        assert!(svg.contains("width='710.0'") && svg.contains(">99.00<"), "{svg}");
    }
}
