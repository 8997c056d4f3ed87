//! Decodes one reply token by token: text leaves only when no later token can change it.

use std::sync::Arc;

use crate::pieces::Style;
use crate::tokenizer::Tokenizer;

const REPLACEMENT: &str = "\u{FFFD}";

pub struct Stream {
    tokenizer: Arc<Tokenizer>,
    skip_special: bool,
    /// A token has been read.
    started: bool,
    /// How many more characters the decoder may strip from the start of the text.
    strip_left: usize,
    /// `Style::Bytes`: the start of one character. `Style::Texts`: a run of byte tokens, which is
    /// one text or all replacement characters depending on how it ends.
    pending: Vec<u8>,
    /// What the latest call let out.
    out: String,
}

impl Stream {
    pub fn new(tokenizer: Arc<Tokenizer>, skip_special: bool) -> Self {
        let mut stream = Stream {
            tokenizer,
            skip_special,
            started: false,
            strip_left: 0,
            pending: Vec::new(),
            out: String::new(),
        };
        stream.start_over();
        stream
    }

    /// The text that is certain now. Ids without a token and skipped special ones stand for
    /// nothing.
    pub fn step(&mut self, id: i32) -> &str {
        self.out.clear();
        let tokenizer = Arc::clone(&self.tokenizer);
        let Some(piece) = tokenizer.pieces().get(id) else { return "" };
        if piece.special && self.skip_special {
            return "";
        }
        match tokenizer.pieces().style() {
            Style::Bytes => {
                if piece.whole && self.pending.is_empty() {
                    push_valid(&mut self.out, piece.bytes);
                } else {
                    self.pending.extend_from_slice(piece.bytes);
                    self.release_characters();
                }
            }
            Style::Texts { separator, strip, first_differs, .. } => {
                if piece.is_byte {
                    self.pending.push(piece.bytes[0]);
                } else {
                    self.release_run();
                    if self.started {
                        self.out.push_str(separator);
                    }
                    if *first_differs && !self.started {
                        // The decoder ran over the whole vocabulary at load, so it can't fail here.
                        let first = tokenizer.pieces().first_form(tokenizer.token_text(id));
                        self.out.push_str(&first.unwrap_or_default());
                    } else {
                        push_valid(&mut self.out, piece.bytes);
                    }
                }
                if let Some((content, _)) = strip {
                    self.strip_start(*content);
                }
            }
        }
        self.started = true;
        &self.out
    }

    /// What still waits. The next step begins a new reply.
    pub fn end(&mut self) -> &str {
        self.out.clear();
        let tokenizer = Arc::clone(&self.tokenizer);
        match tokenizer.pieces().style() {
            Style::Bytes if !self.pending.is_empty() => self.out.push_str(REPLACEMENT),
            Style::Bytes => {}
            Style::Texts { strip, .. } => {
                self.release_run();
                if let Some((content, _)) = strip {
                    self.strip_start(*content);
                }
            }
        }
        self.pending.clear();
        self.start_over();
        &self.out
    }

    fn start_over(&mut self) {
        self.started = false;
        self.strip_left = match self.tokenizer.pieces().style() {
            Style::Texts { strip: Some((_, count)), .. } => *count,
            _ => 0,
        };
    }

    /// Lets out the whole characters of `pending`, one replacement character for each stretch of
    /// bytes that no character begins with, and keeps a start that may still become one.
    fn release_characters(&mut self) {
        let mut from = 0;
        loop {
            match std::str::from_utf8(&self.pending[from..]) {
                Ok(text) => {
                    self.out.push_str(text);
                    self.pending.clear();
                    return;
                }
                Err(error) => {
                    let valid = from + error.valid_up_to();
                    push_valid(&mut self.out, &self.pending[from..valid]);
                    from = valid;
                    match error.error_len() {
                        Some(size) => {
                            self.out.push_str(REPLACEMENT);
                            from += size;
                        }
                        None => {
                            self.pending.drain(..from);
                            return;
                        }
                    }
                }
            }
        }
    }

    fn release_run(&mut self) {
        match std::str::from_utf8(&self.pending) {
            Ok(text) => self.out.push_str(text),
            Err(_) => self.pending.iter().for_each(|_| self.out.push_str(REPLACEMENT)),
        }
        self.pending.clear();
    }

    /// Everything before `out` was stripped away whole if `strip_left` is not 0.
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

/// `bytes` was checked when the table was made, or just now; a lossy copy costs nothing then.
fn push_valid(out: &mut String, bytes: &[u8]) {
    match std::str::from_utf8(bytes) {
        Ok(text) => out.push_str(text),
        Err(_) => out.push_str(&String::from_utf8_lossy(bytes)),
    }
}
