//! The template environment of Hugging Face's `apply_chat_template`: Jinja's filters and tests
//! where minijinja's differ, and the functions that chat templates expect.
//!
//! What remains different: minijinja orders any two values, where Python takes a bool for a number
//! and refuses most other kinds, an undefined value among them.

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Rest, Value, ValueKind, ValueOrKwargs};
use minijinja::{filters, Environment, Error, ErrorKind};

use crate::args::Args;
use crate::copying::{self, count_text};
use crate::functions;
use crate::iterables;
use crate::methods::call_method;
use crate::python::{self, JsonStyle};
use crate::tags::COPY_FILTER;
use crate::text_filters;
use crate::texts::{strip, Side};

/// Steps per rendering. A long conversation takes about ten thousand; an endless loop stops here.
/// What the steps copy is bounded by `copying`.
const FUEL: u64 = 1_000_000;

pub fn new_environment() -> Result<Environment<'static>, Error> {
    let mut env = Environment::new();
    env.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    env.set_fuel(Some(FUEL));
    env.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    env.set_formatter(|out, _, value| {
        // The output is limited, but not what a block captures.
        match value.as_str() {
            Some(text) => {
                copying::count(text.len())?;
                out.write_str(text)?;
            }
            None => out.write_str(&python::str(value))?,
        }
        Ok(())
    });
    env.set_unknown_method_callback(call_method);

    functions::add_to(&mut env);
    iterables::add_to(&mut env);
    text_filters::add_to(&mut env);
    env.add_filter(COPY_FILTER, copying::copied);
    env.add_filter("tojson", to_json);
    env.add_filter("length", length);
    env.add_filter("count", length);
    env.add_filter("replace", replace);
    env.add_filter("first", first);
    env.add_filter("last", last);
    env.add_filter("default", default);
    env.add_filter("d", default);
    env.add_filter("int", int);
    env.add_filter("float", float);
    env.add_filter("string", |value: &Value| python::str(value));
    env.add_filter("e", escape);
    env.add_filter("escape", escape);
    env.add_filter("trim", |value: &Value, chars: Option<&str>| {
        count_text(value)?;
        Ok(strip(&python::str(value), chars, Side::Both).to_string())
    });

    env.add_test("iterable", |value: &Value| {
        !matches!(
            value.kind(),
            ValueKind::None | ValueKind::Bool | ValueKind::Number | ValueKind::Plain
        )
    });
    env.add_test("sequence", |value: &Value| {
        python::is_list(value)
            || matches!(value.kind(), ValueKind::String | ValueKind::Map | ValueKind::Undefined)
    });
    env.add_test("callable", |value: &Value| value.kind() == ValueKind::Plain);
    Ok(env)
}

fn wrong(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, message.into())
}

/// Hugging Face's own filter: `json.dumps`, escaping only what JSON requires.
fn to_json(value: &Value, args: Rest<ValueOrKwargs>) -> Result<String, Error> {
    let mut args = Args::new(&args.into_values())?;
    let ensure_ascii = args.next_bool("ensure_ascii")?;
    let indent = args.next("indent")?;
    let separators = args.next("separators")?.filter(|value| !value.is_none());
    let sort_keys = args.next_bool("sort_keys")?;
    args.end()?;
    let indent = match indent {
        None => None,
        Some(value) if value.is_none() => None,
        Some(value) => match value.as_str() {
            Some(text) => Some(text.to_string()),
            // No template indents by more than a few spaces; this is a sanity bound.
            None => Some(" ".repeat(value.as_usize().unwrap_or(0).min(64))),
        },
    };
    let (item_separator, key_separator) = match separators {
        Some(pair) => {
            let pair: Vec<Value> = pair.try_iter()?.collect();
            match pair.iter().map(Value::as_str).collect::<Vec<_>>()[..] {
                [Some(item), Some(key)] => (item.to_string(), key.to_string()),
                _ => return Err(wrong("separators must be a pair of strings")),
            }
        }
        None if indent.is_some() => (",".to_string(), ": ".to_string()),
        None => (", ".to_string(), ": ".to_string()),
    };
    let style = JsonStyle { ensure_ascii, indent, item_separator, key_separator, sort_keys };
    python::to_json(value, &style)
}

fn length(value: &Value) -> Result<usize, Error> {
    if value.is_undefined() {
        return Ok(0);
    }
    value.len().ok_or_else(|| wrong(format!("a value of the kind {} has no length", value.kind())))
}

fn replace(value: &Value, args: Rest<ValueOrKwargs>) -> Result<String, Error> {
    let mut args = Args::new(&args.into_values())?;
    let (Some(old), Some(new)) = (args.next("old")?, args.next("new")?) else {
        return Err(Error::from(ErrorKind::MissingArgument));
    };
    let count = args.next("count")?.filter(|count| !count.is_none());
    let count = count.map_or(Ok(-1), i64::try_from)?;
    args.end()?;
    count_text(value)?;
    let (text, old, new) = (python::str(value), python::str(&old), python::str(&new));
    Ok(match usize::try_from(count) {
        Ok(count) => text.replacen(&old, &new, count),
        Err(_) => text.replace(&old, &new),
    })
}

fn first(value: &Value) -> Result<Value, Error> {
    match value.is_undefined() {
        true => Ok(Value::UNDEFINED),
        false => filters::first(value),
    }
}

/// For a dict the last key.
fn last(value: &Value) -> Result<Value, Error> {
    match value.kind() {
        ValueKind::Undefined => Ok(Value::UNDEFINED),
        ValueKind::Map => Ok(value.try_iter()?.last().unwrap_or_default()),
        _ => filters::last(value.clone()),
    }
}

fn default(value: &Value, args: Rest<ValueOrKwargs>) -> Result<Value, Error> {
    let mut args = Args::new(&args.into_values())?;
    let other = args.next("default_value")?;
    let boolean = args.next_bool("boolean")?;
    args.end()?;
    if value.is_undefined() || (boolean && !value.is_true()) {
        return Ok(other.unwrap_or_else(|| Value::from("")));
    }
    Ok(value.clone())
}

/// Python's `int`, failing that `int(float(…))`, failing that the default.
fn int(value: &Value, args: Rest<ValueOrKwargs>) -> Result<Value, Error> {
    let mut args = Args::new(&args.into_values())?;
    let default = args.next("default")?;
    let base = args.next("base")?.map_or(Ok(10), u32::try_from)?;
    args.end()?;
    if value.is_undefined() {
        return Err(Error::new(ErrorKind::UndefinedError, "an undefined value has no number"));
    }
    if value.is_integer() {
        return Ok(value.clone());
    }
    let whole = |number: f64| {
        // Beyond this a float's integer no longer fits; no template counts that far.
        (number.is_finite() && number.abs() < 1e18).then(|| Value::from(number.trunc() as i64))
    };
    let number = match value.as_str() {
        Some(text) => {
            parse_int(text, base).map(Value::from).or_else(|| parse_float(text).and_then(whole))
        }
        None if value.kind() == ValueKind::Bool => Some(Value::from(value.is_true() as i64)),
        None => python::as_float(value).and_then(whole),
    };
    Ok(number.or(default).unwrap_or_else(|| Value::from(0)))
}

fn float(value: &Value, args: Rest<ValueOrKwargs>) -> Result<Value, Error> {
    let mut args = Args::new(&args.into_values())?;
    let default = args.next("default")?;
    args.end()?;
    if value.is_undefined() {
        return Err(Error::new(ErrorKind::UndefinedError, "an undefined value has no number"));
    }
    let number = match value.as_str() {
        Some(text) => parse_float(text),
        None if value.kind() == ValueKind::Bool => Some(value.is_true() as i64 as f64),
        None => f64::try_from(value.clone()).ok(),
    };
    Ok(number.map(Value::from).or(default).unwrap_or_else(|| Value::from(0.0)))
}

fn parse_int(text: &str, base: u32) -> Option<i64> {
    if !(2..=36).contains(&base) {
        return None;
    }
    let text = text.trim_matches(python::is_space).replace('_', "");
    let prefix = match base {
        2 => "0b",
        8 => "0o",
        16 => "0x",
        _ => "",
    };
    i64::from_str_radix(text.strip_prefix(prefix).unwrap_or(&text), base).ok()
}

fn parse_float(text: &str) -> Option<f64> {
    text.trim_matches(python::is_space).replace('_', "").parse().ok()
}

/// As written by Python's markupsafe.
fn escape(value: &Value) -> Value {
    if value.is_safe() {
        return value.clone();
    }
    let mut out = String::new();
    for c in python::str(value).chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\'' => out.push_str("&#39;"),
            '"' => out.push_str("&#34;"),
            c => out.push(c),
        }
    }
    Value::from_safe_string(out)
}
