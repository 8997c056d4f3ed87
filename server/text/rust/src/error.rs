//! What can go wrong, in the terms of the C ABI.

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
    /// One sentence for the person who can mend it.
    pub message: String,
}

impl Error {
    pub fn new(status: Status, message: impl Into<String>) -> Self {
        Error { status, message: message.into() }
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
