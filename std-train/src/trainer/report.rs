//! `report.html`: the curves of the paper's Figure 6 (training error dashed, validation error solid), the
//! losses, the rate, and a table. One file, no scripts.

use std::{fmt::Write as _, io, path::Path};

use super::metrics::Row;
use residual_io::write_atomic;

/// A line in a chart.
pub struct Curve {
    /// what it is called
    pub name: String,
    /// `(x, y)`
    pub points: Vec<(f64, f64)>,
    /// which colour, counted from 0
    pub colour: usize,
    /// dashed, as training curves are
    pub dashed: bool,
}

const COLOURS: [&str; 6] = ["#c0392b", "#2c6fbb", "#2e8b57", "#8e44ad", "#d68910", "#444"];
const WIDTH: f64 = 560.0;
const HEIGHT: f64 = 300.0;

/// A chart as SVG: axes from 0 to the next round number.
pub fn chart(title: &str, x_name: &str, curves: &[Curve]) -> String {
    let points = || curves.iter().flat_map(|c| &c.points).filter(|p| p.0.is_finite() && p.1.is_finite());
    let round = |v: f64| {
        let unit = 10f64.powf(v.max(1e-9).log10().floor());
        unit * [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0].into_iter().find(|m| m * unit >= v).unwrap_or(10.0)
    };
    let x_end = points().map(|p| p.0).fold(1e-9, f64::max);
    let y_end = round(points().map(|p| p.1).fold(1e-9, f64::max));
    let x = |v: f64| 50.0 + v / x_end * (WIDTH - 70.0);
    let y = |v: f64| HEIGHT - 40.0 - v / y_end * (HEIGHT - 70.0);
    let mut svg = format!(
        "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" font-family=\"sans-serif\" font-size=\"12\">\
         <text x=\"50\" y=\"16\" font-weight=\"bold\">{}</text>\n",
        escape(title)
    );
    for i in 0..=4 {
        let (v, w) = (y_end * f64::from(i) / 4.0, x_end * f64::from(i) / 4.0);
        let _ = writeln!(
            svg,
            "<line x1=\"50\" x2=\"{:.1}\" y1=\"{:.1}\" y2=\"{1:.1}\" stroke=\"#ddd\"/>\
             <text x=\"44\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            WIDTH - 20.0,
            y(v),
            y(v) + 4.0,
            short(v),
            x(w),
            HEIGHT - 24.0,
            short(w)
        );
    }
    let _ = writeln!(
        svg,
        "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
        WIDTH / 2.0,
        HEIGHT - 6.0,
        escape(x_name)
    );
    for (i, curve) in curves.iter().enumerate() {
        let colour = COLOURS[curve.colour % COLOURS.len()];
        let dash = if curve.dashed { " stroke-dasharray=\"5 3\"" } else { "" };
        let line: Vec<String> = curve
            .points
            .iter()
            .filter(|p| p.1.is_finite())
            .map(|&(px, py)| format!("{:.1},{:.1}", x(px), y(py)))
            .collect();
        let _ = writeln!(
            svg,
            "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\"{dash} points=\"{}\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" fill=\"{colour}\" text-anchor=\"end\">{}</text>",
            line.join(" "),
            WIDTH - 24.0,
            34.0 + 15.0 * i as f64,
            escape(&curve.name)
        );
    }
    svg + "</svg>\n"
}

/// Writes the report of one run, atomically.
///
/// # Errors
/// What the operating system reports.
pub fn write(path: &Path, title: &str, config: &str, rows: &[Row]) -> io::Result<()> {
    let curve = |name: &str, colour, dashed, y: fn(&Row) -> f64| Curve {
        name: name.into(),
        points: rows.iter().map(|r| (r.step as f64, y(r))).collect(),
        colour,
        dashed,
    };
    let error = chart(
        "Error %",
        "step",
        &[curve("training", 0, true, |r| 100.0 - r.train_top1), curve("validation", 0, false, |r| 100.0 - r.val_top1)],
    );
    let loss = chart(
        "Loss",
        "step",
        &[curve("training", 1, true, |r| r.train_loss), curve("validation", 1, false, |r| r.val_loss)],
    );
    let rate = chart("Learning rate", "step", &[curve("rate", 2, false, |r| r.lr)]);
    let mut table = String::new();
    for r in rows {
        let _ = writeln!(
            table,
            "<tr><td>{}<td>{}<td>{:.5}<td>{:.4}<td>{:.2}<td>{:.4}<td>{:.2}<td>{:.0}",
            r.epoch,
            r.step,
            r.lr,
            r.train_loss,
            100.0 - r.train_top1,
            r.val_loss,
            100.0 - r.val_top1,
            r.images_per_second
        );
    }
    let (title, config) = (escape(title), escape(config));
    let html = format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>{title}</title>\n\
         {STYLE}<h1>{title}</h1>\n{error}{loss}{rate}\
         <table><tr><th>epoch<th>step<th>rate<th>loss<th>error %<th>val. loss<th>val. error %<th>images/s\n{table}</table>\n\
         <h2>Configuration</h2>\n<pre>{config}</pre>\n</html>\n"
    );
    write_atomic(path, |out| io::Write::write_all(out, html.as_bytes()))
}

/// A run's name and its rows.
pub type Run = (String, Vec<Row>);

/// Writes the curves of several runs into one figure, atomically: a chart for each group of runs, all with the
/// same axis of steps, as the paper's Figure 6 sets plain networks beside residual ones.
///
/// # Errors
/// What the operating system reports.
pub fn compare(path: &Path, title: &str, groups: &[(&str, &[Run])]) -> io::Result<()> {
    let mut charts = String::new();
    for (name, runs) in groups {
        let mut curves = Vec::new();
        for (i, (run, rows)) in runs.iter().enumerate() {
            for (what, dashed) in [("training", true), ("validation", false)] {
                let error = |r: &Row| 100.0 - if dashed { r.train_top1 } else { r.val_top1 };
                let points = rows.iter().map(|r| (r.step as f64, error(r))).collect();
                curves.push(Curve { name: format!("{run}, {what}"), points, colour: i, dashed });
            }
        }
        charts += &chart(&format!("{name}: error %"), "step", &curves);
    }
    let mut table = String::new();
    for (run, row) in groups.iter().flat_map(|(_, runs)| *runs).filter_map(|(run, rows)| Some((run, rows.last()?))) {
        let (train, val) = (100.0 - row.train_top1, 100.0 - row.val_top1);
        let _ = writeln!(table, "<tr><td>{}<td>{}<td>{train:.2}<td>{val:.2}", escape(run), row.step);
    }
    let title = escape(title);
    let html = format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>{title}</title>\n{STYLE}<h1>{title}</h1>\n\
         {charts}<table><tr><th>network<th>step<th>training error %<th>validation error %\n{table}</table>\n</html>\n"
    );
    write_atomic(path, |out| io::Write::write_all(out, html.as_bytes()))
}

const STYLE: &str = "<style>body{font:14px sans-serif;margin:2em;max-width:1200px}td,th{padding:2px 10px;\
                     text-align:right}pre{background:#f4f4f4;padding:1em}</style>\n";

fn short(v: f64) -> String {
    if v >= 1e4 {
        return format!("{:.0}k", v / 1e3);
    }
    let text = format!("{v:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::{Curve, Row, chart, compare};

    #[test]
    fn charts_escape_names_and_skip_what_is_no_number() {
        let points = vec![(0.0, 90.0), (10.0, f64::NAN), (20.0, 10.0)];
        let svg = chart("a < b", "step", &[Curve { name: "x & y".into(), points, colour: 0, dashed: true }]);
        assert!(svg.contains("a &lt; b") && svg.contains("x &amp; y") && !svg.contains("NaN"));
        // 100 is the round number above 90: the first point lies a tenth below the top.
        assert!(svg.contains("points=\"50.0,53.0 540.0,237.0\""), "{svg}");
    }

    #[test]
    fn a_comparison_holds_every_run() {
        let row = |step, top1| Row {
            epoch: 1,
            step,
            lr: 0.1,
            train_loss: 1.0,
            train_top1: top1,
            val_loss: 1.0,
            val_top1: top1 - 5.0,
            images_per_second: 1.0,
        };
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("figure.html");
        let runs = |name: &str| [(name.to_owned(), vec![row(10, 50.0), row(20, 75.0)]), ("none".to_owned(), vec![])];
        let (plain, residual) = (runs("plain20"), runs("resnet20"));
        compare(&path, "a figure", &[("plain", &plain), ("residual", &residual)]).unwrap();
        let text = std::fs::read_to_string(path).unwrap();
        assert_eq!((text.matches("<svg").count(), text.matches("<polyline").count()), (2, 8));
        assert!(text.contains("<td>resnet20<td>20<td>25.00<td>30.00"), "{text}");
    }
}
