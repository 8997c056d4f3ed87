//! The bytes that a rendering copies. minijinja counts its steps, but a step may copy a whole text:
//! a template that appends each message to a text copies, each time, all that came before.

use std::cell::Cell;

use minijinja::value::Value;
use minijinja::{Error, ErrorKind};

/// No rendering gets less.
const MIN_BYTES: u64 = 256 << 20;

/// Templates copy a message about ten times on its way to the output.
const PER_OUTPUT_BYTE: u64 = 64;

thread_local! {
    /// What this thread's rendering may still copy.
    static LEFT: Cell<u64> = const { Cell::new(0) };
}

/// Begins a rendering on this thread.
pub fn begin(max_output_bytes: usize) {
    let bytes = (max_output_bytes as u64).saturating_mul(PER_OUTPUT_BYTE);
    LEFT.set(bytes.max(MIN_BYTES));
}

/// Out of fuel if the rendering has copied too much.
pub fn count(bytes: usize) -> Result<(), Error> {
    let left = LEFT.get().saturating_sub(bytes as u64);
    LEFT.set(left);
    match left {
        0 => Err(Error::from(ErrorKind::OutOfFuel)),
        _ => Ok(()),
    }
}

pub fn count_text(value: &Value) -> Result<(), Error> {
    count(value.as_str().map_or(0, str::len))
}

/// The filter `tags::COPY_FILTER`.
pub fn copied(value: Value) -> Result<Value, Error> {
    count_text(&value)?;
    // `set a, b = x, y`
    if value.is_tuple() {
        value.try_iter()?.try_for_each(|item| count_text(&item))?;
    }
    Ok(value)
}
