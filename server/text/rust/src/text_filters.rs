//! Jinja's text filters that minijinja lacks or implements differently.

use std::fmt::Write;

use minijinja::value::{Rest, Value, ValueKind, ValueOrKwargs};
use minijinja::{filters, Environment, Error, ErrorKind, State};

use crate::args::Args;
use crate::methods::{center, check_width, check_widths};
use crate::python;
use crate::texts::{check_size, split_lines};

pub fn add_to(env: &mut Environment) {
    env.add_filter("indent", indent);
    env.add_filter("format", format);
    env.add_filter("center", |value: &Value, args: Rest<ValueOrKwargs>| {
        let mut args = Args::new(&args.into_values())?;
        let width = args.next("width")?.map_or(Ok(80), i64::try_from)?;
        args.end()?;
        center(&python::str(value), width.max(0) as usize, " ")
    });
    env.add_filter("truncate", truncate);
    env.add_filter("urlencode", urlencode);
}

fn wrong(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, message.into())
}

/// Like Jinja's: lines are split as in Python and then joined by newlines; the last gets no newline
/// beyond its own.
fn indent(value: &Value, args: Rest<ValueOrKwargs>) -> Result<Value, Error> {
    let mut args = Args::new(&args.into_values())?;
    let width = args.next("width")?.unwrap_or_else(|| Value::from(4));
    let first = args.next_bool("first")?;
    let blank = args.next_bool("blank")?;
    args.end()?;
    let Some(text) = value.as_str() else {
        return Err(wrong(format!("a value of the kind {} can't be indented", value.kind())));
    };
    let indention = match width.as_str() {
        Some(indention) => indention.to_string(),
        None => {
            let width = i64::try_from(width)?.max(0) as usize;
            check_width(width)?;
            " ".repeat(width)
        }
    };
    let text = format!("{text}\n");
    let mut out = String::with_capacity(text.len());
    for (index, line) in split_lines(&text, false).enumerate() {
        out.push_str(if index > 0 { "\n" } else { "" });
        let indents = if index > 0 { blank || !line.is_empty() } else { first };
        out.push_str(if indents { &indention } else { "" });
        out.push_str(line);
        check_size(&out)?;
    }
    Ok(match value.is_safe() {
        true => Value::from_safe_string(out),
        false => Value::from(out),
    })
}

/// `"%5d" | format(x)`.
fn format(state: &mut State, value: &Value, args: Rest<ValueOrKwargs>) -> Result<Value, Error> {
    let text = value.as_str().unwrap_or_default();
    let mut args = args.into_values();
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let mut index = 0;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let key = rest[1..].strip_prefix('(').and_then(|key| key.split_once(')'));
        let options = key.map_or(&rest[1..], |(_, behind)| behind);
        let size = options.find(|c: char| c.is_ascii_alphabetic() || c == '%');
        let (options, behind) = options.split_at(size.unwrap_or(options.len()));
        check_widths([options].into_iter())?;
        let before = &rest[..rest.len() - behind.len()];
        let Some(kind) = behind.chars().next() else { break };
        rest = &behind[kind.len_utf8()..];
        let has_arg = key.is_none() && index < args.len();
        match kind {
            's' | 'r' if has_arg && !value.is_safe() => {
                let arg = args.remove(index);
                let text = if kind == 's' { python::str(&arg) } else { python::repr(&arg) };
                out.push_str(&pad(&text, options)?.replace('%', "%%"));
            }
            'i' | 'd' | 'u' => {
                if has_arg {
                    args[index] = whole(&args[index]);
                    index += 1;
                }
                out.push_str(before);
                out.push('d');
            }
            kind => {
                out.push_str(before);
                out.push(kind);
                index += usize::from(has_arg && kind != '%');
            }
        }
    }
    out.push_str(rest);
    let args = args.into_iter().map(ValueOrKwargs::from).collect();
    let text = if value.is_safe() { Value::from_safe_string(out) } else { Value::from(out) };
    filters::format(state, &text, Rest(args))
}

/// Like %s with these options: minijinja has no %r, and counts bytes.
fn pad(text: &str, options: &str) -> Result<String, Error> {
    let digits = options.trim_start_matches(['-', '+', ' ', '#', '0']);
    let (width, precision) = digits.split_once('.').unwrap_or((digits, ""));
    let number = |digits: &str, default| match digits {
        "" => Ok(default),
        digits => digits.parse::<usize>().map_err(|_| wrong("a format can't be read")),
    };
    let most = if digits.contains('.') { number(precision, 0)? } else { usize::MAX };
    let text: String = text.chars().take(most).collect();
    let missing = " ".repeat(number(width, 0)?.saturating_sub(text.chars().count()));
    Ok(match options[..options.len() - digits.len()].contains('-') {
        true => format!("{text}{missing}"),
        false => format!("{missing}{text}"),
    })
}

/// minijinja can't format a float as %d.
fn whole(number: &Value) -> Value {
    match python::as_float(number) {
        Some(float) if float.abs() < 1e18 => Value::from(float as i64),
        _ => number.clone(),
    }
}

/// Cuts between words, unless the text is only slightly too long.
fn truncate(value: &Value, args: Rest<ValueOrKwargs>) -> Result<String, Error> {
    let mut args = Args::new(&args.into_values())?;
    let length = args.next("length")?.map_or(Ok(255), i64::try_from)?;
    let in_words = args.next_bool("killwords")?;
    let end = args.next("end")?.map_or_else(|| "...".to_string(), |end| python::str(&end));
    let leeway = args.next("leeway")?.filter(|leeway| !leeway.is_none());
    let leeway = leeway.map_or(Ok(5), i64::try_from)?;
    args.end()?;
    let kept = length - end.chars().count() as i64;
    if kept < 0 || leeway < 0 {
        return Err(wrong("the length is below that of the end, or the leeway below 0"));
    }
    let text = value.as_str().ok_or_else(|| wrong("only a text can be truncated"))?;
    if text.chars().count() as i64 <= length.saturating_add(leeway) {
        return Ok(text.to_string());
    }
    let kept: String = text.chars().take(kept as usize).collect();
    let kept = match kept.rsplit_once(' ') {
        Some((words, _)) if !in_words => words,
        _ => &kept,
    };
    Ok(format!("{kept}{end}"))
}

/// A dict becomes a query string.
fn urlencode(value: &Value) -> Result<String, Error> {
    let mut out = String::new();
    match value.kind() {
        ValueKind::Map => {
            for (index, key) in value.try_iter()?.enumerate() {
                out.push_str(if index > 0 { "&" } else { "" });
                write_quoted(&mut out, &python::str(&key), true);
                out.push('=');
                write_quoted(&mut out, &python::str(&value.get_item(&key)?), true);
            }
        }
        _ if python::is_list(value) => return Err(wrong("a list can't be encoded here")),
        _ => write_quoted(&mut out, &python::str(value), false),
    }
    Ok(out)
}

fn write_quoted(out: &mut String, text: &str, in_query: bool) {
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'.' | b'-' | b'~' => {
                out.push(byte.into());
            }
            b'/' if !in_query => out.push('/'),
            b' ' if in_query => out.push('+'),
            byte => _ = write!(out, "%{byte:02X}"),
        }
    }
}
