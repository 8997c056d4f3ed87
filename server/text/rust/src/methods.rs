//! Python's methods of strings and lists, which chat templates call as if run by Python.

use minijinja::value::{from_args, Tuple, Value, ValueKind};
use minijinja::{Error, ErrorKind, State};
use minijinja_contrib::pycompat;

use crate::args::Args;
use crate::copying::{self, count_text};
use crate::dict_view::DictView;
use crate::iterables::not_none;
use crate::prepare::SLICE_METHOD;
use crate::python;
use crate::texts::{expand_tabs, is_title, rsplit, split, split_lines, strip, title, Side};

pub fn call_method(
    state: &mut State,
    value: &Value,
    method: &str,
    args: &[Value],
) -> Result<Value, Error> {
    count_text(value)?;
    let result = call_own_method(state, value, method, args)?;
    count_text(&result)?;
    Ok(result)
}

/// Python's methods that pycompat lacks or implements differently; the rest are pycompat's.
fn call_own_method(
    state: &mut State,
    value: &Value,
    method: &str,
    args: &[Value],
) -> Result<Value, Error> {
    if method == SLICE_METHOD {
        return slice(value, args);
    }
    let Some(text) = value.as_str() else {
        return match value.kind() {
            _ if python::is_list(value) => call_list_method(value, method, args),
            ValueKind::Map if matches!(method, "keys" | "values" | "items") => {
                let () = from_args(args)?;
                let view = DictView::new(value, method);
                view.map(Value::from_object).ok_or_else(|| Error::from(ErrorKind::UnknownMethod))
            }
            // Neither can be modified, so no copy is needed.
            ValueKind::Map if method == "copy" => from_args(args).map(|()| value.clone()),
            _ => pycompat::unknown_method_callback(state, value, method, args),
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
        "join" => {
            let (items,): (Value,) = from_args(args)?;
            pycompat::unknown_method_callback(state, value, method, &[not_none(items)?])
        }
        "partition" | "rpartition" => {
            let (separator,): (&str,) = from_args(args)?;
            check_separator(separator)?;
            let last = method == "rpartition";
            let found = if last { text.rsplit_once(separator) } else { text.split_once(separator) };
            let parts = match found {
                Some((before, after)) => [before, separator, after],
                None if last => ["", "", text],
                None => [text, "", ""],
            };
            Ok(Value::from(Tuple::from(parts.map(Value::from))))
        }
        "split" | "rsplit" => {
            let mut args = Args::new(args)?;
            let separator = args.next("sep")?.filter(|value| !value.is_none());
            let count = args.next("maxsplit")?.map_or(Ok(-1), i64::try_from)?;
            args.end()?;
            let separator = match &separator {
                Some(value) => Some(value.as_str().ok_or_else(|| bad_call("sep must be text"))?),
                None => None,
            };
            separator.map_or(Ok(()), check_separator)?;
            let limit = usize::try_from(count).unwrap_or(usize::MAX);
            let split = if method == "split" { split } else { rsplit };
            Ok(split(text, separator, limit).into_iter().collect())
        }
        "splitlines" => {
            let mut args = Args::new(args)?;
            let keep_ends = args.next_bool("keepends")?;
            args.end()?;
            Ok(split_lines(text, keep_ends).collect())
        }
        "title" => {
            let () = from_args(args)?;
            Ok(Value::from(title(text)))
        }
        "istitle" => {
            let () = from_args(args)?;
            Ok(Value::from(is_title(text)))
        }
        "isprintable" => {
            let () = from_args(args)?;
            Ok(Value::from(text.chars().all(python::is_printable)))
        }
        "expandtabs" => {
            let mut args = Args::new(args)?;
            let size = args.next("tabsize")?.map_or(Ok(8), i64::try_from)?.max(0) as usize;
            args.end()?;
            check_width(size)?;
            Ok(Value::from(expand_tabs(text, size)?))
        }
        "find" | "rfind" | "index" | "rindex" => {
            check_defined(args)?;
            let (part, start, end): (&str, Option<i64>, Option<i64>) = from_args(args)?;
            let found = window(text, start, end).and_then(|(first, window)| {
                let at = match method.starts_with('r') {
                    true => window.rfind(part),
                    false => window.find(part),
                };
                at.map(|at| first + window[..at].chars().count())
            });
            match found {
                Some(at) => Ok(Value::from(at)),
                None if method.ends_with("find") => Ok(Value::from(-1)),
                None => Err(bad_call("substring not found")),
            }
        }
        "count" => {
            check_defined(args)?;
            let (part, start, end): (&str, Option<i64>, Option<i64>) = from_args(args)?;
            let window = window(text, start, end);
            Ok(Value::from(window.map_or(0, |(_, window)| window.matches(part).count())))
        }
        "startswith" | "endswith" => {
            check_defined(args)?;
            let (part, start, end): (&Value, Option<i64>, Option<i64>) = from_args(args)?;
            let wrong = || bad_call(format!("{method} takes a text or a tuple of texts"));
            let parts: Vec<Value> = match part.as_str() {
                Some(_) => vec![part.clone()],
                None if part.is_tuple() => part.try_iter()?.collect(),
                None => return Err(wrong()),
            };
            let window = window(text, start, end);
            for part in parts {
                let part = part.as_str().ok_or_else(wrong)?;
                let is_there = window.is_some_and(|(_, window)| match method {
                    "startswith" => window.starts_with(part),
                    _ => window.ends_with(part),
                });
                if is_there {
                    return Ok(Value::from(true));
                }
            }
            Ok(Value::from(false))
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
            let fill = fill.unwrap_or(" ");
            if method == "center" {
                return center(text, width, fill).map(Value::from);
            }
            let missing = fill.repeat(pad_size(text, width)?);
            Ok(Value::from(match method {
                "ljust" => format!("{text}{missing}"),
                _ => format!("{missing}{text}"),
            }))
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
            check_defined(args)?;
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
            Ok(list.clone())
        }
        _ => Err(Error::from(ErrorKind::UnknownMethod)),
    }
}

/// `value[start:stop:step]`.
fn slice(value: &Value, args: &[Value]) -> Result<Value, Error> {
    if value.is_undefined() || args.iter().any(Value::is_undefined) {
        let what = "an undefined value can't be sliced, or give a slice's ends";
        return Err(Error::new(ErrorKind::UndefinedError, what));
    }
    if !python::is_list(value) && value.as_str().is_none() {
        return Err(bad_call(format!("a value of the kind {} cannot be sliced", value.kind())));
    }
    let (start, stop, step): (Option<i64>, Option<i64>, Option<i64>) = from_args(args)?;
    let step = step.unwrap_or(1);
    if step == 0 {
        return Err(bad_call("slice step cannot be zero"));
    }
    // Backwards, the position before the first is also a bound.
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
    // The taken range starts here, at its item that comes first in the value.
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
    copying::count(size * std::mem::size_of::<Value>())?;
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

/// The range `start:end` of `count` items: both may count from the end.
fn bounds(count: usize, start: Option<i64>, end: Option<i64>) -> std::ops::Range<usize> {
    let place = |index: i64| match index < 0 {
        true => count.saturating_sub(index.unsigned_abs() as usize),
        false => count.min(index as usize),
    };
    place(start.unwrap_or(0))..end.map_or(count, place)
}

/// The number of characters that `text` lacks to `width`.
fn pad_size(text: &str, width: usize) -> Result<usize, Error> {
    check_width(width)?;
    Ok(width.saturating_sub(text.chars().count()))
}

pub fn center(text: &str, width: usize, fill: &str) -> Result<String, Error> {
    let missing = pad_size(text, width)?;
    let left = missing / 2 + (missing & width & 1);
    Ok(format!("{}{text}{}", fill.repeat(left), fill.repeat(missing - left)))
}

/// A rendering's steps and output are bounded, but not what a single step produces.
pub fn check_width(width: usize) -> Result<(), Error> {
    const MAX_WIDTH: usize = 10_000;
    match width > MAX_WIDTH {
        true => Err(bad_call(format!("the width is above {MAX_WIDTH}"))),
        false => Ok(()),
    }
}

/// Like `check_width`, for all numbers in the fields of a format.
pub fn check_widths<'a>(fields: impl Iterator<Item = &'a str>) -> Result<(), Error> {
    fields
        .flat_map(|field| field.split(|c: char| !c.is_ascii_digit()))
        .filter(|digits| !digits.is_empty())
        .try_for_each(|digits| check_width(digits.parse().unwrap_or(usize::MAX)))
}

/// The slice `[start:end]` of the text, and its position in characters. None if not even an empty
/// text can be found there.
fn window(text: &str, start: Option<i64>, end: Option<i64>) -> Option<(usize, &str)> {
    let (None, None) = (start, end) else {
        let count = text.chars().count();
        let range = bounds(count, start, end);
        if range.start > range.end || start.is_some_and(|start| start > count as i64) {
            return None;
        }
        let byte = |index| text.char_indices().nth(index).map_or(text.len(), |(at, _)| at);
        return Some((range.start, &text[byte(range.start)..byte(range.end)]));
    };
    Some((0, text))
}

fn check_separator(separator: &str) -> Result<(), Error> {
    match separator.is_empty() {
        true => Err(bad_call("empty separator")),
        false => Ok(()),
    }
}

/// For optional arguments minijinja treats undefined as not given.
fn check_defined(args: &[Value]) -> Result<(), Error> {
    match args.iter().any(Value::is_undefined) {
        true => Err(Error::from(ErrorKind::UndefinedError)),
        false => Ok(()),
    }
}

fn bad_call(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, message.into())
}
