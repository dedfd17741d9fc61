//! The report as a page that needs nothing else: tables and inline SVG.

use std::fmt::Write;

use super::Report;

const WIDTH: f64 = 900.0;
const HEIGHT: f64 = 200.0;

/// The report as HTML.
pub fn html(report: &Report) -> String {
    let mut page = String::new();
    let name = escape(&report.architecture);
    // Writing to a string cannot fail.
    let _ = write!(
        page,
        "<!DOCTYPE html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>{name} in int8</title>\n<style>\
         body{{font:14px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}}\
         table{{border-collapse:collapse;width:100%}}td,th{{padding:.15rem .5rem;text-align:right;\
         border-bottom:1px solid #ddd}}td:first-child,th:first-child{{text-align:left}}svg{{width:100%}}\
         rect{{fill:#36c}}text{{font-size:10px;fill:#555}}line{{stroke:#bbb}}</style>\n\
         <h1>{name} in int8</h1>\n<p>Top-1 {:.2}% in f32, {:.2}% in int8, on {} pictures.</p>\n",
        report.top1_f32, report.top1_int8, report.pictures
    );
    plot(&mut page, report, "Signal to quantization noise up to each layer, dB", |l| Some(l.sqnr));
    plot(&mut page, report, "Top-1 with only this layer quantized, less f32, in points", |l| {
        l.top1_alone.map(|t| t - report.top1_f32)
    });
    plot(&mut page, report, "Part of the codes in use, %", |l| Some(100.0 * l.range_use));
    plot(&mut page, report, "Saturated results, %", |l| Some(100.0 * l.saturation));
    page.push_str(
        "<table><tr><th>layer<th>method<th>scale<th>zero point<th>seen<th>SQNR, dB<th>codes in use, %\
         <th>saturated, %<th>top-1 alone, %</tr>\n",
    );
    for layer in &report.layers {
        let alone = layer.top1_alone.map_or_else(|| "-".into(), |t| format!("{t:.2}"));
        let _ = writeln!(
            page,
            "<tr><td>{}<td>{}<td>{:.6}<td>{}<td>{:.3} to {:.3}<td>{:.1}<td>{:.1}<td>{:.4}<td>{alone}</tr>",
            escape(&layer.name),
            layer.method.unwrap_or("-"),
            layer.quantization.scale,
            layer.quantization.zero_point,
            layer.observed.0,
            layer.observed.1,
            layer.sqnr,
            100.0 * layer.range_use,
            100.0 * layer.saturation,
        );
    }
    page.push_str("</table></html>\n");
    page
}

/// Bars, one a layer.
fn plot(page: &mut String, report: &Report, title: &str, value: impl Fn(&super::LayerReport) -> Option<f64>) {
    let values: Vec<Option<f64>> = report.layers.iter().map(|l| value(l).filter(|v| v.is_finite())).collect();
    let all = || values.iter().flatten().copied();
    let (low, high) = (all().fold(0.0, f64::min), all().fold(0.0, f64::max));
    let unit = HEIGHT / (high - low).max(1e-9);
    let step = WIDTH / values.len().max(1) as f64;
    let zero = high * unit;
    let _ = write!(
        page,
        "<h2>{}</h2>\n<svg viewBox=\"-50 -10 {} {}\" role=\"img\"><line x1=\"0\" x2=\"{WIDTH}\" y1=\"{zero:.1}\" \
         y2=\"{zero:.1}\"/><text x=\"-45\" y=\"4\">{high:.2}</text><text x=\"-45\" y=\"{HEIGHT}\">{low:.2}</text>\n",
        escape(title),
        WIDTH + 60.0,
        HEIGHT + 20.0,
    );
    for (i, (value, layer)) in values.iter().zip(&report.layers).enumerate() {
        let Some(value) = value else { continue };
        let (top, bottom) = ((high - value.max(0.0)) * unit, (high - value.min(0.0)) * unit);
        let _ = writeln!(
            page,
            "<rect x=\"{:.1}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"{:.1}\"><title>{}: {value:.3}</title></rect>",
            i as f64 * step,
            step * 0.8,
            (bottom - top).max(0.5),
            escape(&layer.name),
        );
    }
    page.push_str("</svg>\n");
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
