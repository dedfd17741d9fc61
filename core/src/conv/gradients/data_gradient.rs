//! The gradient of a convolution's input.
//!
//! With stride 1 it is a convolution of `dy` with the kernel turned by 180 degrees and its channels
//! exchanged, so the forward kernels compute it:
//!
//! ```text
//! dx[iy, ix, i] = sum over ky, kx, o of  dy[iy + pad - ky, ix + pad - kx, o] * w[o, i, ky, kx]
//! ```
//!
//! With a larger stride only every `stride`-th tap meets a given input pixel: the pixels fall into
//! `stride * stride` phases, each a small convolution of `dy` with the taps of its own.

use core::ops::Range;

use super::super::{Band, ConvWeights, Epilogue, Kernel};
use crate::{
    Error,
    geom::{ConvGeom, Shape},
    memory::MatMut,
    simd::{Gemm, Isa, Panels, RowMap, gemm},
};

/// See the module's description.
#[derive(Clone, Copy)]
pub struct DataGradient {
    isa: Isa,
    geom: ConvGeom,
    /// the kernel and the shape it sees, with stride 1
    forward: Option<(Kernel, ConvGeom)>,
}

/// Largest kernel side with a stride above 1.
const MAX_SIDE: usize = 3;

impl DataGradient {
    /// For a convolution of this shape; `choose` picks the kernel for the equivalent convolution.
    ///
    /// # Errors
    /// [`Error::Unsupported`] when no kernel fits, or what `choose` reports.
    pub fn new(
        isa: Isa,
        geom: ConvGeom,
        choose: impl FnOnce(&ConvGeom) -> Result<Kernel, Error>,
    ) -> Result<Self, Error> {
        let unsupported = Error::Unsupported(geom);
        if !geom.is_valid() || geom.pad >= geom.kernel {
            return Err(unsupported);
        }
        if geom.stride > 1 {
            let fits = geom.kernel <= MAX_SIDE && geom.stride <= MAX_SIDE;
            return if fits { Ok(DataGradient { isa, geom, forward: None }) } else { Err(unsupported) };
        }
        let turned = ConvGeom {
            input: geom.output(),
            c_out: geom.input.c,
            kernel: geom.kernel,
            stride: 1,
            pad: geom.kernel - 1 - geom.pad,
        };
        let kernel = choose(&turned)?;
        if !kernel.supports(&turned) {
            return Err(unsupported);
        }
        Ok(DataGradient { isa, geom, forward: Some((kernel, turned)) })
    }

    /// Elements of the packed weights.
    pub fn packed_len(&self) -> usize {
        match &self.forward {
            Some((kernel, turned)) => kernel.packed_len(turned),
            None => self.phases().map(|phase| self.panels(&phase).len()).sum(),
        }
    }

    /// Scratch elements [`DataGradient::prepack`] and [`DataGradient::run`] need.
    pub fn scratch_len(&self) -> usize {
        match &self.forward {
            Some((kernel, turned)) => kernel.scratch_len(turned).max(self.geom.weight_len() + self.geom.input.c),
            None => self.border().strip_len(self.geom.output()),
        }
    }

    /// Packs the convolution's weights, OIHW.
    ///
    /// # Errors
    /// [`Error::BufferLength`] when a slice does not fit the shape.
    pub fn prepack(&self, oihw: &[f32], packed: &mut [f32], scratch: &mut [f32]) -> Result<(), Error> {
        let ConvGeom { input, c_out, kernel: side, .. } = self.geom;
        for (what, need, got) in [
            ("weight", self.geom.weight_len(), oihw.len()),
            ("packed weight buffer", self.packed_len(), packed.len()),
            ("scratch", self.scratch_len(), scratch.len()),
        ] {
            if need != got {
                return Err(Error::BufferLength { what, need, got });
            }
        }
        let area = side * side;
        if let Some((kernel, turned)) = &self.forward {
            let (weights, rest) = scratch.split_at_mut(oihw.len());
            let bias = &mut rest[..input.c];
            bias.fill(0.0);
            for (o, filter) in oihw.chunks_exact(input.c * area).enumerate() {
                for (i, plane) in filter.chunks_exact(area).enumerate() {
                    let to = &mut weights[(i * c_out + o) * area..][..area];
                    to.iter_mut().zip(plane.iter().rev()).for_each(|(to, from)| *to = *from);
                }
            }
            return kernel.prepack(turned, ConvWeights { oihw: weights, scale: &[], bias }, packed);
        }
        let mut at = 0;
        for phase in self.phases() {
            let panels = self.panels(&phase);
            let mut taps = [0; MAX_SIDE * MAX_SIDE];
            for (t, tap) in taps.iter_mut().enumerate().take(phase.taps()) {
                let (ky, kx, _) = phase.tap(t);
                *tap = ky * side + kx;
            }
            let weight = |i: usize, d: usize| oihw[(d % c_out * input.c + i) * area + taps[d / c_out]];
            panels.pack(&mut packed[at..at + panels.len()], weight, |_| 0.0);
            at += panels.len();
        }
        Ok(())
    }

    /// One image's `dx = gradient`, or with `add` `dx += gradient`.
    ///
    /// # Panics
    /// When a slice does not fit the shape.
    pub fn run(&self, dy: &[f32], packed: &[f32], add: bool, dx: &mut [f32], scratch: &mut [f32]) {
        let (input, out) = (self.geom.input, self.geom.output());
        assert!(dy.len() == out.elements() && dx.len() == input.elements());
        if let Some((kernel, turned)) = &self.forward {
            let epilogue = Epilogue { add, relu: false };
            let (band, dx) = (Band::whole(turned, 1), MatMut::new(dx, input.c));
            return kernel.run(turned, dy, packed, epilogue, &band, dx, scratch);
        }
        let border = self.border();
        let row = border.fill(out, dy, scratch);
        let mut at = 0;
        for phase in self.phases() {
            let panels = self.panels(&phase);
            let packed = &packed[at..at + panels.len()];
            at += panels.len();
            let mut taps = [0; MAX_SIDE * MAX_SIDE];
            let n = phase.taps();
            for (t, tap) in taps.iter_mut().enumerate().take(n) {
                let (_, _, [dy, dx]) = phase.tap(t);
                *tap = (border.before + dy) as usize * row + (border.before + dx) as usize * out.c;
            }
            self.run_phase(&phase, panels, packed, &taps[..n], row, add, dx, scratch);
        }
    }

    #[allow(clippy::too_many_arguments)] // what `run` has worked out for one phase
    fn run_phase(
        &self,
        phase: &Phase,
        panels: Panels,
        packed: &[f32],
        taps: &[usize],
        row: usize,
        add: bool,
        dx: &mut [f32],
        scratch: &[f32],
    ) {
        let (input, out, stride) = (self.geom.input, self.geom.output(), self.geom.stride);
        let [ry, rx] = phase.remainder;
        let group = stride * input.c;
        let product = |a: usize| Gemm {
            a: &scratch[a..],
            rows: RowMap::contiguous(out.c),
            taps,
            depth: out.c,
            panels,
            packed,
            groups: 1,
            first: 0,
            epilogue: Epilogue { add, relu: false },
            block: usize::MAX / 2,
        };
        for (i, iy) in (ry..input.h).step_by(stride).enumerate() {
            // Groups of `stride` pixels are the rows of a matrix, this phase's pixels a range of its columns.
            let line = &mut dx[iy * input.w * input.c..(iy + 1) * input.w * input.c];
            let (whole, rest) = line.split_at_mut(input.w / stride * group);
            let (pixels, columns) = (whole.len() / group, rx * input.c..(rx + 1) * input.c);
            if pixels > 0 {
                let mut y = MatMut::new(whole, group);
                gemm(self.isa, &product(i * row), &mut y.part(0..pixels, columns.clone()));
            }
            if let Some(last) = rest.get_mut(columns) {
                let product = product(i * row + pixels * out.c);
                gemm(self.isa, &product, &mut MatMut::new(last, input.c));
            }
        }
    }

    fn panels(&self, phase: &Phase) -> Panels {
        Panels::new(self.isa, phase.taps() * self.geom.c_out, self.geom.input.c)
    }

    fn phases(&self) -> impl Iterator<Item = Phase> + use<> {
        let geom = self.geom;
        (0..geom.stride * geom.stride).map(move |p| Phase { remainder: [p / geom.stride, p % geom.stride], geom })
    }

    /// Zero rows and columns around `dy` that any phase reads.
    fn border(&self) -> Border {
        let g = &self.geom;
        let (mut before, mut after) = (0, 0);
        for remainder in 0..g.stride {
            for (_, offset) in axis_taps(g, remainder) {
                before = before.max(-offset);
                for (n_in, n_out) in [(g.input.h, g.output().h), (g.input.w, g.output().w)] {
                    let last = n_in.saturating_sub(remainder).div_ceil(g.stride) as isize - 1;
                    after = after.max(last + offset + 1 - n_out as isize);
                }
            }
        }
        Border { before, after: after as usize }
    }
}

/// Input pixels whose row and column leave these remainders by the stride.
struct Phase {
    remainder: [usize; 2],
    geom: ConvGeom,
}

impl Phase {
    fn taps(&self) -> usize {
        let [ry, rx] = self.remainder;
        axis_taps(&self.geom, ry).count() * axis_taps(&self.geom, rx).count()
    }

    /// Kernel row and column of tap `t`, and which output pixel it reads, counted from the phase's.
    fn tap(&self, t: usize) -> (usize, usize, [isize; 2]) {
        let [ry, rx] = self.remainder;
        let columns = axis_taps(&self.geom, rx).count();
        let (ky, dy) = axis_taps(&self.geom, ry).nth(t / columns).unwrap_or_default();
        let (kx, dx) = axis_taps(&self.geom, rx).nth(t % columns).unwrap_or_default();
        (ky, kx, [dy, dx])
    }
}

/// Of one axis: the taps that meet input coordinates `i * stride + remainder`, and the output
/// coordinate each reads, minus `i`.
fn axis_taps(g: &ConvGeom, remainder: usize) -> impl Iterator<Item = (usize, isize)> + use<> {
    let (stride, at) = (g.stride as isize, (remainder + g.pad) as isize);
    let taps: Range<usize> = 0..g.kernel;
    taps.filter_map(move |k| {
        let distance = at - k as isize;
        (distance % stride == 0).then_some((k, distance / stride))
    })
}

/// Zero rows and columns around a copy of `dy`.
struct Border {
    before: isize,
    after: usize,
}

impl Border {
    fn row(&self, out: Shape) -> usize {
        (self.before as usize + out.w + self.after) * out.c
    }

    fn strip_len(&self, out: Shape) -> usize {
        (self.before as usize + out.h + self.after) * self.row(out)
    }

    /// Copies `dy`; returns the elements of a row.
    fn fill(&self, out: Shape, dy: &[f32], strip: &mut [f32]) -> usize {
        let (before, row) = (self.before as usize, self.row(out));
        let strip = &mut strip[..self.strip_len(out)];
        strip.fill(0.0);
        for (to, from) in strip.chunks_exact_mut(row).skip(before).zip(dy.chunks_exact(out.w * out.c)) {
            to[before * out.c..(before + out.w) * out.c].copy_from_slice(from);
        }
        row
    }
}
