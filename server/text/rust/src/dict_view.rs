//! The results of Python's `keys`, `values` and `items` of a dict: neither lists nor JSON.

use std::fmt;
use std::sync::Arc;

use minijinja::value::{Enumerator, Object, ObjectRepr, Tuple, Value};

use crate::python;

#[derive(Debug)]
pub struct DictView {
    method: String,
    items: Vec<Value>,
}

impl DictView {
    /// None if `method` is none of the three, or `dict` is not a dict.
    pub fn new(dict: &Value, method: &str) -> Option<Self> {
        let pairs = dict.as_object()?.try_iter_pairs()?;
        let items = match method {
            "keys" => pairs.map(|(key, _)| key).collect(),
            "values" => pairs.map(|(_, value)| value).collect(),
            "items" => pairs.map(|(key, value)| Tuple::from([key, value]).into()).collect(),
            _ => return None,
        };
        Some(DictView { method: method.to_string(), items })
    }
}

impl Object for DictView {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Iterable
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Values(self.items.clone())
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let items = Value::from(self.items.clone());
        write!(f, "dict_{}({})", self.method, python::str(&items))
    }
}
