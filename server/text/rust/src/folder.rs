//! The tokenizer's side files in a model folder: the tokens that they add and name.
//!
//! `add_bos_token` and `add_eos_token` are not read: only the post-processor in tokenizer.json
//! decides what surrounds a text, as for most classes of transformers. Its LlamaTokenizerFast and
//! GemmaTokenizerFast (4.57) build a post-processor from these two.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde_json::{Map, Value};
use tokenizers::AddedToken;

use crate::error::{Error, Result, Status};

/// Real ones are a few hundred kilobytes at most.
const MAX_OBJECT_BYTES: u64 = 16 << 20;

/// The names that every template may use as variables.
const NAMED_TOKENS: [&str; 7] =
    ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/// A special token in a side file: with its flags, or only as text.
#[derive(Clone)]
pub enum TokenSpec {
    Full(AddedToken),
    Text(String),
}

impl TokenSpec {
    pub fn text(&self) -> &str {
        match self {
            TokenSpec::Full(token) => &token.content,
            TokenSpec::Text(text) => text,
        }
    }
}

#[derive(Default)]
pub struct SideFiles {
    /// `added_tokens_decoder`, in the order of its ids.
    pub added: Vec<AddedToken>,
    /// Name ("bos_token") and token, in the order of the file.
    pub named: Vec<(String, TokenSpec)>,
    /// Special tokens without a name.
    pub extra: Vec<TokenSpec>,
    pub split_special_tokens: bool,
}

/// The bytes of a regular file (or a link to one). NotFound if there is none.
pub fn read_file(path: &Path, max_bytes: u64) -> Result<Vec<u8>> {
    let shown = path.display();
    let cannot = |error: std::io::Error| {
        let status = match error.kind() {
            // A Hugging Face cache that was copied without its blobs leaves such links.
            ErrorKind::NotFound if path.is_symlink() => {
                let what = "is a link to what is not there: copy the folder with cp -rL";
                return Error::new(Status::Denied, format!("{shown} {what}."));
            }
            ErrorKind::NotFound => {
                return Error::new(Status::NotFound, format!("There is no file {shown}."));
            }
            ErrorKind::PermissionDenied => Status::Denied,
            _ => Status::BadFile,
        };
        Error::new(status, format!("Cannot read {shown}: {error}."))
    };
    // O_NONBLOCK: opening a pipe must not wait for a writer.
    let mut options = OpenOptions::new();
    let file = options.read(true).custom_flags(libc::O_NONBLOCK).open(path).map_err(cannot)?;
    let metadata = file.metadata().map_err(cannot)?;
    if !metadata.is_file() {
        return Err(Error::bad_file(format!("{shown} is not a file.")));
    }
    let size = metadata.len();
    if size > max_bytes {
        return Err(Error::bad_file(format!(
            "{shown} has {size} bytes, more than the {max_bytes} that such a file may have."
        )));
    }
    let mut bytes = Vec::with_capacity(size as usize + 1);
    file.take(size + 1).read_to_end(&mut bytes).map_err(cannot)?;
    // Files in /proc report size 0, and may be endless.
    if bytes.len() as u64 != size {
        return Err(Error::bad_file(format!("{shown} holds other than the {size} bytes it has.")));
    }
    Ok(bytes)
}

/// Like `read_file`, with None for a file that does not exist.
pub fn read_optional(path: &Path, max_bytes: u64) -> Result<Option<Vec<u8>>> {
    match read_file(path, max_bytes) {
        Err(error) if error.status == Status::NotFound => Ok(None),
        other => other.map(Some),
    }
}

/// A JSON object of the folder, or None if there is no such file.
pub fn read_object(path: &Path) -> Result<Option<Map<String, Value>>> {
    let Some(bytes) = read_optional(path, MAX_OBJECT_BYTES)? else { return Ok(None) };
    match serde_json::from_slice(&bytes) {
        Ok(Value::Object(object)) => Ok(Some(object)),
        Ok(_) => Err(Error::bad_file(format!("{} is not a JSON object.", path.display()))),
        Err(error) => Err(Error::bad_file(format!("{} is not JSON: {error}.", path.display()))),
    }
}

/// Reads tokenizer_config.json and, if that has no `added_tokens_decoder`, lets
/// special_tokens_map.json override it: the order of precedence of transformers.
pub fn read_side_files(folder: &Path) -> Result<SideFiles> {
    let parse = |path: &Path, object: &Map<String, Value>| {
        parse_config(object)
            .map_err(|error| Error::bad_file(format!("{}: {}", path.display(), error.message)))
    };
    let path = folder.join("tokenizer_config.json");
    let mut config = read_object(&path)?.unwrap_or_default();
    if !config.contains_key("added_tokens_decoder") {
        let map_path = folder.join("special_tokens_map.json");
        let map = read_object(&map_path)?.unwrap_or_default();
        // Parsed by itself first, so that an error in both together is the other file's.
        parse(&map_path, &map)?;
        config.extend(map);
    }
    parse(&path, &config)
}

fn parse_config(config: &Map<String, Value>) -> Result<SideFiles> {
    let mut files = SideFiles {
        added: parse_added_tokens(config.get("added_tokens_decoder"))?,
        split_special_tokens: parse_bool(config, "split_special_tokens")?.unwrap_or(false),
        ..SideFiles::default()
    };
    for name in NAMED_TOKENS {
        match config.get(name) {
            None | Some(Value::Null) => {}
            Some(value) => files.named.push((name.to_string(), parse_token(name, value)?)),
        }
    }
    for name in ["extra_special_tokens", "additional_special_tokens"] {
        match config.get(name) {
            None | Some(Value::Null) => {}
            Some(Value::Array(tokens)) => {
                for token in tokens {
                    files.extra.push(parse_token(name, token)?);
                }
            }
            // Model-specific names, such as image_token.
            Some(Value::Object(tokens)) => {
                for (own_name, token) in tokens {
                    files.named.push((own_name.clone(), parse_token(own_name, token)?));
                }
            }
            Some(_) => return Err(Error::bad_file(format!("{name} must be a list or an object."))),
        }
    }
    Ok(files)
}

fn parse_added_tokens(value: Option<&Value>) -> Result<Vec<AddedToken>> {
    let entries = match value {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Object(entries)) => entries,
        Some(_) => return Err(Error::bad_file("added_tokens_decoder must be an object.")),
    };
    let mut tokens = Vec::with_capacity(entries.len());
    for (id, token) in entries {
        let id: u32 = id.parse().map_err(|_| {
            Error::bad_file(format!("added_tokens_decoder has the key {id:?}, not a token id."))
        })?;
        match parse_token("added_tokens_decoder", token)? {
            TokenSpec::Full(token) => tokens.push((id, token)),
            TokenSpec::Text(_) => {
                return Err(Error::bad_file("added_tokens_decoder must hold objects."));
            }
        }
    }
    tokens.sort_by_key(|(id, _)| *id);
    Ok(tokens.into_iter().map(|(_, token)| token).collect())
}

fn parse_token(name: &str, value: &Value) -> Result<TokenSpec> {
    let wrong = || Error::bad_file(format!("{name} must be a string or an object with a content."));
    match value {
        Value::String(text) => Ok(TokenSpec::Text(text.clone())),
        Value::Object(fields) => {
            let content = fields.get("content").and_then(Value::as_str).ok_or_else(wrong)?;
            let flag = |key| parse_bool(fields, key).map(Option::unwrap_or_default);
            let special = flag("special")?;
            let token = AddedToken::from(content, special)
                .single_word(flag("single_word")?)
                .lstrip(flag("lstrip")?)
                .rstrip(flag("rstrip")?)
                .normalized(parse_bool(fields, "normalized")?.unwrap_or(!special));
            Ok(TokenSpec::Full(token))
        }
        _ => Err(wrong()),
    }
}

fn parse_bool(object: &Map<String, Value>, name: &str) -> Result<Option<bool>> {
    match object.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Bool(value)) => Ok(Some(*value)),
        Some(_) => Err(Error::bad_file(format!("{name} must be true or false."))),
    }
}
