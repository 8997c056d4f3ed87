//! Errors, in the terms of the C ABI.

use std::fmt::Write;

/// Messages repeat text from a folder's files, which may be anything.
const MAX_MESSAGE_BYTES: usize = 512;

/// The numbers of `baram_text.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Status {
    Ok = 0,
    NotFound = 1,
    BadFile = 2,
    BadInput = 3,
    BadArguments = 4,
    Raised = 5,
    TooLarge = 6,
    Panicked = 7,
    NoThread = 8,
    Denied = 9,
}

#[derive(Debug)]
pub struct Error {
    pub status: Status,
    /// One sentence for the person who can fix it.
    pub message: String,
}

impl Error {
    pub fn new(status: Status, message: impl Into<String>) -> Self {
        Error { status, message: message.into() }
    }

    /// The message in a form safe for a terminal or a log: one short line, without characters that
    /// control the terminal or change the text's direction.
    pub fn shown(&self) -> String {
        let mut shown = String::new();
        for c in self.message.chars() {
            if shown.len() > MAX_MESSAGE_BYTES {
                shown.push_str("...");
                break;
            }
            let turns = matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
            match c.is_control() || turns {
                true => _ = write!(shown, "\\u{:04x}", c as u32),
                false => shown.push(c),
            }
        }
        shown
    }

    pub fn bad_file(message: impl Into<String>) -> Self {
        Self::new(Status::BadFile, message)
    }

    pub fn bad_input(message: impl Into<String>) -> Self {
        Self::new(Status::BadInput, message)
    }

    pub fn bad_arguments(message: impl Into<String>) -> Self {
        Self::new(Status::BadArguments, message)
    }
}

pub type Result<T> = std::result::Result<T, Error>;
