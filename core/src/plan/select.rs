//! Which kernel computes a convolution: the one a simple model of the machine expects to be fastest.
//!
//! The choice depends on the shape alone, not on batch, threads or timing: plans are deterministic and
//! results the same to the bit.

use crate::{
    Error, Isa,
    conv::{Int8, Kernel},
    geom::{ConvGeom, Window},
    simd::{
        DotIsa, Tile, points, tile_of,
        winograd::{Filter, strided},
    },
};

/// The kernel with the lowest estimate, with Winograd's among them or not.
///
/// # Errors
/// [`Error::Unsupported`] when no kernel can compute `g`.
pub fn fastest(g: &ConvGeom, isa: Isa, winograd: bool) -> Result<Kernel, Error> {
    candidates(*g, isa, winograd)
        .min_by(|a, b| cycles(a, g, isa).total_cmp(&cycles(b, g, isa)))
        .ok_or(Error::Unsupported(*g))
}

/// Every kernel that can compute `g`, Winograd's among them or not.
pub(super) fn candidates(g: ConvGeom, isa: Isa, winograd: bool) -> impl Iterator<Item = Kernel> {
    let allowed = move |kernel: &Kernel| winograd || !kernel.is_winograd();
    Kernel::all(isa).into_iter().filter(move |kernel| kernel.supports(&g) && allowed(kernel))
}

/// The int8 kernel with the lowest estimate, Winograd's among them or not.
pub(super) fn fastest_int8(g: &Window, isa: Isa, winograd: bool) -> Option<Int8> {
    int8_candidates(*g, isa, winograd).min_by(|a, b| int8_cycles(a, g, isa).total_cmp(&int8_cycles(b, g, isa)))
}

/// Every int8 kernel that can compute `g`, Winograd's among them or not.
pub(super) fn int8_candidates(g: Window, isa: Isa, winograd: bool) -> impl Iterator<Item = Int8> {
    let allowed = move |kernel: &Int8| winograd || matches!(kernel, Int8::Direct(_));
    Int8::all(isa).into_iter().filter(move |kernel| kernel.supports(&g) && allowed(kernel))
}

/// Vectors of multiply-adds in a cycle.
const RATE: f64 = 2.0;
/// Bytes in a cycle from beyond L2, while multiply-adds go on.
const STREAM: f64 = 4.5;
/// Weights up to this many bytes stay in L2 from run to run, beside those of a few other layers.
const L2_SHARE: f64 = 256e3;
/// Cycles that a register tile costs besides its sums, where these are not specialised for their length.
const TILE: f64 = 50.0;

/// Estimated cycles for one image: multiply-adds and transforms, or weights from beyond L2 if that takes
/// longer. The constants were measured on one core with AVX-512 and checked on one with AVX2: narrower vectors
/// multiply and transform more slowly, but memory is no slower.
fn cycles(kernel: &Kernel, g: &ConvGeom, isa: Isa) -> f64 {
    let out = g.output();
    let (lanes, width, rows) = tile_of(isa);
    // A panel that is not full leaves too few sums to hide the latency of multiply-adds.
    let efficiency = match 4 * g.c_out / width {
        0..=1 => 0.45,
        2 => 0.8,
        _ => 0.92,
    };
    let products = kernel.products(g) as f64;
    let (products, transforms) = match kernel {
        Kernel::Winograd(w) => {
            let tiles = Filter::Stride1(w.tile()).tiles(out);
            let per_vector = match w.tile() {
                Tile::Two => 45.0,
                Tile::Four => 110.0,
            };
            let vectors = (g.input.c.div_ceil(lanes) + g.c_out.div_ceil(lanes)) as f64;
            let calls = if points::few(g.input.c) { 0 } else { tiles.div_ceil(rows) * w.tile().points() };
            (products, tiles as f64 * vectors * per_vector + calls as f64 * TILE)
        }
        Kernel::WinogradStrided(_) => {
            let tiles = Filter::Stride2.tiles(out);
            let vectors = 45 * g.input.c.div_ceil(lanes) + 15 * g.c_out.div_ceil(lanes);
            let calls = tiles.div_ceil(rows) * g.c_out.div_ceil(width) * strided::POINTS;
            // Nine short products lose more at their ends than one long one.
            (1.1 * products, (tiles * vectors) as f64 + calls as f64 * TILE)
        }
        Kernel::Direct(_) | Kernel::Pointwise(_) => (products, 0.0),
    };
    let bytes = 4.0 * kernel.packed_len(g) as f64;
    let stream = if bytes > L2_SHARE { bytes / STREAM } else { 0.0 };
    (products / (RATE * lanes as f64) / efficiency + transforms).max(stream)
}

/// The same for int8, measured on one core with AVX2. What is done to sums before they are stored costs all kernels the
/// same.
fn int8_cycles(kernel: &Int8, g: &Window, isa: Isa) -> f64 {
    let (direct, pairs) = DotIsa::of(isa).products_per_cycle();
    let channels = (g.input.c.next_multiple_of(2) * g.output.c.next_multiple_of(8)) as f64;
    let computing = match kernel {
        Int8::Direct(_) => {
            let taps = g.kernel * (g.kernel * g.input.c).next_multiple_of(4);
            let pixels = g.output.h * g.output.w;
            (pixels * taps * g.output.c.next_multiple_of(8)) as f64 / direct
        }
        Int8::Winograd(winograd) => {
            // Of 16 inputs, of 8 outputs, and of the weights between 2 and 8 of them.
            let (input, output, weights) = match winograd.tile() {
                Tile::Two => (30.0, 15.0, 20.0),
                Tile::Four => (90.0, 70.0, 45.0),
            };
            let tiles = winograd.tiles(g) as f64;
            // Inputs that do not fill a vector are copied one by one.
            let part = if g.input.c.is_multiple_of(16) { 0.0 } else { 7.0 * input };
            let vectors = g.input.c.div_ceil(16) as f64 * input + part + g.output.c.div_ceil(8) as f64 * output;
            tiles * (winograd.tile().points() as f64 * channels / pairs + vectors)
                + winograd.strips(g) as f64 * channels / 16.0 * weights
        }
    };
    let bytes = g.weight_len() as f64;
    computing.max(if bytes > L2_SHARE { bytes / STREAM } else { 0.0 })
}

#[cfg(test)]
mod tests {
    use super::fastest;
    use crate::{
        Isa,
        geom::{ConvGeom, Shape},
    };

    #[test]
    fn winograd_is_chosen_where_it_pays_and_never_where_it_is_forbidden() {
        let conv = |side, c| ConvGeom { input: Shape::new(side, side, c), c_out: c, kernel: 3, stride: 1, pad: 1 };
        let name = |g: &ConvGeom, winograd| fastest(g, Isa::PORTABLE, winograd).unwrap().name();
        assert!(name(&conv(56, 64), true).starts_with("winograd4"));
        assert!(name(&conv(7, 512), true).starts_with("winograd2"));
        assert!(name(&conv(56, 64), false).starts_with("direct"));
        // A stem of three channels has too little to multiply at each point; four times the weights of 64 channels for
        // four tiles would not stay in L2.
        assert!(name(&ConvGeom { input: Shape::new(32, 32, 3), ..conv(32, 16) }, true).starts_with("direct"));
        assert!(name(&conv(8, 64), true).starts_with("winograd2"));
        let strided = ConvGeom { stride: 2, ..conv(56, 64) };
        assert!(name(&strided, true).starts_with("winograd2s2"));
        assert!(name(&strided, false).starts_with("direct"));
        // The tiles of a 7x7 map cover 8x8.
        let last = ConvGeom { stride: 2, ..conv(14, 512) };
        assert!(name(&last, true).starts_with("direct"));
    }
}
