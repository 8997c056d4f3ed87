//! The functions that chat templates may call.

use minijinja::value::{from_args, Kwargs, Rest, Value, ValueKind, ValueOrKwargs};
use minijinja::{functions, Environment, Error, ErrorKind};
use minijinja_contrib::globals;

use crate::args::Args;
use crate::clock::local_time;
use crate::iterables::not_none;
use crate::python;

/// No template needs more; a repeated list may have any length.
const MAX_PAIRS: usize = 1_000_000;

/// The message that a template passed to `raise_exception`.
#[derive(Debug)]
pub struct Raised(pub String);

impl std::fmt::Display for Raised {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Raised {}

pub fn add_to(env: &mut Environment) {
    env.add_function("raise_exception", |args: Rest<ValueOrKwargs>| -> Result<Value, Error> {
        let message = python::str(&only_argument(args, "message")?);
        Err(Error::new(ErrorKind::InvalidOperation, message.clone()).with_source(Raised(message)))
    });
    env.add_function("strftime_now", |args: Rest<ValueOrKwargs>| {
        let format = only_argument(args, "format")?;
        local_time(format.as_str().ok_or_else(|| wrong("the format must be text"))?)
    });
    env.add_function("dict", dict);
    env.add_function("namespace", |args: Rest<ValueOrKwargs>| {
        functions::namespace(Some(dict(args)?.into()))
    });
    env.add_function("cycler", |items: Rest<Value>| globals::cycler(items.0));
    env.add_function("joiner", |args: Rest<ValueOrKwargs>| {
        let mut args = Args::new(&args.into_values())?;
        let separator = args.next("sep")?;
        args.end()?;
        Ok(globals::joiner(separator))
    });
}

fn only_argument(args: Rest<ValueOrKwargs>, name: &str) -> Result<Value, Error> {
    let mut args = Args::new(&args.into_values())?;
    let value = args.next(name)?.ok_or_else(|| Error::from(ErrorKind::MissingArgument))?;
    args.end()?;
    Ok(value)
}

/// From a dict or pairs, and named values.
fn dict(args: Rest<ValueOrKwargs>) -> Result<Value, Error> {
    let args = args.into_values();
    let (given, named): (&[Value], Kwargs) = from_args(&args)?;
    let given = match given {
        [] => return functions::dict(None, named),
        [given] => not_none(given.clone())?,
        _ => return Err(Error::from(ErrorKind::TooManyArguments)),
    };
    match given.kind() {
        ValueKind::Map => return functions::dict(Some(given), named),
        ValueKind::Undefined => return Err(Error::from(ErrorKind::UndefinedError)),
        _ => {}
    }
    if given.len().is_none_or(|count| count > MAX_PAIRS) {
        return Err(wrong("a dict is made of a dict or of pairs"));
    }
    let pairs: Vec<_> = given.try_iter()?.map(pair).collect::<Result<_, _>>()?;
    functions::dict(Some(Value::from_pairs(pairs)), named)
}

fn pair(value: Value) -> Result<(Value, Value), Error> {
    match value.try_iter()?.take(3).collect::<Vec<_>>().as_slice() {
        [key, value] => Ok((key.clone(), value.clone())),
        _ => Err(wrong("a dict is made of pairs")),
    }
}

fn wrong(message: &str) -> Error {
    Error::new(ErrorKind::InvalidOperation, message.to_string())
}
