//! Finds a model folder's chat template and reads its text.

use std::path::Path;

use serde_json::Value;

use crate::error::{Error, Result, Status};
use crate::folder::{read_file, read_object, read_optional};

/// The longest of real models are about 20 KB.
const MAX_SOURCE_BYTES: u64 = 64 << 10;

/// The template's text and its origin.
pub fn find_source(folder: &Path, override_path: &Path) -> Result<(String, String)> {
    let decode = |path: &Path, bytes: Vec<u8>| {
        let origin = path.display().to_string();
        match String::from_utf8(bytes) {
            Ok(source) => Ok((origin, source)),
            Err(_) => Err(Error::bad_file(format!("{origin} is not UTF-8."))),
        }
    };
    if !override_path.as_os_str().is_empty() {
        let (origin, source) = decode(override_path, read_file(override_path, MAX_SOURCE_BYTES)?)?;
        // Editors on Windows begin a text with this: it is the operator's file, which no other
        // program reads.
        return Ok((origin, source.strip_prefix('\u{feff}').unwrap_or(&source).to_string()));
    }
    let path = folder.join("chat_template.jinja");
    match read_optional(&path, MAX_SOURCE_BYTES)? {
        Some(bytes) if !bytes.is_empty() => return decode(&path, bytes),
        _ => {}
    }
    let path = folder.join("tokenizer_config.json");
    let config = read_object(&path)?.unwrap_or_default();
    let wrong = |what| {
        let shown = path.display();
        Error::bad_file(format!("{shown}: chat_template {what}."))
    };
    let source = match config.get("chat_template") {
        Some(Value::String(source)) => source,
        Some(Value::Array(named)) => default_of(named).map_err(wrong)?,
        None | Some(Value::Null) => "",
        Some(_) => return Err(wrong("must be a string or a list".to_string())),
    };
    if source.is_empty() {
        let message = format!("The folder {} has no chat template.", folder.display());
        return Err(Error::new(Status::NotFound, message));
    }
    if source.len() as u64 > MAX_SOURCE_BYTES {
        let size = source.len();
        return Err(wrong(format!(
            "has {size} bytes, more than the {MAX_SOURCE_BYTES} it may have"
        )));
    }
    Ok((path.display().to_string(), source.to_string()))
}

/// From a list of named templates, the one for conversations without tools.
fn default_of(named: &[Value]) -> std::result::Result<&str, String> {
    let mut names = Vec::new();
    for entry in named {
        match (entry["name"].as_str(), entry["template"].as_str()) {
            (Some("default"), Some(source)) => return Ok(source),
            (Some(name), Some(_)) => names.push(name),
            _ => return Err("must list objects with a name and a template".to_string()),
        }
    }
    Err(format!("has none with the name default, only {names:?}"))
}
