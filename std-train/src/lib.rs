//! Weights, data sets and image transforms for the networks of [`residual_core`].

pub mod data;
