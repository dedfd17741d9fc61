//! 1x1 convolutions and their gradients are matrix products: the same ones by another implementation, `matrixmultiply`,
//! in double precision.

use residual_core::{
    Isa,
    conv::{Band, ConvWeights, DataGradient, Epilogue, Kernel, WeightGradient},
    geom::{ConvGeom, Shape},
    memory::MatMut,
    plan::fastest,
    testing::Uniform,
};

/// Rows one behind the other.
struct Matrix {
    rows: usize,
    columns: usize,
    values: Vec<f64>,
}

impl Matrix {
    fn of(values: &[f32], rows: usize) -> Self {
        Matrix { rows, columns: values.len() / rows, values: values.iter().map(|&v| f64::from(v)).collect() }
    }

    fn transposed(&self) -> Self {
        let at = |i: usize| self.values[i % self.rows * self.columns + i / self.rows];
        Matrix { rows: self.columns, columns: self.rows, values: (0..self.values.len()).map(at).collect() }
    }

    fn magnitudes(&self) -> Self {
        Matrix { values: self.values.iter().map(|v| v.abs()).collect(), ..*self }
    }

    fn times(&self, other: &Matrix) -> Matrix {
        let (m, k, n) = (self.rows, self.columns, other.columns);
        assert_eq!(k, other.rows);
        let mut values = vec![0.0; m * n];
        let (a, b, c) = (self.values.as_ptr(), other.values.as_ptr(), values.as_mut_ptr());
        let [k_step, n_step] = [k as isize, n as isize];
        // SAFETY: the matrices are m x k, k x n and m x n elements of their vectors, rows one behind the other; the third
        // is borrowed by nobody else.
        unsafe { matrixmultiply::dgemm(m, k, n, 1.0, a, k_step, 1, b, n_step, 1, 0.0, c, n_step, 1) };
        Matrix { rows: m, columns: n, values }
    }
}

/// Compares a product with `a` times `b`. Sums of `k` products round at most `k` times, in any order; `more` is the number of
/// roundings beside these.
fn assert_product(got: &[f32], a: &Matrix, b: &Matrix, more: usize, what: &str) {
    let (want, magnitude) = (a.times(b), a.magnitudes().times(&b.magnitudes()));
    let unit = (a.columns + more) as f64 * f64::from(f32::EPSILON) / 2.0;
    let bound = unit / (1.0 - unit);
    assert_eq!(got.len(), want.values.len(), "{what}");
    for (i, (got, (want, magnitude))) in got.iter().zip(want.values.iter().zip(&magnitude.values)).enumerate() {
        let error = (f64::from(*got) - want).abs();
        assert!(error <= bound * magnitude, "{what} at {i}: {got} for {want}");
    }
}

/// `(rows of pixels, input channels, output channels)`: multiples of no tile, of every tile, and a classifier.
const SHAPES: [(usize, usize, usize); 8] =
    [(1, 1, 1), (3, 5, 7), (4, 64, 64), (7, 16, 33), (5, 130, 10), (8, 96, 256), (1, 512, 1000), (13, 31, 17)];

fn geometry((side, input, c_out): (usize, usize, usize)) -> ConvGeom {
    ConvGeom { input: Shape::new(side, side, input), c_out, kernel: 1, stride: 1, pad: 0 }
}

#[test]
fn every_kernel_multiplies_matrices() {
    for isa in Isa::available() {
        let mut compared = 0;
        for g in SHAPES.map(geometry) {
            let mut random = Uniform::new(g.weight_len() as u64);
            let (x, w) = (random.vec(g.input.elements()), random.vec(g.weight_len()));
            let pixels = g.input.h * g.input.w;
            let (x_matrix, w_matrix) = (Matrix::of(&x, pixels), Matrix::of(&w, g.c_out));
            for kernel in Kernel::all(isa).iter().filter(|kernel| kernel.supports(&g)) {
                let mut packed = vec![0.0; kernel.packed_len(&g)];
                let weights = ConvWeights { oihw: &w, scale: &[], bias: &vec![0.0; g.c_out] };
                kernel.prepack(&g, weights, &mut packed).unwrap();
                let (mut y, mut scratch) = (vec![f32::NAN; g.output().elements()], vec![0.0; kernel.scratch_len(&g)]);
                let out = MatMut::new(&mut y, g.c_out);
                kernel.run(&g, &x, &packed, Epilogue::default(), &Band::whole(&g, 1), out, &mut scratch);
                let what = format!("{isa} {} {g}", kernel.name());
                assert_product(&y, &x_matrix, &w_matrix.transposed(), 2, &what);
                compared += 1;
            }
        }
        assert!(compared >= SHAPES.len(), "{isa}: {compared}");
    }
}

#[test]
fn gradients_multiply_matrices() {
    for isa in Isa::available() {
        for g in SHAPES.map(geometry) {
            let mut random = Uniform::new(g.weight_len() as u64 + 1);
            let (x, w) = (random.vec(g.input.elements()), random.vec(g.weight_len()));
            let dy = random.vec(g.output().elements());
            let pixels = g.input.h * g.input.w;
            let [x_matrix, dy_matrix] = [&x, &dy].map(|values| Matrix::of(values, pixels));

            let gradient = WeightGradient::new(isa, g, false).unwrap();
            let (mut strip, mut dw) = (vec![0.0; gradient.strip_len()], vec![0.0; gradient.len()]);
            gradient.fill(&x, &mut strip);
            gradient.accumulate(&strip, &dy, 1, 0..g.c_out, &mut dw, &mut []);
            let more = g.input.h + 2;
            assert_product(&dw, &dy_matrix.transposed(), &x_matrix, more, &format!("{isa} dw {g}"));

            let gradient = DataGradient::new(isa, g, |g| fastest(g, isa, false)).unwrap();
            let [mut packed, mut scratch] = [gradient.packed_len(), gradient.scratch_len()].map(|n| vec![0.0; n]);
            gradient.prepack(&w, &mut packed, &mut scratch).unwrap();
            let mut dx = vec![f32::NAN; x.len()];
            gradient.run(&dy, &packed, false, &mut dx, &mut scratch);
            assert_product(&dx, &dy_matrix, &Matrix::of(&w, g.c_out), 2, &format!("{isa} dx {g}"));
        }
    }
}
