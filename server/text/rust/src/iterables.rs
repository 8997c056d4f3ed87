//! What Python iterates over, or refuses to, where minijinja differs.

use std::borrow::Cow;
use std::sync::Arc;

use minijinja::value::{
    Enumerator, Kwargs, Object, ObjectRepr, Rest, StringInput, Value, ValueOrKwargs,
};
use minijinja::{filters, Environment, Error, ErrorKind, State};

use crate::copying::{count, count_text};
use crate::tags::LOOP_FILTER;

pub fn add_to(env: &mut Environment) {
    env.add_filter(LOOP_FILTER, loop_items);
    env.add_filter("list", |state: &State, value| filters::list(state, not_none(value)?));
    env.add_filter("join", join);
    env.add_filter("sum", sum);
    env.add_filter("sort", |state: &State, value, options| {
        filters::sort(state, not_none(value)?, options)
    });
    env.add_filter("min", |state: &State, value, options| {
        filters::min(state, not_none(value)?, options)
    });
    env.add_filter("max", |state: &State, value, options| {
        filters::max(state, not_none(value)?, options)
    });
    env.add_filter("unique", |state: &State, value, options| {
        generator(filters::unique(state, not_none(value)?, options)?)
    });
    env.add_filter("batch", |state: &State, value, count, fill| {
        generator(filters::batch(state, not_none(value)?, count, fill)?)
    });
    env.add_filter("slice", |state: &State, value, count, fill| {
        generator(filters::slice(state, not_none(value)?, count, fill)?)
    });
    env.add_filter("map", |state: &mut State, value, args| {
        generator(filters::map(state, value, args)?.into())
    });
    env.add_filter("select", |state: &mut State, value, test: Option<Cow<str>>, args| {
        generator(filters::select(state, value, test, args)?.into())
    });
    env.add_filter("reject", |state: &mut State, value, test: Option<Cow<str>>, args| {
        generator(filters::reject(state, value, test, args)?.into())
    });
    env.add_filter("selectattr", selectattr);
    env.add_filter("rejectattr", rejectattr);
    env.add_filter("groupby", |value, attribute: Option<&str>, options| {
        filters::groupby(not_none(value)?, attribute, options)
    });
    env.add_filter("reverse", |value| filters::reverse(&not_none(value)?));
}

/// minijinja treats none as an empty list. A prompt that says there are no tools because a list was
/// missing is worse than no prompt.
pub fn not_none(value: Value) -> Result<Value, Error> {
    match value.is_none() {
        true => Err(Error::new(ErrorKind::InvalidOperation, "none can't be iterated over")),
        false => Ok(value),
    }
}

fn join(
    state: &mut State,
    value: Value,
    joiner: Option<StringInput>,
    attribute: Option<&str>,
    options: Kwargs,
) -> Result<Value, Error> {
    let joined = filters::join(state, &not_none(value)?, joiner, attribute, options)?;
    count_text(&joined)?;
    Ok(joined)
}

fn sum(
    state: &State,
    value: Value,
    attribute: Option<&str>,
    start: Option<Value>,
    options: Kwargs,
) -> Result<Value, Error> {
    filters::sum(state, not_none(value)?, attribute, start, options)
}

fn selectattr(
    state: &mut State,
    value: Value,
    attribute: Cow<str>,
    test: Option<Cow<str>>,
    args: Rest<ValueOrKwargs>,
) -> Result<Value, Error> {
    generator(filters::selectattr(state, value, attribute, test, args)?.into())
}

fn rejectattr(
    state: &mut State,
    value: Value,
    attribute: Cow<str>,
    test: Option<Cow<str>>,
    args: Rest<ValueOrKwargs>,
) -> Result<Value, Error> {
    generator(filters::rejectattr(state, value, attribute, test, args)?.into())
}

/// The items of a loop: a text's characters, as an object that knows their count for `loop.length`.
fn loop_items(value: Value) -> Result<Value, Error> {
    let value = not_none(value)?;
    Ok(match value.as_str().map(|text| text.chars().count()) {
        Some(count) => Value::from_object(Chars { text: value, count }),
        None => value,
    })
}

/// A list that is true even when empty, like all of Python's generators.
#[derive(Debug)]
struct Generator(Vec<Value>);

fn generator(items: Value) -> Result<Value, Error> {
    let items: Vec<Value> = items.try_iter()?.collect();
    count(items.len() * std::mem::size_of::<Value>())?;
    Ok(Value::from_object(Generator(items)))
}

impl Object for Generator {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Seq
    }

    fn get_value(self: &Arc<Self>, index: &Value) -> Option<Value> {
        self.0.get(index.as_usize()?).cloned()
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Seq(self.0.len())
    }

    fn is_true(self: &Arc<Self>) -> bool {
        true
    }
}

#[derive(Debug)]
struct Chars {
    text: Value,
    count: usize,
}

impl Object for Chars {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Iterable
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        let text = self.text.clone();
        let mut at = 0;
        Enumerator::Iter(Box::new((0..self.count).map(move |_| {
            let c = text.as_str().and_then(|text| text[at..].chars().next()).unwrap_or_default();
            at += c.len_utf8();
            Value::from(c)
        })))
    }
}
