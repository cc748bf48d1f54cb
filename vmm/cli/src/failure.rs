//! What the user or the environment did not allow: one sentence, and why.

use std::error::Error;
use std::fmt;

/// A failed command: a sentence that names the thing and the remedy, and the cause below it.
///
/// Modules whose failures callers tell apart have `thiserror` enums of their
/// own; those travel as the cause.
#[derive(Debug)]
pub struct Failure {
    sentence: String,
    source: Option<Box<dyn Error + Send + Sync>>,
}

/// What a command comes to.
pub type Outcome<T> = Result<T, Failure>;

impl Failure {
    /// A failure that is its own cause.
    pub fn new(sentence: impl Into<String>) -> Self {
        Self { sentence: sentence.into(), source: None }
    }

    /// A failure with the error that caused it.
    pub fn because(
        sentence: impl Into<String>,
        source: impl Into<Box<dyn Error + Send + Sync>>,
    ) -> Self {
        Self { sentence: sentence.into(), source: Some(source.into()) }
    }

    /// An error that says all there is to say.
    pub fn from_error(error: impl Error) -> Self {
        let mut whole = Self::new(error.to_string());
        let mut cause = error.source();
        while let Some(error) = cause {
            let sentence = error.to_string();
            if !whole.sentence.contains(&sentence) {
                whole.sentence = format!("{}: {sentence}", whole.sentence);
            }
            cause = error.source();
        }
        whole
    }

    /// The sentence and its causes, joined by colons, once each.
    pub fn chain(&self) -> String {
        let mut text = self.sentence.clone();
        let mut cause = self.source();
        while let Some(error) = cause {
            let sentence = error.to_string();
            if !text.contains(&sentence) {
                text.push_str(": ");
                text.push_str(&sentence);
            }
            cause = error.source();
        }
        text
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence)
    }
}

impl Error for Failure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn Error + 'static))
    }
}

/// Says what was being done when an error came.
pub(crate) trait While<T> {
    /// Turns the error into a [`Failure`] with this sentence above it.
    fn or_fail(self, sentence: impl FnOnce() -> String) -> Outcome<T>;
}

impl<T, E: Into<Box<dyn Error + Send + Sync>>> While<T> for Result<T, E> {
    fn or_fail(self, sentence: impl FnOnce() -> String) -> Outcome<T> {
        self.map_err(|error| Failure::because(sentence(), error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_names_each_cause_once() {
        let inner = Failure::because("cannot open /x", "no such file");
        let outer = Failure::because("cannot start red", inner);
        assert_eq!(outer.chain(), "cannot start red: cannot open /x: no such file");
    }
}
