//! The code of one tag, between its name and its end, where minijinja reads it differently.

use crate::prepare::is_word;

/// The filter that what is looped over goes through, see `iterables::loop_items`.
pub const LOOP_FILTER: &str = "__iter";

/// A word or a sign outside of strings and brackets.
struct Mark<'c> {
    at: usize,
    text: &'c str,
}

/// The words, and the commas and single = signs, outside of strings and brackets.
fn marks(code: &str) -> Vec<Mark<'_>> {
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
        match c {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => marks.push(Mark { at, text: "," }),
            '=' if depth == 0 && size == 1 && !matches!(before, '!' | '<' | '>') => {
                marks.push(Mark { at, text: "=" });
            }
            // Behind a dot it is a name, whatever it says.
            c if is_word(c) && depth == 0 && before != '.' => {
                marks.push(Mark { at, text: &rest[..size] });
            }
            _ => {}
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
    let end = [Mark { at: code.len(), text: "," }];
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
