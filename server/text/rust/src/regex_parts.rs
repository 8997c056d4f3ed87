//! The regular expressions of tokenizer.json. They are written for Oniguruma, which the reference
//! library uses, but read here by fancy-regex: what that reads differently is rewritten.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::value::RawValue;
use serde_json::Value;

use crate::regexes::translate;

/// The parts of the file that hold regular expressions.
const PARTS: [&str; 3] = ["normalizer", "pre_tokenizer", "decoder"];

/// The file with its expressions rewritten. None if none needs to be, or if this is no such file.
/// Err names an expression that can't be read here.
pub fn rewrite_file(json: &[u8]) -> Result<Option<Vec<u8>>, String> {
    let Ok(mut parts) = serde_json::from_slice::<BTreeMap<String, Cow<RawValue>>>(json) else {
        return Ok(None);
    };
    let mut changed = false;
    for name in PARTS {
        let Some(part) = parts.get_mut(name) else { continue };
        let Ok(mut value) = serde_json::from_str::<Value>(part.get()) else { continue };
        if rewrite_in(&mut value)? {
            let Ok(written) = serde_json::value::to_raw_value(&value) else { continue };
            *part = Cow::Owned(written);
            changed = true;
        }
    }
    Ok(changed.then(|| serde_json::to_vec(&parts).ok()).flatten())
}

fn rewrite_in(value: &mut Value) -> Result<bool, String> {
    let mut changed = false;
    match value {
        Value::Array(items) => {
            for item in items {
                changed |= rewrite_in(item)?;
            }
        }
        Value::Object(fields) => {
            for (name, field) in fields {
                match field {
                    Value::String(pattern) if name == "Regex" => {
                        let written = translate(pattern).map_err(|what| {
                            let shown: String = pattern.chars().take(200).collect();
                            format!("has the regular expression {shown:?}: {what}")
                        })?;
                        if let Cow::Owned(written) = written {
                            *pattern = written;
                            changed = true;
                        }
                    }
                    field => changed |= rewrite_in(field)?,
                }
            }
        }
        _ => {}
    }
    Ok(changed)
}
