//! The code of one tag, between its name and its end, where minijinja reads it differently.

use std::collections::HashSet;

use crate::prepare::{ends_with_name, is_word};
use crate::prepare_text::closing_quote;

/// The filter applied to what is looped over, see `iterables::loop_items`.
pub const LOOP_FILTER: &str = "__iter";

/// The filter applied to what is assigned, see `copying::copied`.
pub const COPY_FILTER: &str = "__copied";

/// A word or a sign outside of strings.
struct Mark<'c> {
    at: usize,
    text: &'c str,
    /// How many brackets enclose it.
    depth: usize,
}

/// The words, and the commas, brackets and single = signs, outside of strings and brackets.
fn marks(code: &str) -> Vec<Mark<'_>> {
    all_marks(code).into_iter().filter(|mark| mark.depth == 0).collect()
}

/// The same outside of strings, at any bracket depth.
fn all_marks(code: &str) -> Vec<Mark<'_>> {
    let mut marks = Vec::new();
    let mut depth = 0usize;
    let mut at = 0;
    let mut before = ' ';
    while let Some(c) = code[at..].chars().next() {
        let rest = &code[at..];
        let size = match c {
            '\'' | '"' => closing_quote(rest, c).map_or(rest.len(), |end| end + 1),
            c if is_word(c) => rest.find(|c| !is_word(c)).unwrap_or(rest.len()),
            '=' if rest.starts_with("==") => 2,
            c => c.len_utf8(),
        };
        if let ')' | ']' | '}' = c {
            depth = depth.saturating_sub(1);
        }
        let is_mark = match c {
            '=' => size == 1 && !matches!(before, '!' | '<' | '>'),
            // After a dot it is a name, whatever the word.
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

/// `x in xs if y` with `xs` in brackets, followed by the filter. None if this is not a loop. What
/// `loop(xs)` of a recursive loop iterates over is left unchanged.
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

/// `x = (y)|__copied` for `x = y`, if `y` may be a text that is made here: of these every text
/// consists that grows from step to step. None if it is not, or if its brackets do not match.
pub fn write_set(code: &str) -> Option<String> {
    let marks = marks(code);
    let value_at = marks.iter().find(|mark| mark.text == "=")?.at + 1;
    let (target, value) = code.split_at(value_at);
    let mut open = 0usize;
    for mark in all_marks(value) {
        match mark.text {
            "(" | "[" | "{" => open += 1,
            ")" | "]" | "}" => open = open.checked_sub(1)?,
            _ => {}
        }
    }
    let makes_text = value.contains(['+', '~', '*', '|', '(']);
    (open == 0 && makes_text).then(|| format!("{target} ({value})|{COPY_FILTER} "))
}

/// `(a, b) = (x, y)` for `a = x, b = y`: in Jinja later values do not see earlier names. None if
/// there is only one.
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

/// Whether the code of a macro or call has parameters. Those in `call m(x)` are arguments.
pub fn has_parameters(tag: &str, code: &str) -> bool {
    tag == "macro" || (tag == "call" && code.trim_start().starts_with('('))
}

/// Rejects a default that uses an earlier parameter: minijinja looks that name up outside.
pub fn check_parameters(code: &str) -> Result<(), String> {
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
            (name, _)
                if is_value
                    && parameters.contains(name)
                    && !ends_with_name(&code[..mark.at + name.len()]) =>
            {
                return Err(format!(
                    "the default of {parameter} can't be made of {name} here, a parameter as well"
                ));
            }
            _ => {}
        }
    }
    Ok(())
}

/// The names of a macro's extra arguments in Jinja.
pub const REST_NAMES: [&str; 2] = ["varargs", "kwargs"];

/// Which of them the code of a tag, or of an expression, sets and reads.
#[derive(Default)]
pub struct RestNames {
    pub sets: [bool; 2],
    pub reads: [bool; 2],
}

pub fn rest_names(tag: &str, code: &str) -> RestNames {
    let mut found = RestNames::default();
    if !REST_NAMES.iter().any(|name| code.contains(name)) {
        return found;
    }
    let marks = all_marks(code);
    let end_at = |ends: &[&str]| {
        let ends = |mark: &&Mark| mark.depth == 0 && ends.contains(&mark.text);
        marks.iter().find(ends).map_or(code.len(), |mark| mark.at)
    };
    let targets_end = match tag {
        "set" | "with" | "for" => end_at(&["=", "in"]),
        _ if has_parameters(tag, code) => end_at(&[")"]),
        _ => 0,
    };
    for (index, mark) in marks.iter().enumerate() {
        // Otherwise it is the name of an argument.
        let is_value = marks.get(index + 1).is_none_or(|next| next.text != "=");
        let Some(name) = REST_NAMES.iter().position(|name| *name == mark.text) else { continue };
        match mark.at < targets_end {
            true => found.sets[name] = true,
            false => found.reads[name] |= is_value,
        }
    }
    found
}
