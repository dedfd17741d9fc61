use super::{Builder, FoldedConv, ValueId};
use crate::{
    Error,
    geom::{ConvGeom, PoolGeom, Shape},
};

const GEOM: ConvGeom = ConvGeom { input: Shape::new(4, 6, 2), c_out: 3, kernel: 3, stride: 2, pad: 1 };

fn tensors(oihw: &[f32], channels: usize) -> FoldedConv<'_> {
    FoldedConv::new(oihw, vec![0.0; channels])
}

#[test]
fn ops_that_do_not_fit_what_they_read_are_refused() {
    let oihw = vec![0.0; GEOM.weight_len()];
    let refused = |result: Result<ValueId, Error>| assert!(matches!(result, Err(Error::InvalidNetwork { .. })));
    let mut net = Builder::new(GEOM.input);
    let later = ValueId(7);
    refused(net.conv("later", later, GEOM, tensors(&oihw, 3), None, false));
    refused(net.conv("weights", ValueId::INPUT, GEOM, tensors(&oihw[1..], 3), None, false));
    refused(net.conv("bias", ValueId::INPUT, GEOM, tensors(&oihw, 2), None, false));
    refused(net.conv("stride", ValueId::INPUT, ConvGeom { stride: 0, ..GEOM }, tensors(&oihw, 3), None, false));
    // The input is larger than the output.
    refused(net.conv("shortcut", ValueId::INPUT, GEOM, tensors(&oihw, 3), Some(ValueId::INPUT), false));
    let other = PoolGeom { input: Shape::new(5, 5, 2), kernel: 3, stride: 2, pad: 1 };
    refused(net.max_pool_of("pool", ValueId::INPUT, other));
    refused(net.subsample("stride", ValueId::INPUT, 0, [0, 0]));
    let first = net.conv("first", ValueId::INPUT, GEOM, tensors(&oihw, 3), None, false).unwrap();
    assert_eq!(net.value(first).unwrap().shape, Shape::new(2, 3, 3));
    assert!(net.clone().finish(&[]).is_err());
    assert!(net.clone().finish(&[ValueId::INPUT]).is_err());
    let net = net.finish(&[first]).unwrap();
    assert_eq!((net.ops().len(), net.layer("first"), net.layer("second")), (1, Some(first), None));
}
