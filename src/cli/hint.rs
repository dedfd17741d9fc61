//! Which flag helps: the libraries say what is missing in words, for they know no flags.

use residual::{Error, ImportError, trainer::TrainError};

/// The error, with the flag to mend it with.
pub fn explain(error: &anyhow::Error) -> String {
    if let Some(TrainError::Setting { name, value, reason }) = error.downcast_ref::<TrainError>() {
        // Flags are called as the settings are.
        return format!("--{} {value}: {reason}", name.replace('_', "-"));
    }
    match hint(error) {
        Some(hint) => format!("{error}; {hint}"),
        None => error.to_string(),
    }
}

fn hint(error: &anyhow::Error) -> Option<&'static str> {
    let of_weights =
        |error: &ImportError| matches!(error, ImportError::NoArchitecture { .. }).then_some("pass --arch NAME");
    match error.downcast_ref::<Error>() {
        Some(Error::NoNormalisation { .. }) => {
            Some("pass --mean and --std, with a number for every input channel (R,G,B)")
        }
        Some(Error::UnknownClass { found, classes, .. }) if found == classes => {
            Some("pass --match-classes index to match by number, or --class-names FILE")
        }
        Some(Error::UnknownClass { .. }) => Some("pass --class-names FILE with the data set's names"),
        Some(Error::Classes { .. }) => Some("match by name, with --class-names FILE where the weights name none"),
        Some(Error::Import(error)) => of_weights(error),
        Some(_) => None,
        None => of_weights(error.downcast_ref::<ImportError>()?),
    }
}
