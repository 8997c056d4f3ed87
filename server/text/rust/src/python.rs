//! How Python converts values to text: str, repr, float, json.dumps, and what counts as whitespace.
//! Chat templates were written against it, so prompts depend on it byte for byte.

use std::fmt::Write;

use minijinja::value::{Value, ValueKind};
use minijinja::{Error, ErrorKind};

use crate::copying::count;
use crate::dict_view::DictView;

/// `str.isspace` for one character: Unicode whitespace and four ASCII separators that Rust omits.
pub fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// Whether Python would have a list or a tuple here: minijinja adds and repeats lists lazily.
pub fn is_list(value: &Value) -> bool {
    /// A repeated list may have any length; a rendering's bounds do not cover what a single step
    /// produces.
    const MAX_LAZY_ITEMS: usize = 1_000_000;
    match value.kind() {
        ValueKind::Seq => true,
        ValueKind::Iterable if value.downcast_object_ref::<DictView>().is_some() => false,
        ValueKind::Iterable => value.len().is_some_and(|count| count <= MAX_LAZY_ITEMS),
        _ => false,
    }
}

/// `str(value)`, and "" for an undefined value, as templates print it.
pub fn str(value: &Value) -> String {
    match value.kind() {
        ValueKind::String => {
            let text = value.as_str().unwrap_or_default();
            // If it is too much, the next step that counts fails.
            _ = count(text.len());
            text.to_string()
        }
        ValueKind::Undefined => String::new(),
        _ => repr(value),
    }
}

pub fn repr(value: &Value) -> String {
    let mut out = String::new();
    write_repr(&mut out, value);
    _ = count(out.len());
    out
}

fn write_repr(out: &mut String, value: &Value) {
    match value.kind() {
        ValueKind::String => write_quoted(out, value.as_str().unwrap_or_default()),
        ValueKind::Undefined => out.push_str("Undefined"),
        ValueKind::Number => match as_float(value) {
            Some(number) => out.push_str(&float(number)),
            None => _ = write!(out, "{value}"),
        },
        _ if is_list(value) => {
            let (open, close) = if value.is_tuple() { ('(', ')') } else { ('[', ']') };
            out.push(open);
            let mut count = 0;
            for item in value.try_iter().into_iter().flatten() {
                if count > 0 {
                    out.push_str(", ");
                }
                write_repr(out, &item);
                count += 1;
            }
            if value.is_tuple() && count == 1 {
                out.push(',');
            }
            out.push(close);
        }
        ValueKind::Map => {
            out.push('{');
            for (index, key) in value.try_iter().into_iter().flatten().enumerate() {
                if index > 0 {
                    out.push_str(", ");
                }
                write_repr(out, &key);
                out.push_str(": ");
                write_repr(out, &value.get_item(&key).unwrap_or_default());
            }
            out.push('}');
        }
        _ => _ = write!(out, "{value}"),
    }
}

/// `str.isprintable` for one character, except that unassigned ones, which differ between versions
/// of Unicode and so of Python, count as printable unless they will never be assigned.
pub fn is_printable(c: char) -> bool {
    const FORMAT_OR_PRIVATE: [(u32, u32); 23] = [
        (0xAD, 0xAD),
        (0x600, 0x605),
        (0x61C, 0x61C),
        (0x6DD, 0x6DD),
        (0x70F, 0x70F),
        (0x890, 0x891),
        (0x8E2, 0x8E2),
        (0x180E, 0x180E),
        (0x200B, 0x200F),
        (0x202A, 0x202E),
        (0x2060, 0x206F),
        (0xE000, 0xF8FF),
        (0xFDD0, 0xFDEF),
        (0xFEFF, 0xFEFF),
        (0xFFF9, 0xFFFB),
        (0x110BD, 0x110BD),
        (0x110CD, 0x110CD),
        (0x13430, 0x1343F),
        (0x1BCA0, 0x1BCA3),
        (0x1D173, 0x1D17A),
        (0xE0001, 0xE0001),
        (0xE0020, 0xE007F),
        (0xF0000, 0x10FFFF),
    ];
    let code = c as u32;
    c == ' '
        || !(c.is_control()
            || c.is_whitespace()
            || code & 0xFFFE == 0xFFFE
            || FORMAT_OR_PRIVATE.iter().any(|(first, last)| (*first..=*last).contains(&code)))
}

fn write_quoted(out: &mut String, text: &str) {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    out.push(quote);
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c == quote => {
                out.push('\\');
                out.push(c);
            }
            c if !is_printable(c) => {
                let code = c as u32;
                _ = match code {
                    0..=0xFF => write!(out, "\\x{code:02x}"),
                    0x100..=0xFFFF => write!(out, "\\u{code:04x}"),
                    _ => write!(out, "\\U{code:08x}"),
                };
            }
            c => out.push(c),
        }
    }
    out.push(quote);
}

/// The number, if it is a float rather than an integer.
pub fn as_float(value: &Value) -> Option<f64> {
    if value.kind() == ValueKind::Number && !value.is_integer() {
        f64::try_from(value.clone()).ok()
    } else {
        None
    }
}

/// `repr(float)`: the shortest digits that read back equal, with an exponent below 1e-4 and from
/// 1e16.
pub fn float(number: f64) -> String {
    if number.is_nan() {
        return "nan".to_string();
    }
    if number.is_infinite() {
        return if number > 0.0 { "inf" } else { "-inf" }.to_string();
    }
    let scientific = format!("{number:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..16).contains(&exponent) {
        let plain = number.to_string();
        return if plain.contains('.') { plain } else { plain + ".0" };
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}

/// The arguments of `json.dumps` that templates may set.
pub struct JsonStyle {
    pub ensure_ascii: bool,
    /// One level of indentation; None for a single line.
    pub indent: Option<String>,
    pub item_separator: String,
    pub key_separator: String,
    pub sort_keys: bool,
}

pub fn to_json(value: &Value, style: &JsonStyle) -> Result<String, Error> {
    let mut out = String::new();
    write_json(&mut out, value, style, 0)?;
    count(out.len())?;
    Ok(out)
}

fn write_json(
    out: &mut String,
    value: &Value,
    style: &JsonStyle,
    depth: usize,
) -> Result<(), Error> {
    match value.kind() {
        ValueKind::None => out.push_str("null"),
        ValueKind::Bool => out.push_str(if value.is_true() { "true" } else { "false" }),
        ValueKind::Number => out.push_str(&json_number(value)),
        ValueKind::String => write_json_text(out, value.as_str().unwrap_or_default(), style)?,
        _ if is_list(value) => {
            let items: Vec<Value> = value.try_iter()?.collect();
            write_json_list(out, '[', ']', items.len(), style, depth, |out, index| {
                write_json(out, &items[index], style, depth + 1)
            })?;
        }
        ValueKind::Map => {
            let mut keys = Vec::new();
            for key in value.try_iter()? {
                keys.push((json_key(&key)?, key));
            }
            if style.sort_keys {
                keys.sort_by(|(a, _), (b, _)| a.cmp(b));
            }
            write_json_list(out, '{', '}', keys.len(), style, depth, |out, index| {
                let (name, key) = &keys[index];
                write_json_text(out, name, style)?;
                out.push_str(&style.key_separator);
                write_json(out, &value.get_item(key)?, style, depth + 1)
            })?;
        }
        other => {
            return Err(Error::new(
                ErrorKind::InvalidOperation,
                format!("a value of the kind {other} is not JSON serializable"),
            ));
        }
    }
    Ok(())
}

fn write_json_list(
    out: &mut String,
    open: char,
    close: char,
    count: usize,
    style: &JsonStyle,
    depth: usize,
    mut write_item: impl FnMut(&mut String, usize) -> Result<(), Error>,
) -> Result<(), Error> {
    let break_line = |out: &mut String, depth: usize| {
        if let Some(indent) = &style.indent {
            out.push('\n');
            (0..depth).for_each(|_| out.push_str(indent));
        }
    };
    out.push(open);
    for index in 0..count {
        if index > 0 {
            out.push_str(&style.item_separator);
        }
        break_line(out, depth + 1);
        write_item(out, index)?;
    }
    if count > 0 {
        break_line(out, depth);
    }
    out.push(close);
    Ok(())
}

fn json_number(value: &Value) -> String {
    match as_float(value) {
        Some(number) if number.is_nan() => "NaN".to_string(),
        Some(number) if number.is_infinite() => {
            if number > 0.0 { "Infinity" } else { "-Infinity" }.to_string()
        }
        Some(number) => float(number),
        None => value.to_string(),
    }
}

fn json_key(key: &Value) -> Result<String, Error> {
    match key.kind() {
        ValueKind::String => Ok(key.as_str().unwrap_or_default().to_string()),
        ValueKind::Number => Ok(json_number(key)),
        ValueKind::Bool => Ok(if key.is_true() { "true" } else { "false" }.to_string()),
        ValueKind::None => Ok("null".to_string()),
        other => Err(Error::new(
            ErrorKind::InvalidOperation,
            format!("a key of the kind {other} is not JSON serializable"),
        )),
    }
}

fn write_json_text(out: &mut String, text: &str, style: &JsonStyle) -> Result<(), Error> {
    let quoted = serde_json::to_string(text)
        .map_err(|error| Error::new(ErrorKind::BadSerialization, error.to_string()))?;
    if !style.ensure_ascii {
        out.push_str(&quoted);
        return Ok(());
    }
    for c in quoted.chars() {
        // Python also escapes DEL here.
        if c.is_ascii() && c != '\u{7f}' {
            out.push(c);
        } else {
            for unit in c.encode_utf16(&mut [0; 2]) {
                _ = write!(out, "\\u{unit:04x}");
            }
        }
    }
    Ok(())
}
