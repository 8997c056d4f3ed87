//! The code of one tag, between its name and its end, where minijinja reads it differently.

use std::collections::HashSet;

use crate::prepare::is_word;

/// The filter that what is looped over goes through, see `iterables::loop_items`.
pub const LOOP_FILTER: &str = "__iter";

/// A word or a sign outside of strings.
struct Mark<'c> {
    at: usize,
    text: &'c str,
    /// How many brackets are around it.
    depth: usize,
}

/// The words, and the commas, brackets and single = signs, outside of strings and brackets.
fn marks(code: &str) -> Vec<Mark<'_>> {
    all_marks(code).into_iter().filter(|mark| mark.depth == 0).collect()
}

/// The same outside of strings alone.
fn all_marks(code: &str) -> Vec<Mark<'_>> {
    let mut marks = Vec::new();
    let mut depth = 0usize;
    let mut at = 0;
    let mut before = ' ';
    while let Some(c) = code[at..].chars().next() {
        let rest = &code[at..];
        let size = match c {
            '\'' | '"' => string_size(rest, c),
            c if is_word(c) => rest.find(|c| !is_word(c)).unwrap_or(rest.len()),
            '=' if rest.starts_with("==") => 2,
            c => c.len_utf8(),
        };
        if let ')' | ']' | '}' = c {
            depth = depth.saturating_sub(1);
        }
        let is_mark = match c {
            '=' => size == 1 && !matches!(before, '!' | '<' | '>'),
            // Behind a dot it is a name, whatever it says.
            c if is_word(c) => before != '.',
            c => matches!(c, ',' | '(' | '[' | '{' | ')' | ']' | '}'),
        };
        if is_mark {
            marks.push(Mark { at, text: &rest[..size], depth });
        }
        if let '(' | '[' | '{' = c {
            depth += 1;
        }
        before = if c.is_whitespace() { before } else { c };
        at += size;
    }
    marks
}

/// The bytes of the string at the begin of `code`.
fn string_size(code: &str, quote: char) -> usize {
    let mut escaped = false;
    let end = code[1..].find(|c: char| {
        let ends = c == quote && !escaped;
        escaped = c == '\\' && !escaped;
        ends
    });
    end.map_or(code.len(), |end| end + 2)
}

/// `x in xs if y` with `xs` in brackets and behind it the filter. None where this is no loop.
pub fn write_for(code: &str) -> Option<String> {
    let marks = marks(code);
    let is_in = marks.iter().position(|mark| mark.text == "in")?;
    let begin = marks[is_in].at + 2;
    let ends = |mark: &&Mark| matches!(mark.text, "if" | "recursive");
    let end = marks[is_in + 1..].iter().find(ends).map_or(code.len(), |mark| mark.at);
    let (before, items, behind) = (&code[..begin], &code[begin..end], &code[end..]);
    if items.trim().is_empty() {
        return None;
    }
    Some(format!("{before} ({items})|{LOOP_FILTER} {behind}"))
}

/// `(a, b) = (x, y)` of `a = x, b = y`: Jinja knows no earlier name in a later value. None where
/// there is no more than one.
pub fn write_with(code: &str) -> Option<String> {
    let mut targets = String::new();
    let mut values = String::new();
    let mut begin = 0;
    let mut sign = None;
    let end = [Mark { at: code.len(), text: ",", depth: 0 }];
    let marks = marks(code);
    for mark in marks.iter().chain(&end) {
        match mark.text {
            "=" if sign.is_none() => sign = Some(mark.at),
            "," => {
                let at = sign.take()?;
                targets.push_str(&code[begin..at]);
                values.push_str(&code[at + 1..mark.at]);
                targets.push(',');
                values.push(',');
                begin = mark.at + 1;
            }
            _ => {}
        }
    }
    (marks.iter().any(|mark| mark.text == ",")).then(|| format!(" ({targets}) = ({values})"))
}

/// Refuses a default made of an earlier parameter: minijinja looks for that name outside.
pub fn check_macro(code: &str) -> Result<(), String> {
    let mut parameters = HashSet::new();
    let mut parameter = "";
    let mut is_default = false;
    let marks = all_marks(code);
    let begin = marks.iter().take_while(|mark| mark.text != "(").count();
    for (index, mark) in marks.iter().enumerate().skip(begin + 1) {
        let is_value = marks.get(index + 1).is_none_or(|next| next.text != "=");
        match (mark.text, mark.depth) {
            (")", 0) => break,
            (",", 1) => {
                parameters.insert(parameter);
                is_default = false;
            }
            ("=", 1) => is_default = true,
            (name, 1) if !is_default => parameter = name,
            (name, _) if is_value && parameters.contains(name) => {
                return Err(format!(
                    "the default of {parameter} can't be made of {name} here, a parameter as well"
                ));
            }
            _ => {}
        }
    }
    Ok(())
}

/// The names that a macro's further arguments have in Jinja.
const REST_NAMES: [&str; 2] = ["varargs", "kwargs"];

/// What the code of a tag, or of an expression, does with them.
pub struct RestNames<'c> {
    pub sets: bool,
    pub reads: Option<&'c str>,
}

pub fn rest_names<'c>(tag: &str, code: &'c str) -> RestNames<'c> {
    let mut found = RestNames { sets: false, reads: None };
    if !REST_NAMES.iter().any(|name| code.contains(name)) {
        return found;
    }
    let marks = all_marks(code);
    let ends = |mark: &&Mark| mark.depth == 0 && matches!(mark.text, "=" | "in");
    let targets_end = match tag {
        "macro" | "call" => code.len(),
        "set" | "with" | "for" => marks.iter().find(ends).map_or(code.len(), |mark| mark.at),
        _ => 0,
    };
    for (index, mark) in marks.iter().enumerate() {
        // The name of an argument otherwise.
        let is_value = marks.get(index + 1).is_none_or(|next| next.text != "=");
        if REST_NAMES.contains(&mark.text) {
            match mark.at < targets_end {
                true => found.sets = true,
                false if is_value => found.reads = Some(mark.text),
                false => {}
            }
        }
    }
    found
}
