//! Numbers of the TensorFlow Lite schema, version 3: where fields are and what codes mean.

/// The file identifier at byte 4.
pub(super) const IDENTIFIER: &str = "TFL3";
/// Schema version.
pub(super) const VERSION: u32 = 3;

/// Fields by table, as the schema numbers them.
pub(super) mod field {
    pub mod model {
        pub const VERSION: usize = 0;
        pub const OPERATOR_CODES: usize = 1;
        pub const SUBGRAPHS: usize = 2;
        pub const DESCRIPTION: usize = 3;
        pub const BUFFERS: usize = 4;
    }
    pub mod operator_code {
        /// i8; codes up to 126
        pub const DEPRECATED: usize = 0;
        pub const CUSTOM: usize = 1;
        pub const VERSION: usize = 2;
        pub const BUILTIN: usize = 3;
    }
    pub mod subgraph {
        pub const TENSORS: usize = 0;
        pub const INPUTS: usize = 1;
        pub const OUTPUTS: usize = 2;
        pub const OPERATORS: usize = 3;
        pub const NAME: usize = 4;
    }
    pub mod tensor {
        pub const SHAPE: usize = 0;
        pub const TYPE: usize = 1;
        pub const BUFFER: usize = 2;
        pub const NAME: usize = 3;
        pub const QUANTIZATION: usize = 4;
    }
    pub mod quantization {
        pub const SCALE: usize = 2;
        pub const ZERO_POINT: usize = 3;
        pub const DIMENSION: usize = 6;
    }
    pub mod operator {
        pub const OPCODE: usize = 0;
        pub const INPUTS: usize = 1;
        pub const OUTPUTS: usize = 2;
        pub const OPTIONS_TYPE: usize = 3;
        pub const OPTIONS: usize = 4;
    }
    pub mod buffer {
        pub const DATA: usize = 0;
    }
    pub mod conv {
        pub const PADDING: usize = 0;
        pub const STRIDE_W: usize = 1;
        pub const STRIDE_H: usize = 2;
        pub const ACTIVATION: usize = 3;
        pub const DILATION_W: usize = 4;
        pub const DILATION_H: usize = 5;
    }
    pub mod pool {
        pub const PADDING: usize = 0;
        pub const STRIDE_W: usize = 1;
        pub const STRIDE_H: usize = 2;
        pub const FILTER_W: usize = 3;
        pub const FILTER_H: usize = 4;
        pub const ACTIVATION: usize = 5;
    }
    /// ADD and FULLY_CONNECTED
    pub const ACTIVATION: usize = 0;
    pub mod fully_connected {
        pub const WEIGHTS_FORMAT: usize = 1;
    }
    pub mod mean {
        pub const KEEP_DIMS: usize = 0;
    }
    pub mod softmax {
        pub const BETA: usize = 0;
    }
    pub mod strided_slice {
        /// begin, end, ellipsis, new axis and shrink axis masks
        pub const MASKS: [usize; 5] = [0, 1, 2, 3, 4];
    }
}

/// `BuiltinOperator`.
pub(super) mod operator {
    pub const ADD: i32 = 0;
    pub const AVERAGE_POOL_2D: i32 = 1;
    pub const CONV_2D: i32 = 3;
    pub const DEQUANTIZE: i32 = 6;
    pub const FULLY_CONNECTED: i32 = 9;
    pub const MAX_POOL_2D: i32 = 17;
    pub const RESHAPE: i32 = 22;
    pub const SOFTMAX: i32 = 25;
    pub const CUSTOM: i32 = 32;
    pub const PAD: i32 = 34;
    pub const MEAN: i32 = 40;
    pub const SQUEEZE: i32 = 43;
    pub const STRIDED_SLICE: i32 = 45;
    pub const PADV2: i32 = 60;
    pub const SHAPE: i32 = 77;
    pub const PACK: i32 = 83;
    pub const MIRROR_PAD: i32 = 100;
    pub const QUANTIZE: i32 = 114;
}

/// `BuiltinOptions`: which table holds an operator's options.
pub(super) mod options {
    pub const CONV: u8 = 1;
    pub const POOL: u8 = 5;
    pub const FULLY_CONNECTED: u8 = 8;
    pub const ADD: u8 = 11;
    pub const RESHAPE: u8 = 17;
    pub const PAD: u8 = 22;
    pub const REDUCER: u8 = 27;
    pub const STRIDED_SLICE: u8 = 32;
}

pub(super) const TYPE_FLOAT32: i8 = 0;
pub(super) const TYPE_INT32: i8 = 2;
pub(super) const TYPE_UINT8: i8 = 3;
pub(super) const TYPE_INT64: i8 = 4;
pub(super) const TYPE_INT8: i8 = 9;
pub(super) const PADDING_SAME: i8 = 0;
pub(super) const PADDING_VALID: i8 = 1;

/// `ActivationFunctionType`.
pub(super) mod activation {
    pub const NONE: i8 = 0;
    pub const RELU: i8 = 1;
    pub const RELU_N1_TO_1: i8 = 2;
    pub const RELU6: i8 = 3;
}
