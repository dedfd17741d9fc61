//! From logits to an answer: softmax, the best classes, the rank of the right one.

/// The class with the largest logit, the first of equal ones; 0 where there is none.
pub fn argmax(logits: &[f32]) -> usize {
    let mut best = 0;
    for (i, v) in logits.iter().enumerate() {
        if logits[best].is_nan() || *v > logits[best] {
            best = i;
        }
    }
    best
}

/// How many classes come before `class`: 0 means it is the answer, below 5 that it is in the top 5.
///
/// Of equal logits the lower class comes first. A class that does not exist, or whose logit is NaN,
/// comes behind all others.
pub fn rank(logits: &[f32], class: usize) -> usize {
    let Some(&own) = logits.get(class).filter(|v| !v.is_nan()) else { return logits.len() };
    logits.iter().enumerate().filter(|&(i, &v)| v > own || (v == own && i < class)).count()
}

/// The `k` classes with the largest logits, best first (all of them if there are fewer), in the order
/// of [`rank`].
#[cfg(feature = "alloc")]
pub fn top_k(logits: &[f32], k: usize) -> alloc::vec::Vec<usize> {
    let mut classes: alloc::vec::Vec<usize> = (0..logits.len()).collect();
    // NaN last; otherwise descending, and the stable sort keeps the lower class first.
    let order = |&i: &usize| if logits[i].is_nan() { f32::NEG_INFINITY } else { logits[i] };
    classes.sort_by(|a, b| order(b).total_cmp(&order(a)));
    classes.truncate(k);
    classes
}

/// Probabilities: `p[i] = exp(z[i] - max z) / sum`, summed in f64.
///
/// Subtracting the largest logit changes nothing but keeps `exp` from overflowing.
#[cfg(feature = "std")]
pub fn softmax(logits: &[f32]) -> std::vec::Vec<f32> {
    let largest = logits.get(argmax(logits)).copied().unwrap_or_default();
    let exps: std::vec::Vec<f64> = logits.iter().map(|&z| f64::from(z - largest).exp()).collect();
    let sum: f64 = exps.iter().sum();
    exps.into_iter().map(|e| (e / sum) as f32).collect()
}

#[cfg(all(test, feature = "std"))]
mod tests {
    use super::{argmax, rank, softmax, top_k};

    #[test]
    fn equal_logits_are_ordered_by_class() {
        let z = [1.0, 3.0, -2.0, 3.0];
        assert_eq!((argmax(&z), top_k(&z, 3)), (1, vec![1, 3, 0]));
        assert_eq!([0, 1, 2, 3].map(|class| rank(&z, class)), [2, 0, 3, 1]);
        assert_eq!(top_k(&z, 9).len(), 4);
        assert_eq!((argmax(&[]), rank(&[], 0), top_k(&[], 5)), (0, 0, vec![]));
    }

    #[test]
    fn nan_is_never_an_answer() {
        let z = [f32::NAN, 1.0, f32::NAN, 2.0];
        assert_eq!((argmax(&z), rank(&z, 0), rank(&z, 3), rank(&z, 7)), (3, 4, 0, 4));
        assert_eq!(top_k(&z, 2), [3, 1]);
    }

    #[test]
    fn softmax_is_a_distribution_at_any_scale() {
        for scale in [1.0, 1e4, 1e30] {
            let p = softmax(&[scale, 0.0, -scale, scale]);
            assert!((p.iter().sum::<f32>() - 1.0).abs() < 1e-6 && p[0] == p[3] && p[1] >= p[2], "{scale}: {p:?}");
        }
        let p = softmax(&[0.0, 3f32.ln()]);
        assert!((p[0] - 0.25).abs() < 1e-7 && (p[1] - 0.75).abs() < 1e-7);
    }
}
