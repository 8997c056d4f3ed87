//! What Python iterates over, and refuses to, where minijinja differs.

use std::sync::Arc;

use minijinja::value::{Enumerator, Object, ObjectRepr, Value};
use minijinja::{Environment, Error};

use crate::tags::LOOP_FILTER;

pub fn add_to(env: &mut Environment) {
    env.add_filter(LOOP_FILTER, loop_items);
}

/// What a loop goes over: of a text its characters, so that the loop knows how many there are.
fn loop_items(value: Value) -> Result<Value, Error> {
    match value.as_str() {
        Some(text) => {
            let count = text.chars().count();
            Ok(Value::from_object(Chars { text: text.into(), count }))
        }
        None => Ok(value),
    }
}

#[derive(Debug)]
struct Chars {
    text: Arc<str>,
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
            let c = text[at..].chars().next().unwrap_or_default();
            at += c.len_utf8();
            Value::from(c)
        })))
    }
}
