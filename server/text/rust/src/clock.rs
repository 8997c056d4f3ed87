//! The clock for chat templates: `datetime.now().strftime(format)`.

use std::ffi::CString;
use std::time::{SystemTime, UNIX_EPOCH};

use minijinja::{Error, ErrorKind};

/// Python fails if a date is longer than this many bytes per byte of the format.
const MAX_BYTES_EACH: usize = 256;
/// No template's date is longer.
const MAX_BYTES: usize = 1 << 16;

pub fn local_time(format: &str) -> Result<String, Error> {
    let wrong = |what: &str| Error::new(ErrorKind::InvalidOperation, what.to_string());
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let format = python_format(format, now.subsec_micros());
    let format = CString::new(format).map_err(|_| wrong("the format has a NUL"))?;
    let bytes = (MAX_BYTES_EACH * format.as_bytes().len()).clamp(1, MAX_BYTES);
    let mut buffer = vec![0u8; bytes];
    let seconds = now.as_secs() as libc::time_t;
    // SAFETY: localtime_r fills `parts`; strftime writes at most the buffer and returns how much.
    let size = unsafe {
        let mut parts: libc::tm = std::mem::zeroed();
        if libc::localtime_r(&seconds, &mut parts).is_null() {
            return Err(wrong("the local time is not known"));
        }
        libc::strftime(buffer.as_mut_ptr().cast(), buffer.len(), format.as_ptr(), &parts)
    };
    Ok(String::from_utf8_lossy(&buffer[..size]).into_owned())
}

/// Expands what Python handles itself: microseconds, and nothing for the zone, as its time is
/// naive.
fn python_format(format: &str, micros: u32) -> String {
    let mut out = String::with_capacity(format.len());
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        match (c, if c == '%' { chars.next() } else { None }) {
            ('%', Some('f')) => out.push_str(&format!("{micros:06}")),
            ('%', Some('z' | 'Z')) => {}
            (c, next) => {
                out.push(c);
                out.extend(next);
            }
        }
    }
    out
}
