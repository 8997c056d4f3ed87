//! What a failed rendering reports, and whose fault it is.

use minijinja::ErrorKind;

use crate::error::{Error, Status};
use crate::functions::Raised;

pub fn render_error(error: &minijinja::Error, max_bytes: usize) -> Error {
    if let Some(raised) = find_source_of::<Raised>(error) {
        return Error::new(Status::Raised, raised.0.clone());
    }
    match error.kind() {
        ErrorKind::OutOfFuel => Error::new(
            Status::TooLarge,
            "The conversation takes the chat template too much work; shorten it.",
        ),
        ErrorKind::WriteFailure => too_long(max_bytes),
        _ => Error::bad_input(format!(
            "The chat template can't render this conversation: {}",
            describe(error)
        )),
    }
}

pub fn too_long(max_bytes: usize) -> Error {
    Error::new(
        Status::TooLarge,
        format!(
            "The conversation, as the chat template writes it, is longer than the {max_bytes} \
             bytes that a prompt may have (--max-prompt-bytes); shorten it."
        ),
    )
}

/// Whether the template fails because of what it calls, rather than because of the conversation.
pub fn is_broken(error: &minijinja::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::UnknownFilter
            | ErrorKind::UnknownTest
            | ErrorKind::UnknownFunction
            | ErrorKind::TemplateNotFound
    ) || find_source_of::<Panic>(error).is_some()
}

fn find_source_of<T: std::error::Error + 'static>(error: &minijinja::Error) -> Option<&T> {
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        if let Some(found) = inner.downcast_ref::<T>() {
            return Some(found);
        }
        source = inner.source();
    }
    None
}

/// One sentence: what and on which line, without minijinja's excerpt of source and variables.
pub fn describe(error: &minijinja::Error) -> String {
    let what = error.detail().map_or_else(|| error.kind().to_string(), str::to_string);
    match error.line() {
        Some(line) => format!("{what} (line {line})."),
        None => format!("{what}."),
    }
}

/// Marks the error of a rendering that panicked.
#[derive(Debug)]
pub struct Panic;

impl std::fmt::Display for Panic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a panic")
    }
}

impl std::error::Error for Panic {}
