//! Decodes one reply token by token: text is returned only when no later token can change it.

use std::sync::Arc;

use crate::pieces::Style;
use crate::tokenizer::Tokenizer;

const REPLACEMENT: &str = "\u{FFFD}";

/// The beginning of a character is at most this long.
const MAX_START_BYTES: usize = 3;

pub struct Stream {
    tokenizer: Arc<Tokenizer>,
    skip_special: bool,
    state: State,
}

/// The state of one reply.
#[derive(Default)]
struct State {
    /// A token has been read.
    started: bool,
    /// How many more characters the decoder may strip from the start of the text.
    strip_left: usize,
    /// The beginning of one character.
    pending: Vec<u8>,
    /// How many bytes of `pending` come from the prompt: they are not part of the reply's text.
    of_prompt: usize,
    /// Whether invalid bytes are replaced one by one instead of one stretch at a time.
    replace_each: bool,
    /// The latest call's result.
    out: String,
}

impl Stream {
    pub fn new(tokenizer: Arc<Tokenizer>, skip_special: bool) -> Self {
        let mut stream = Stream { tokenizer, skip_special, state: State::default() };
        stream.start_over();
        stream
    }

    /// Starts a reply that continues `prompt`, whose text is not returned. Only its end matters:
    /// that there is text, so nothing is stripped any more, and perhaps the beginning of a
    /// character. So as many tokens are read as that beginning can have bytes.
    pub fn follow(&mut self, prompt: &[i32]) {
        let mut first = prompt.len();
        let mut bytes = 0;
        while first > 0 && bytes < MAX_START_BYTES {
            first -= 1;
            if let Some(piece) = self.tokenizer.pieces().get(prompt[first]) {
                bytes += if piece.special && self.skip_special { 0 } else { piece.bytes.len() };
            }
        }
        for id in &prompt[first..] {
            self.step(*id);
        }
        self.state.of_prompt = self.state.pending.len();
        if self.state.started {
            self.state.strip_left = 0;
        }
    }

    /// The text that is final now. Ids without a token and skipped special ones are ignored.
    pub fn step(&mut self, id: i32) -> &str {
        let state = &mut self.state;
        state.out.clear();
        let pieces = self.tokenizer.pieces();
        let Some(piece) = pieces.get(id) else { return "" };
        if piece.special && self.skip_special {
            return "";
        }
        match pieces.style() {
            Style::Bytes => state.add_bytes(piece.bytes, piece.whole),
            Style::Texts { separator, strip, first_differs, .. } => {
                if piece.is_byte {
                    state.add_bytes(piece.bytes, piece.whole);
                } else {
                    state.replace_pending();
                    if state.started {
                        state.out.push_str(separator);
                    }
                    if *first_differs && !state.started {
                        // The decoder ran over the whole vocabulary at load, so it can't fail here.
                        let first = pieces.first_form(self.tokenizer.token_text(id));
                        state.out.push_str(&first.unwrap_or_default());
                    } else {
                        push_valid(&mut state.out, piece.bytes);
                    }
                }
                if let Some((content, _)) = strip {
                    state.strip_start(*content);
                }
            }
        }
        state.started = true;
        &state.out
    }

    /// The text still held back. The next step begins a new reply.
    pub fn end(&mut self) -> &str {
        let state = &mut self.state;
        state.out.clear();
        state.replace_pending();
        if let Style::Texts { strip: Some((content, _)), .. } = self.tokenizer.pieces().style() {
            state.strip_start(*content);
        }
        self.start_over();
        &self.state.out
    }

    fn start_over(&mut self) {
        let style = self.tokenizer.pieces().style();
        self.state.started = false;
        self.state.replace_each = matches!(style, Style::Texts { .. });
        self.state.strip_left = match style {
            Style::Texts { strip: Some((_, count)), .. } => *count,
            _ => 0,
        };
    }
}

impl State {
    /// Outputs the complete characters of `pending` and `bytes`, replaces invalid bytes, and keeps
    /// a beginning that may still become a character.
    fn add_bytes(&mut self, bytes: &[u8], whole: bool) {
        if whole && self.pending.is_empty() {
            push_valid(&mut self.out, bytes);
            return;
        }
        self.pending.extend_from_slice(bytes);
        let mut from = 0;
        while let Err(error) = std::str::from_utf8(&self.pending[from..]) {
            let valid = from + error.valid_up_to();
            if valid > from {
                push_valid(&mut self.out, &self.pending[from..valid]);
                self.of_prompt = 0;
            }
            from = valid;
            let Some(size) = error.error_len() else {
                self.pending.drain(..from);
                return;
            };
            self.replace(size);
            from += size;
        }
        push_valid(&mut self.out, &self.pending[from..]);
        self.pending.clear();
        self.of_prompt = 0;
    }

    /// No later token completes the pending character.
    fn replace_pending(&mut self) {
        if !self.pending.is_empty() {
            self.replace(self.pending.len());
            self.pending.clear();
        }
    }

    /// Replaces a stretch of `size` bytes that form no character.
    fn replace(&mut self, size: usize) {
        let size = size - size.min(std::mem::take(&mut self.of_prompt));
        if size == 0 {
            return;
        }
        let count = if self.replace_each { size } else { 1 };
        (0..count).for_each(|_| self.out.push_str(REPLACEMENT));
    }

    /// Everything before `out` was stripped completely unless `strip_left` is 0.
    fn strip_start(&mut self, content: char) {
        while self.strip_left > 0 && !self.out.is_empty() {
            if self.out.starts_with(content) {
                self.out.remove(0);
                self.strip_left -= 1;
            } else {
                self.strip_left = 0;
            }
        }
    }
}

/// `bytes` was validated when the table was built, or just now; the lossy copy is never taken.
fn push_valid(out: &mut String, bytes: &[u8]) {
    match std::str::from_utf8(bytes) {
        Ok(text) => out.push_str(text),
        Err(_) => out.push_str(&String::from_utf8_lossy(bytes)),
    }
}
