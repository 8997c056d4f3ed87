//! Python's text operations: stripping, splitting, title case.

use minijinja::{Error, ErrorKind};

use crate::python;

/// More than any prompt: nothing else bounds what a single step produces.
pub const MAX_TEXT_BYTES: usize = 64 << 20;

pub fn check_size(text: &str) -> Result<(), Error> {
    match text.len() > MAX_TEXT_BYTES {
        true => Err(Error::new(
            ErrorKind::InvalidOperation,
            format!("the text grows above {MAX_TEXT_BYTES} bytes"),
        )),
        false => Ok(()),
    }
}

pub enum Side {
    Both,
    Left,
    Right,
}

pub fn strip<'a>(text: &'a str, chars: Option<&str>, side: Side) -> &'a str {
    let matches = |c: char| match chars {
        Some(chars) => chars.contains(c),
        None => python::is_space(c),
    };
    match side {
        Side::Both => text.trim_matches(matches),
        Side::Left => text.trim_start_matches(matches),
        Side::Right => text.trim_end_matches(matches),
    }
}

pub fn split<'a>(text: &'a str, separator: Option<&str>, limit: usize) -> Vec<&'a str> {
    let Some(separator) = separator else {
        let mut parts = Vec::new();
        let mut rest = text.trim_start_matches(python::is_space);
        while parts.len() < limit {
            let Some(at) = rest.find(python::is_space) else { break };
            parts.push(&rest[..at]);
            rest = rest[at..].trim_start_matches(python::is_space);
        }
        parts.extend((!rest.is_empty()).then_some(rest));
        return parts;
    };
    text.splitn(limit.saturating_add(1), separator).collect()
}

pub fn rsplit<'a>(text: &'a str, separator: Option<&str>, limit: usize) -> Vec<&'a str> {
    let Some(separator) = separator else {
        let mut parts = Vec::new();
        let mut rest = text.trim_end_matches(python::is_space);
        while parts.len() < limit {
            let word = rest.trim_end_matches(|c| !python::is_space(c)).len();
            if word == 0 {
                break;
            }
            parts.push(&rest[word..]);
            rest = rest[..word].trim_end_matches(python::is_space);
        }
        parts.extend((!rest.is_empty()).then_some(rest));
        parts.reverse();
        return parts;
    };
    let mut parts: Vec<&str> = text.rsplitn(limit.saturating_add(1), separator).collect();
    parts.reverse();
    parts
}

pub fn split_lines(text: &str, keep_ends: bool) -> impl Iterator<Item = &str> {
    let is_end = |c: char| {
        matches!(c, '\n' | '\r' | '\x0b' | '\x0c' | '\x1c'..='\x1e')
            || matches!(c, '\u{85}' | '\u{2028}' | '\u{2029}')
    };
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let size = rest.find(is_end).unwrap_or(rest.len());
        let end = match rest[size..].starts_with("\r\n") {
            true => 2,
            false => rest[size..].chars().next().map_or(0, char::len_utf8),
        };
        let line = &rest[..if keep_ends { size + end } else { size }];
        rest = &rest[size + end..];
        Some(line)
    })
}

/// Capitalizes every letter that does not follow a letter.
pub fn title(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut in_word = false;
    for c in text.chars() {
        if in_word {
            out.extend(c.to_lowercase());
        } else {
            // Of a ligature only the first letter.
            let mut letters = c.to_uppercase();
            out.extend(letters.next());
            out.extend(letters.flat_map(char::to_lowercase));
        }
        in_word = c.is_lowercase() || c.is_uppercase();
    }
    out
}

/// Whether its words, and nothing else, are capitalized.
pub fn is_title(text: &str) -> bool {
    let mut in_word = false;
    let mut has_words = false;
    for c in text.chars() {
        if c.is_uppercase() == in_word && (c.is_uppercase() || c.is_lowercase()) {
            return false;
        }
        in_word = c.is_lowercase() || c.is_uppercase();
        has_words |= in_word;
    }
    has_words
}

pub fn expand_tabs(text: &str, size: usize) -> Result<String, Error> {
    let mut out = String::with_capacity(text.len());
    let mut column = 0;
    for c in text.chars() {
        match c {
            '\t' => {
                let missing = if size > 0 { size - column % size } else { 0 };
                out.push_str(&" ".repeat(missing));
                column += missing;
                check_size(&out)?;
            }
            c => {
                out.push(c);
                column = if matches!(c, '\n' | '\r') { 0 } else { column + 1 };
            }
        }
    }
    Ok(out)
}
