//! What each token adds to a text: a table of bytes, built once from the tokenizer's decoder, so
//! that decoding a token is a copy.

use tokenizers::decoders::DecoderWrapper;
use tokenizers::Decoder;

use crate::error::{Error, Result};

/// A larger vocabulary is bogus: the largest real ones have 300 thousand tokens.
pub const MAX_VOCAB: u32 = 1 << 22;

/// For all tokens together; real ones have a few megabytes. A decoder may expand every token.
const MAX_BYTES: usize = 64 << 20;

/// How the decoder joins tokens.
pub enum Style {
    /// Byte-level: tokens are bytes; invalid bytes are replaced at the end.
    Bytes,
    /// SentencePiece-like: tokens are texts.
    Texts {
        /// Tokens such as `<0xEA>` are bytes. Valid characters among them are kept, as in a run
        /// that is valid to its end; every other byte becomes a replacement character. (The
        /// reference replaces every byte of a run that is not valid to its end, which a stream
        /// can't know in advance, and which loses characters that the model wrote.)
        byte_fallback: bool,
        /// Up to this many of this character are stripped from the start of the whole text.
        strip: Option<(char, usize)>,
        /// The first token of a text decodes differently from the others.
        first_differs: bool,
        separator: &'static str,
    },
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    None,
    Text,
    Byte,
}

#[derive(Clone, Copy)]
struct Entry {
    start: u32,
    size: u32,
    kind: Kind,
    special: bool,
    /// The bytes by themselves are valid UTF-8.
    whole: bool,
}

const NO_ENTRY: Entry = Entry { start: 0, size: 0, kind: Kind::None, special: false, whole: true };

/// One token as seen by the stream decoder.
pub struct Piece<'a> {
    pub bytes: &'a [u8],
    pub is_byte: bool,
    pub special: bool,
    pub whole: bool,
}

pub struct Pieces {
    style: Style,
    /// Applied to each token separately, in this order.
    per_token: Vec<DecoderWrapper>,
    entries: Vec<Entry>,
    bytes: Vec<u8>,
}

impl Pieces {
    /// `tokens` holds (text, is special) for each id, None for ids without a token. Errors refer to
    /// the tokenizer, without naming its file.
    pub fn new(
        decoder: Option<&DecoderWrapper>,
        tokens: impl Iterator<Item = Option<(String, bool)>>,
    ) -> Result<Self> {
        let (style, per_token) = plan(decoder)?;
        let mut pieces = Pieces { style, per_token, entries: Vec::new(), bytes: Vec::new() };
        let alphabet = byte_alphabet();
        for token in tokens {
            let Some((text, special)) = token else {
                pieces.entries.push(NO_ENTRY);
                continue;
            };
            let (kind, bytes) = pieces.read_token(&text, &alphabet)?;
            if bytes.len() > MAX_BYTES - pieces.bytes.len() {
                return Err(Error::bad_file(format!(
                    "its decoder makes more than {MAX_BYTES} bytes of the tokens."
                )));
            }
            pieces.entries.push(Entry {
                start: pieces.bytes.len() as u32,
                size: bytes.len() as u32,
                kind,
                special,
                whole: std::str::from_utf8(&bytes).is_ok(),
            });
            pieces.bytes.extend_from_slice(&bytes);
        }
        Ok(pieces)
    }

    pub fn style(&self) -> &Style {
        &self.style
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn has(&self, id: i32) -> bool {
        self.entry(id).kind != Kind::None
    }

    pub fn is_special(&self, id: i32) -> bool {
        self.entry(id).special
    }

    pub fn bytes(&self, id: i32) -> &[u8] {
        self.slice(self.entry(id))
    }

    /// None for an id without a token.
    #[inline]
    pub fn get(&self, id: i32) -> Option<Piece<'_>> {
        let entry = self.entry(id);
        if entry.kind == Kind::None {
            return None;
        }
        Some(Piece {
            bytes: self.slice(entry),
            is_byte: entry.kind == Kind::Byte,
            special: entry.special,
            whole: entry.whole,
        })
    }

    /// A token's text at the start of a reply (`Style::Texts::first_differs`).
    pub fn first_form(&self, token: String) -> Result<String> {
        let mut tokens = vec![token];
        for decoder in &self.per_token {
            tokens = run(decoder, tokens)?;
        }
        Ok(tokens.concat())
    }

    #[inline]
    fn entry(&self, id: i32) -> Entry {
        match usize::try_from(id).ok().and_then(|index| self.entries.get(index)) {
            Some(entry) => *entry,
            None => NO_ENTRY,
        }
    }

    #[inline]
    fn slice(&self, entry: Entry) -> &[u8] {
        &self.bytes[entry.start as usize..(entry.start + entry.size) as usize]
    }

    fn read_token(&self, text: &str, alphabet: &[Option<u8>]) -> Result<(Kind, Vec<u8>)> {
        let Style::Texts { byte_fallback, .. } = self.style else {
            return Ok((Kind::Text, byte_level_bytes(text, alphabet)));
        };
        // After another token, because some decoders treat the first one differently.
        let mut tokens = vec![String::new(), text.to_string()];
        for decoder in &self.per_token {
            tokens = run(decoder, tokens)?;
        }
        let text = tokens.pop().unwrap_or_default();
        match byte_fallback.then(|| fallback_byte(&text)).flatten() {
            Some(byte) => Ok((Kind::Byte, vec![byte])),
            None => Ok((Kind::Text, text.into_bytes())),
        }
    }
}

fn run(decoder: &DecoderWrapper, tokens: Vec<String>) -> Result<Vec<String>> {
    decoder
        .decode_chain(tokens)
        .map_err(|error| Error::bad_file(format!("its decoder failed: {error}.")))
}

/// Splits the decoder's steps into those that act on one token and those that act on the joined
/// text.
fn plan(decoder: Option<&DecoderWrapper>) -> Result<(Style, Vec<DecoderWrapper>)> {
    let Some(decoder) = decoder else {
        let style = Style::Texts {
            byte_fallback: false,
            strip: None,
            first_differs: false,
            separator: " ",
        };
        return Ok((style, Vec::new()));
    };
    let mut steps = Vec::new();
    flatten(decoder, &mut steps);
    if let [DecoderWrapper::ByteLevel(_)] = steps[..] {
        return Ok((Style::Bytes, Vec::new()));
    }
    let mut per_token = Vec::new();
    let (mut fallback, mut fused, mut first_differs, mut strip) = (false, false, false, None);
    for step in steps {
        match step {
            DecoderWrapper::Replace(_) if !fallback && !fused => per_token.push(step.clone()),
            DecoderWrapper::Metaspace(_) if !fallback && !fused => {
                first_differs = true;
                per_token.push(step.clone());
            }
            DecoderWrapper::ByteFallback(_) if !fallback && !fused => fallback = true,
            DecoderWrapper::Fuse(_) => fused = true,
            DecoderWrapper::Strip(s) if fused && strip.is_none() && s.stop == 0 => {
                strip = Some((s.content, s.start));
            }
            other => {
                let name = step_name(other);
                return Err(Error::bad_file(format!(
                    "its decoder has the step {name} where it can't be streamed."
                )));
            }
        }
    }
    Ok((Style::Texts { byte_fallback: fallback, strip, first_differs, separator: "" }, per_token))
}

fn flatten<'a>(decoder: &'a DecoderWrapper, steps: &mut Vec<&'a DecoderWrapper>) {
    match decoder {
        DecoderWrapper::Sequence(sequence) => {
            sequence.get_decoders().iter().for_each(|inner| flatten(inner, steps));
        }
        other => steps.push(other),
    }
}

fn step_name(decoder: &DecoderWrapper) -> &'static str {
    match decoder {
        DecoderWrapper::BPE(_) => "BPEDecoder",
        DecoderWrapper::ByteLevel(_) => "ByteLevel",
        DecoderWrapper::WordPiece(_) => "WordPiece",
        DecoderWrapper::Metaspace(_) => "Metaspace",
        DecoderWrapper::CTC(_) => "CTC",
        DecoderWrapper::Sequence(_) => "Sequence",
        DecoderWrapper::Replace(_) => "Replace",
        DecoderWrapper::Fuse(_) => "Fuse",
        DecoderWrapper::Strip(_) => "Strip",
        DecoderWrapper::ByteFallback(_) => "ByteFallback",
    }
}

/// The byte of `<0xEA>`, parsed exactly as the ByteFallback decoder does.
fn fallback_byte(text: &str) -> Option<u8> {
    let digits = text.strip_prefix("<0x")?.strip_suffix('>')?;
    if digits.len() != 2 {
        return None;
    }
    u8::from_str_radix(digits, 16).ok()
}

/// GPT-2's alphabet: printable Latin-1 represents itself, the other bytes map to U+0100 and up in
/// order. Indexed by code point.
fn byte_alphabet() -> Vec<Option<u8>> {
    let mut alphabet = vec![None; 512];
    let mut next = 256;
    for byte in 0..=255u8 {
        if matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF) {
            alphabet[byte as usize] = Some(byte);
        } else {
            alphabet[next] = Some(byte);
            next += 1;
        }
    }
    alphabet
}

/// A token with any other character (e.g. an added token in Korean) represents its own text.
fn byte_level_bytes(text: &str, alphabet: &[Option<u8>]) -> Vec<u8> {
    text.chars()
        .map(|c| alphabet.get(c as usize).copied().flatten())
        .collect::<Option<Vec<u8>>>()
        .unwrap_or_else(|| text.as_bytes().to_vec())
}
