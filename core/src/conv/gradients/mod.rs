//! Gradients of convolutions: of their input ([`DataGradient`]) and of their weights ([`WeightGradient`]).

mod data_gradient;
#[cfg(test)]
mod tests;
mod weight_gradient;
mod winograd_gradient;

pub use data_gradient::DataGradient;
pub use weight_gradient::WeightGradient;
