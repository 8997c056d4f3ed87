//! A model folder's tokenizer: tokenizer.json plus what its side files add, combined as in
//! transformers 4.57. Version 5 rebuilds the tokenizers of some classes (GPT2Tokenizer,
//! LlamaTokenizer if it is legacy, Gemma's) and then differs from tokenizer.json; here a model's
//! own file is authoritative.

use std::path::Path;

use serde::Deserialize;
use tokenizers::models::ModelWrapper;
use tokenizers::{AddedToken, NormalizedString, Normalizer};

use crate::error::{Error, Result, Status};
use crate::folder::{read_file, read_side_files, SideFiles, TokenSpec};
use crate::pieces::{Pieces, MAX_VOCAB};
use crate::regex_parts::rewrite_file;

/// The largest vocabularies take about 30 MB.
const MAX_FILE_BYTES: u64 = 256 << 20;

/// Most tokenizers of language models cover all of it.
const PROBE: &str =
    "The quick brown fox jumps over the lazy dog. 0123456789\n다람쥐 헌 쳇바퀴에 타고파";

/// How many of its own tokens are tried on a tokenizer that does not.
const OWN_PROBES: usize = 32;

/// The regular expressions that split texts into words backtrack over whole runs of whitespace.
/// After a million steps their engine gives up, and everything after that would be tokenized
/// differently, or not at all.
const MOST_BLANKS: usize = 900_000;

/// A normalizer makes at most some hundred kilobytes of a text this short.
const MOST_UNMEASURED: usize = 64 << 10;

/// How much of a text is normalized at once to measure it.
const NORMALIZED_PART: usize = 16 << 10;

pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    pieces: Pieces,
    /// Name ("bos_token") and text.
    named: Vec<(String, String)>,
}

/// Length in characters of the longest run of whitespace; 0 if the text is too short for one that
/// matters.
fn longest_blank(text: &str) -> usize {
    if text.len() <= MOST_BLANKS {
        return 0;
    }
    text.split(|c: char| !c.is_whitespace()).map(|run| run.chars().count()).max().unwrap_or(0)
}

impl Tokenizer {
    pub fn load(folder: &Path) -> Result<Self> {
        if !folder.is_dir() {
            let shown = folder.display();
            let message = match folder.exists() {
                true => format!("{shown} is not a folder."),
                false => format!("There is no folder {shown}."),
            };
            return Err(Error::new(Status::NotFound, message));
        }
        let path = folder.join("tokenizer.json");
        let bytes = read_file(&path, MAX_FILE_BYTES)?;
        let shown = path.display();
        if bytes.starts_with(b"version https://git-lfs") {
            let message =
                format!("{shown} is a Git LFS pointer: fetch the file with git lfs pull.");
            return Err(Error::bad_file(message));
        }
        let bytes = match rewrite_file(&bytes) {
            Ok(rewritten) => rewritten.unwrap_or(bytes),
            Err(what) => return Err(Error::bad_file(format!("{shown} {what}."))),
        };
        // Malformed files cause panics as often as errors, so panics are also caught here, where
        // the file is known.
        let parsed = std::panic::catch_unwind(|| tokenizers::Tokenizer::from_bytes(&bytes));
        let mut inner = match parsed {
            Ok(Ok(inner)) => inner,
            Ok(Err(error)) => {
                return Err(Error::bad_file(format!("{shown} is not a tokenizer: {error}.")));
            }
            Err(panic) => {
                let what = panic_text(&*panic);
                return Err(Error::bad_file(format!("{shown} is not a tokenizer: {what}.")));
            }
        };
        check_ids(&inner, &bytes).map_err(|what| Error::bad_file(format!("{shown} {what}.")))?;
        let side = read_side_files(folder)?;
        add_tokens(&mut inner, &side)
            .map_err(|error| Error::bad_file(format!("{shown}: cannot add tokens: {error}.")))?;
        // Dropout, padding and truncation are for training, but some files carry them: a text must
        // always have the same ids, and requests are limited elsewhere.
        if let ModelWrapper::BPE(bpe) = inner.get_model() {
            if bpe.dropout.is_some() {
                let mut bpe = bpe.clone();
                bpe.dropout = None;
                inner.with_model(bpe);
            }
        }
        inner.with_padding(None);
        inner
            .with_truncation(None)
            .map_err(|error| Error::bad_file(format!("{shown}: {error}.")))?;
        inner.set_encode_special_tokens(side.split_special_tokens);
        let named: Vec<_> =
            side.named.iter().map(|(name, spec)| (name.clone(), spec.text().to_string())).collect();
        let size = inner.get_vocab(true).values().max().map_or(0, |max| max.saturating_add(1));
        if size == 0 || size > MAX_VOCAB {
            return Err(Error::bad_file(format!(
                "{shown} has token ids up to {size}; 1 to {MAX_VOCAB} tokens can be served."
            )));
        }
        // Checked by id: the text of a token that is written normalized is not the one that is
        // special.
        let added = inner.get_added_vocabulary();
        let is_special = |id| {
            let token = added.get_added_tokens_decoder().get(&id);
            token.is_some_and(|token| added.is_special_token(&token.content))
        };
        let tokens = (0..size).map(|id| Some((inner.id_to_token(id)?, is_special(id))));
        let pieces = Pieces::new(inner.get_decoder(), tokens)
            .map_err(|error| Error::bad_file(format!("{shown}: {}", error.message)))?;
        let tokenizer = Tokenizer { inner, pieces, named };
        tokenizer.probe().map_err(|what| Error::bad_file(format!("{shown} {what}.")))?;
        Ok(tokenizer)
    }

    /// Tokenizes sample texts: the library looks at much of a file only then, and an error there
    /// would fail every request. A tokenizer may know few characters: any text will do.
    fn probe(&self) -> std::result::Result<(), String> {
        let caught = |text: &str, add_special| {
            let encode =
                || self.encode(text, add_special, usize::MAX).map_err(|error| error.message);
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(encode))
                .map_err(|panic| panic_text(&*panic))
        };
        let encode =
            |text: &str, add_special| caught(text, add_special).and_then(std::convert::identity);
        let failed = |text, error: String| {
            Err(format!("can't tokenize {text} text: {}", error.trim_end_matches('.')))
        };
        if let Err(error) = encode("", false) {
            return failed("an empty", error);
        }
        // Added tokens are matched before anything else.
        let added = self.inner.get_added_tokens_decoder();
        let mut own = (0..self.vocab_size())
            .filter(|id| self.pieces.has(*id) && !added.contains_key(&(*id as u32)))
            .take(OWN_PROBES)
            .map(|id| self.token_text(id));
        let short = match caught(PROBE, false) {
            Ok(short) => short,
            Err(panic) => return failed("a short", panic),
        };
        let takes = |text: String| encode(&text, false).is_ok_and(|ids| !ids.is_empty());
        let tokenizes = short.as_ref().is_ok_and(|ids| !ids.is_empty()) || own.any(takes);
        if !tokenizes {
            return match short {
                Err(error) => failed("a short", error),
                Ok(_) => Err("makes no tokens of a text of letters, digits and Hangul".to_string()),
            };
        }
        let ids = encode("", true)
            .map_err(|_| "has a post_processor that fails on every text".to_string())?;
        match ids.iter().find(|id| !self.pieces.has(**id)) {
            Some(id) => {
                Err(format!("has a post_processor that adds the id {id}, which no token has"))
            }
            None => Ok(()),
        }
    }

    /// Refuses more than `max_bytes` of text, as it is and as the normalizer writes it: that is what
    /// takes memory and time, and a character may become many (U+FDFA, 18).
    pub fn encode(
        &self,
        text: &str,
        add_special_tokens: bool,
        max_bytes: usize,
    ) -> Result<Vec<i32>> {
        let size = text.len();
        if size > max_bytes {
            return Err(Error::new(
                Status::TooLarge,
                format!("The text has {size} bytes; at most {max_bytes} can be tokenized at once."),
            ));
        }
        if size > MOST_UNMEASURED && self.normalized_size(text, max_bytes) > max_bytes {
            return Err(Error::new(
                Status::TooLarge,
                format!(
                    "The text has {size} bytes, and more than {max_bytes} once this model's \
                     tokenizer has normalized it; at most those can be tokenized at once."
                ),
            ));
        }
        if longest_blank(text) > MOST_BLANKS {
            return Err(Error::bad_input(format!(
                "The text has more than {MOST_BLANKS} blanks or line ends in a row; leave some out."
            )));
        }
        let encoding = self
            .inner
            .encode_fast(text, add_special_tokens)
            .map_err(|error| Error::bad_input(format!("The text cannot be tokenized: {error}.")))?;
        Ok(encoding.get_ids().iter().map(|id| *id as i32).collect())
    }

    /// The size of the normalized text, or a size above `max_bytes`. Parts of the text are normalized
    /// by themselves, to hold only one: what spans two counts a few bytes more or less.
    fn normalized_size(&self, text: &str, max_bytes: usize) -> usize {
        let Some(normalizer) = self.inner.get_normalizer() else { return text.len() };
        let mut size = 0;
        let mut rest = text;
        while !rest.is_empty() && size <= max_bytes {
            let mut end = rest.len().min(NORMALIZED_PART);
            while !rest.is_char_boundary(end) {
                end -= 1;
            }
            let (part, behind) = rest.split_at(end);
            let mut normalized = NormalizedString::from(part);
            // If it fails, so will the whole text.
            _ = normalizer.normalize(&mut normalized);
            size += normalized.get().len();
            rest = behind;
        }
        size
    }

    /// Ids without a token are ignored. (The library would look up special tokens by text, see
    /// `load`.)
    pub fn decode(&self, ids: &[i32], skip_special: bool) -> Result<String> {
        let shown = |id: &i32| !(skip_special && self.pieces.is_special(*id));
        let ids: Vec<u32> =
            ids.iter().filter(|id| shown(id)).filter_map(|id| u32::try_from(*id).ok()).collect();
        self.inner
            .decode(&ids, false)
            .map_err(|error| Error::bad_input(format!("The tokens cannot be decoded: {error}.")))
    }

    pub fn pieces(&self) -> &Pieces {
        &self.pieces
    }

    pub fn vocab_size(&self) -> i32 {
        self.pieces.len() as i32
    }

    pub fn token_text(&self, id: i32) -> String {
        u32::try_from(id).ok().and_then(|id| self.inner.id_to_token(id)).unwrap_or_default()
    }

    pub fn token_to_id(&self, token: &str) -> Option<i32> {
        self.inner.token_to_id(token).map(|id| id as i32)
    }

    /// The variables for chat templates: name and text.
    pub fn named(&self) -> &[(String, String)] {
        &self.named
    }

    pub fn named_id(&self, name: &str) -> Option<i32> {
        let (_, text) = self.named.iter().find(|(own, _)| own == name)?;
        self.token_to_id(text)
    }
}

#[derive(Deserialize)]
struct Declared {
    #[serde(default)]
    added_tokens: Vec<DeclaredToken>,
}

#[derive(Deserialize)]
struct DeclaredToken {
    id: u32,
    content: String,
}

/// The library assigns added tokens the next free ids, whatever the file says.
fn check_ids(inner: &tokenizers::Tokenizer, json: &[u8]) -> std::result::Result<(), String> {
    let declared: Declared =
        serde_json::from_slice(json).map_err(|error| format!("is not a tokenizer: {error}"))?;
    for token in declared.added_tokens {
        match inner.token_to_id(&token.content) {
            Some(id) if id != token.id => {
                let DeclaredToken { id: declared, content } = token;
                return Err(format!(
                    "declares the token {content:?} as {declared}, where {id} is next"
                ));
            }
            _ => {}
        }
    }
    Ok(())
}

/// A panic's message.
fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| text.to_string());
    text.or_else(|| panic.downcast_ref().cloned()).unwrap_or_else(|| "it can't be read".to_string())
}

/// First the tokens with flags, then the named ones, which are special whatever their flags say.
fn add_tokens(inner: &mut tokenizers::Tokenizer, side: &SideFiles) -> tokenizers::Result<()> {
    inner.add_tokens(side.added.iter().cloned())?;
    let known = inner.get_added_tokens_decoder();
    let special: Vec<AddedToken> = side
        .named
        .iter()
        .map(|(_, spec)| spec)
        .chain(&side.extra)
        .map(|spec| match spec {
            TokenSpec::Full(token) => token.clone(),
            TokenSpec::Text(text) => known
                .values()
                .find(|token| &token.content == text)
                .cloned()
                .unwrap_or_else(|| AddedToken::from(text.as_str(), true)),
        })
        .map(|token| token.special(true))
        .collect();
    inner.add_special_tokens(special)?;
    Ok(())
}
