//! Arguments as Python binds them: by position, then by name. minijinja's optional arguments treat
//! none and undefined as not given; here they are ordinary values.

use minijinja::value::{from_args, Kwargs, Value};
use minijinja::{Error, ErrorKind};

pub struct Args {
    positional: std::vec::IntoIter<Value>,
    options: Kwargs,
}

impl Args {
    pub fn new(values: &[Value]) -> Result<Self, Error> {
        let (positional, options): (&[Value], Kwargs) = from_args(values)?;
        Ok(Args { positional: positional.to_vec().into_iter(), options })
    }

    /// The next parameter, if given.
    pub fn next(&mut self, name: &str) -> Result<Option<Value>, Error> {
        if let Some(value) = self.positional.next() {
            return Ok(Some(value));
        }
        match self.options.has(name) {
            true => self.options.get(name).map(Some),
            false => Ok(None),
        }
    }

    pub fn next_bool(&mut self, name: &str) -> Result<bool, Error> {
        Ok(self.next(name)?.is_some_and(|value| value.is_true()))
    }

    /// Fails if any argument was not used.
    pub fn end(mut self) -> Result<(), Error> {
        match self.positional.next() {
            Some(_) => Err(Error::from(ErrorKind::TooManyArguments)),
            None => self.options.assert_all_used(),
        }
    }
}
