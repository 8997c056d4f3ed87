//! Python's methods of strings and lists, which chat templates call as if they ran in Python.

use minijinja::value::{from_args, Tuple, Value};
use minijinja::{Error, ErrorKind, State};
use minijinja_contrib::pycompat;

use crate::prepare::SLICE_METHOD;
use crate::python;

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

/// Python's methods that pycompat lacks or that differ there; the rest is pycompat's.
pub fn call_method(
    state: &mut State,
    value: &Value,
    method: &str,
    args: &[Value],
) -> Result<Value, Error> {
    if method == SLICE_METHOD {
        return slice(value, args);
    }
    let Some(text) = value.as_str() else {
        return match python::is_list(value) {
            true => call_list_method(value, method, args),
            false => pycompat::unknown_method_callback(state, value, method, args),
        };
    };
    let stripped = |side| -> Result<Value, Error> {
        let (chars,): (Option<&str>,) = from_args(args)?;
        Ok(Value::from(strip(text, chars, side)))
    };
    match method {
        "strip" => stripped(Side::Both),
        "lstrip" => stripped(Side::Left),
        "rstrip" => stripped(Side::Right),
        "removeprefix" => {
            let (prefix,): (&str,) = from_args(args)?;
            Ok(Value::from(text.strip_prefix(prefix).unwrap_or(text)))
        }
        "removesuffix" => {
            let (suffix,): (&str,) = from_args(args)?;
            Ok(Value::from(text.strip_suffix(suffix).unwrap_or(text)))
        }
        "partition" | "rpartition" => {
            let (separator,): (&str,) = from_args(args)?;
            let last = method == "rpartition";
            let found = if last { text.rsplit_once(separator) } else { text.split_once(separator) };
            let parts = match found {
                Some((before, after)) => [before, separator, after],
                None if last => ["", "", text],
                None => [text, "", ""],
            };
            Ok(Value::from(Tuple::from(parts.map(Value::from))))
        }
        "rsplit" => {
            let (separator, count): (Option<&str>, Option<i64>) = from_args(args)?;
            Ok(rsplit(text, separator, count))
        }
        "index" | "rindex" => {
            let (part,): (&str,) = from_args(args)?;
            let at = if method == "index" { text.find(part) } else { text.rfind(part) };
            let at = at.ok_or_else(|| bad_call("substring not found"))?;
            Ok(Value::from(text[..at].chars().count()))
        }
        "casefold" => {
            let () = from_args(args)?;
            Ok(Value::from(text.to_lowercase()))
        }
        "swapcase" => {
            let () = from_args(args)?;
            let swap = |c: char| -> String {
                if c.is_uppercase() {
                    c.to_lowercase().collect()
                } else {
                    c.to_uppercase().collect()
                }
            };
            Ok(Value::from(text.chars().map(swap).collect::<String>()))
        }
        "zfill" => {
            let (width,): (usize,) = from_args(args)?;
            let missing = pad_size(text, width)?;
            let (sign, digits) = match text.chars().next() {
                Some('+' | '-') => text.split_at(1),
                _ => ("", text),
            };
            Ok(Value::from(format!("{sign}{}{digits}", "0".repeat(missing))))
        }
        "ljust" | "rjust" | "center" => {
            let (width, fill): (usize, Option<&str>) = from_args(args)?;
            let missing = pad_size(text, width)?;
            let left = match method {
                "ljust" => 0,
                "rjust" => missing,
                _ => missing / 2 + (missing & width & 1),
            };
            let fill = fill.unwrap_or(" ");
            let right = fill.repeat(missing - left);
            Ok(Value::from(format!("{}{text}{right}", fill.repeat(left))))
        }
        "format" => {
            let unescaped = text.replace("{{", "").replace("}}", "");
            let fields = unescaped.split('{').skip(1).filter_map(|rest| rest.split('}').next());
            check_widths(fields)?;
            pycompat::unknown_method_callback(state, value, method, args)
        }
        _ => pycompat::unknown_method_callback(state, value, method, args),
    }
}

fn call_list_method(list: &Value, method: &str, args: &[Value]) -> Result<Value, Error> {
    let mut items = list.try_iter()?;
    match method {
        "count" => {
            let (what,): (&Value,) = from_args(args)?;
            Ok(Value::from(items.filter(|item| item == what).count()))
        }
        "index" => {
            let (what, start, end): (&Value, Option<i64>, Option<i64>) = from_args(args)?;
            let range = bounds(list.len().unwrap_or(0), start, end);
            let at = items.position({
                let mut at = 0..;
                move |item| at.next().is_some_and(|at| range.contains(&at)) && item == *what
            });
            at.map(Value::from).ok_or_else(|| bad_call("the value is not in the list"))
        }
        "copy" if !list.is_tuple() => {
            let () = from_args(args)?;
            Ok(items.collect())
        }
        _ => Err(Error::from(ErrorKind::UnknownMethod)),
    }
}

/// `value[start:stop:step]`; what can't be sliced so gives an undefined value, as in Jinja.
fn slice(value: &Value, args: &[Value]) -> Result<Value, Error> {
    if value.is_undefined() {
        return Err(Error::new(ErrorKind::UndefinedError, "an undefined value has no items"));
    }
    let (start, stop, step): (&Value, &Value, Option<&Value>) = from_args(args)?;
    let mut indices = [Some(start), Some(stop), step].into_iter().map(|index| match index {
        Some(index) if !index.is_none() => i64::try_from(index.clone()).map(Some),
        _ => Ok(None),
    });
    let mut next = || indices.next().and_then(Result::ok);
    let (Some(start), Some(stop), Some(step)) = (next(), next(), next()) else {
        return Ok(Value::UNDEFINED);
    };
    if !python::is_list(value) && value.as_str().is_none() {
        return Ok(Value::UNDEFINED);
    }
    let step = step.unwrap_or(1);
    if step == 0 {
        return Err(bad_call("slice step cannot be zero"));
    }
    // Backwards the place before the first is an end as well.
    let count = value.len().unwrap_or(0) as i64;
    let (low, high) = if step > 0 { (0, count) } else { (-1, count - 1) };
    let place = |index: i64| match index < 0 {
        true => low.max(index.saturating_add(count)),
        false => high.min(index),
    };
    let (first, last) = if step > 0 { (low, high) } else { (high, low) };
    let (start, stop) = (start.map_or(first, place), stop.map_or(last, place));
    let size = match step > 0 {
        true => (stop - start).max(0),
        false => (start - stop).max(0),
    };
    let step_size = usize::try_from(step.unsigned_abs()).unwrap_or(usize::MAX);
    // Of what is taken, from the one that comes first in the value.
    let from = if step > 0 { start } else { stop + 1 }.max(0) as usize;
    let size = size as usize;
    if let Some(text) = value.as_str() {
        let taken = text.chars().skip(from).take(size);
        return Ok(Value::from(match step > 0 {
            true => taken.step_by(step_size).collect::<String>(),
            false => {
                let taken: Vec<char> = taken.collect();
                taken.into_iter().rev().step_by(step_size).collect()
            }
        }));
    }
    let taken: Vec<Value> = value.try_iter()?.skip(from).take(size).collect();
    let taken: Vec<Value> = match step > 0 {
        true => taken.into_iter().step_by(step_size).collect(),
        false => taken.into_iter().rev().step_by(step_size).collect(),
    };
    Ok(match value.is_tuple() {
        true => Value::from(Tuple::from(taken)),
        false => Value::from(taken),
    })
}

/// What `start:end` takes of `count`: both may count from the end.
fn bounds(count: usize, start: Option<i64>, end: Option<i64>) -> std::ops::Range<usize> {
    let place = |index: i64| match index < 0 {
        true => count.saturating_sub(index.unsigned_abs() as usize),
        false => count.min(index as usize),
    };
    place(start.unwrap_or(0))..end.map_or(count, place)
}

/// Characters missing to `width`.
fn pad_size(text: &str, width: usize) -> Result<usize, Error> {
    check_width(width)?;
    Ok(width.saturating_sub(text.chars().count()))
}

/// A rendering's steps and output are bounded, but not what one step makes.
pub fn check_width(width: usize) -> Result<(), Error> {
    const MAX_WIDTH: usize = 10_000;
    match width > MAX_WIDTH {
        true => Err(bad_call(format!("the width is above {MAX_WIDTH}"))),
        false => Ok(()),
    }
}

/// As `check_width`, of all numbers in the fields of a format.
pub fn check_widths<'a>(fields: impl Iterator<Item = &'a str>) -> Result<(), Error> {
    fields
        .flat_map(|field| field.split(|c: char| !c.is_ascii_digit()))
        .filter(|digits| !digits.is_empty())
        .try_for_each(|digits| check_width(digits.parse().unwrap_or(usize::MAX)))
}

fn rsplit(text: &str, separator: Option<&str>, count: Option<i64>) -> Value {
    let limit = count.and_then(|count| usize::try_from(count).ok()).unwrap_or(usize::MAX);
    let mut parts = Vec::new();
    let mut rest = match separator {
        Some(_) => text,
        None => text.trim_end_matches(python::is_space),
    };
    while parts.len() < limit {
        let found = match separator {
            Some(separator) => rest.rsplit_once(separator),
            None => rest.rfind(python::is_space).map(|at| {
                let after = &rest[at..];
                let size = after.chars().next().map_or(0, char::len_utf8);
                (rest[..at].trim_end_matches(python::is_space), &after[size..])
            }),
        };
        let Some((before, after)) = found else { break };
        parts.push(Value::from(after));
        rest = before;
    }
    if separator.is_some() || !rest.is_empty() {
        parts.push(Value::from(rest));
    }
    parts.reverse();
    Value::from(parts)
}

fn bad_call(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, message.into())
}
