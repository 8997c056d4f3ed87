//! Rewrites a chat template for minijinja: constructs that Jinja reads differently, or that
//! minijinja fails on. Line numbers are preserved, so that errors name the right line.

use crate::tags;

/// The method that replaces `[start:stop:step]`, see `call_method`. minijinja slices lazily, panics
/// on an empty list taken backwards, and ends such slices elsewhere than Python.
pub const SLICE_METHOD: &str = "__slice";

/// Normalizes line ends, as Jinja does for any file; turns `{% generation %}` tags of training
/// templates into plain scopes, slices into calls of `SLICE_METHOD`, string escapes into what
/// Python makes of them, what loops iterate over into `tags::LOOP_FILTER`'s result, and what is
/// assigned into `tags::COPY_FILTER`'s. Err says what can't be read.
pub fn prepare_source(source: &str) -> Result<String, String> {
    let source = source.replace("\r\n", "\n").replace('\r', "\n");
    let size = source.len();
    let mut reader = Reader {
        source: &source,
        at: 0,
        out: String::with_capacity(size),
        open: Vec::new(),
        rest_names: Vec::new(),
    };
    reader.read()?;
    Ok(reader.out)
}

pub struct Reader<'s> {
    pub source: &'s str,
    pub at: usize,
    pub out: String,
    /// The names of the open tags that need an end tag.
    open: Vec<&'s str>,
    /// For every open macro and call: which of `tags::REST_NAMES` it sets itself.
    rest_names: Vec<[bool; 2]>,
}

/// An open bracket: its position in the output, and those of the colons directly in it.
struct Bracket {
    kind: char,
    at: usize,
    colons: Vec<usize>,
    has_comma: bool,
    /// After the name of a filter or a test, where nothing can be sliced: minijinja will report
    /// that.
    behind_name: bool,
}

impl Bracket {
    fn is_slice(&self) -> bool {
        let is_one = !self.has_comma && (1..=2).contains(&self.colons.len());
        self.kind == '[' && is_one && !self.behind_name
    }
}

/// Replaces a loop among the open tags once its else has begun.
const LOOP_ELSE: &str = "else of for";

/// minijinja rejects deeper nesting.
const MAX_NESTING: usize = 150;

/// Whether code ends with the name of a filter, as in "x | upper", or of a test, as in "x is text".
pub fn ends_with_name(code: &str) -> bool {
    let before = code.trim_end().trim_end_matches(is_word).trim_end();
    let last_word = |code: &str| code[code.trim_end_matches(is_word).len()..].to_string();
    let word = last_word(before);
    let before_word = before[..before.len() - word.len()].trim_end();
    before.ends_with('|') || word == "is" || (word == "not" && last_word(before_word) == "is")
}

impl<'s> Reader<'s> {
    pub fn rest(&self) -> &'s str {
        &self.source[self.at..]
    }

    pub fn line(&self) -> String {
        self.line_of(self.at)
    }

    fn line_of(&self, at: usize) -> String {
        format!("line {}", 1 + self.source[..at].matches('\n').count())
    }

    pub fn copy(&mut self, bytes: usize) -> &'s str {
        let copied = &self.rest()[..bytes];
        self.out.push_str(copied);
        self.at += bytes;
        copied
    }

    pub fn copy_rest(&mut self) {
        self.copy(self.rest().len());
    }

    fn read(&mut self) -> Result<(), String> {
        while let Some(start) = self.rest().find('{') {
            self.copy(start);
            let rest = self.rest();
            match rest.as_bytes().get(1) {
                Some(b'#') => match rest[2..].find("#}") {
                    Some(end) => _ = self.copy(2 + end + 2),
                    None => self.copy_rest(),
                },
                Some(b'%') => match raw_text(rest) {
                    Some(raw) => self.copy_raw(raw),
                    None => self.read_tag()?,
                },
                Some(b'{') => {
                    let at = self.at;
                    self.copy(2);
                    self.skip_mark();
                    let begin = self.out.len();
                    self.read_code("}}")?;
                    self.check_rest_names("", begin, at)?;
                }
                _ => _ = self.copy(1),
            }
        }
        self.copy_rest();
        Ok(())
    }

    /// Skips the - or + at the beginning of a tag.
    fn skip_mark(&mut self) {
        if self.rest().starts_with(['-', '+']) {
            self.copy(1);
        }
    }

    /// Jinja keeps the line end after `{% raw %}`; minijinja would remove it as after other tags.
    fn copy_raw(&mut self, raw: RawText) {
        let mark = self.copy(raw.begin - 2).ends_with(is_mark);
        self.out.push_str(if mark { "" } else { "+" });
        self.copy(raw.end - raw.begin + 2);
    }

    fn read_tag(&mut self) -> Result<(), String> {
        let tag_at = self.at;
        self.copy(2);
        self.skip_mark();
        let rest = self.rest();
        self.copy(rest.len() - rest.trim_start().len());
        let rest = self.rest();
        let name = &rest[..rest.find(|c: char| !is_word(c)).unwrap_or(rest.len())];
        // In Jinja what is set within such a block is local to it.
        if let ("endset", Some(&"set")) | ("endfilter", Some(&"filter")) = (name, self.open.last())
        {
            self.out.push_str("endwith %}{% ");
        }
        match name {
            "generation" => self.out.push_str("with"),
            "endgeneration" => self.out.push_str("endwith"),
            name => self.out.push_str(name),
        }
        self.at += name.len();
        if let "break" | "continue" = name {
            self.check_jump(name)?;
        }
        let begin = self.out.len();
        let assigns = self.read_code("%}")?;
        self.check_rest_names(name, begin, tag_at)?;
        match name {
            "for" => self.rewrite_code(begin, tags::write_for),
            "with" => self.rewrite_code(begin, tags::write_with),
            name if tags::has_parameters(name, &self.out[begin..]) => {
                tags::check_parameters(&self.out[begin..])
                    .map_err(|what| format!("{what} ({})", self.line_of(tag_at)))?;
            }
            "set" if assigns => self.rewrite_code(begin, tags::write_set),
            "filter" => self.open_scope(),
            "set" if !assigns => self.open_scope(),
            _ => {}
        }
        match name {
            "for" | "if" | "with" | "filter" | "autoescape" | "macro" | "call" | "block"
            | "generation" => self.open.push(name),
            "set" if !assigns => self.open.push(name),
            "else" => {
                if let Some(loop_tag @ &mut "for") = self.open.last_mut() {
                    *loop_tag = LOOP_ELSE;
                }
            }
            _ => {
                let ended = name.strip_prefix("end");
                let ends = |open: &&str| {
                    Some(*open) == ended || (*open == LOOP_ELSE && ended == Some("for"))
                };
                let begin = self.open.iter().rposition(|open| ends(&open));
                self.open.truncate(begin.unwrap_or(self.open.len()));
                let has_names = |tag: &&&str| matches!(**tag, "macro" | "call");
                self.rest_names.truncate(self.open.iter().filter(has_names).count());
            }
        }
        Ok(())
    }

    /// Replaces the code of the tag just read, which begins at `begin` in the output.
    fn rewrite_code(&mut self, begin: usize, write: impl Fn(&str) -> Option<String>) {
        let Some(code) = self.out[begin..].strip_suffix("%}") else { return };
        let code = code.strip_suffix(is_mark).unwrap_or(code);
        let end = begin + code.len();
        if let Some(written) = write(code) {
            self.out.replace_range(begin..end, &written);
        }
    }

    /// Opens a scope after the tag just read, with the same whitespace control towards what
    /// follows.
    fn open_scope(&mut self) {
        let code = self.out.strip_suffix("%}").unwrap_or("");
        let mark = code.chars().next_back().filter(|c| is_mark(*c));
        self.out.push_str("{% with ");
        self.out.extend(mark);
        self.out.push_str("%}");
    }

    /// Rejects reading a macro's extra arguments, which minijinja does not support. They shadow
    /// variables of the same names outside the macro. `at`: where the code's tag begins.
    fn check_rest_names(&mut self, tag: &str, begin: usize, at: usize) -> Result<(), String> {
        let names = tags::rest_names(tag, &self.out[begin..]);
        if tag == "macro" {
            self.rest_names.push([false; 2]);
        }
        // The code of a call tag is evaluated outside of its block.
        let mut own = [false; 2];
        let around = match tag {
            "call" => &mut own,
            _ => self.rest_names.last_mut().unwrap_or(&mut own),
        };
        for (name, sets) in names.sets.iter().enumerate() {
            around[name] |= sets;
        }
        if let Some(known) = self.rest_names.last() {
            for (name, word) in tags::REST_NAMES.iter().enumerate() {
                if names.reads[name] && !known[name] {
                    let line = self.line_of(at);
                    return Err(format!("{word} of a macro can't be read here ({line})"));
                }
            }
        }
        if tag == "call" {
            self.rest_names.push(own);
        }
        Ok(())
    }

    /// minijinja leaves a loop without closing the scopes and captures in it, and accepts a jump in
    /// a loop's else, which is outside the loop, even if there is no loop around it.
    fn check_jump(&self, name: &str) -> Result<(), String> {
        let is_around = |tag: &&str| matches!(*tag, "for" | "macro" | "call" | "block");
        let around = self.open.iter().rposition(|tag| is_around(&tag));
        let inside = &self.open[around.map_or(0, |at| at + 1)..];
        let scope = inside.iter().find(|tag| !matches!(**tag, "if" | LOOP_ELSE));
        let line = self.line();
        match (around.map(|at| self.open[at]), scope) {
            (Some("for"), Some(scope)) => {
                Err(format!("{name} inside of {scope} in a loop can't be read here ({line})"))
            }
            (Some("for"), None) => Ok(()),
            _ if inside.contains(&LOOP_ELSE) => Err(format!("{name} outside of a loop ({line})")),
            _ => Ok(()),
        }
    }

    /// Copies to the end of the tag; returns whether it has a = outside of brackets.
    fn read_code(&mut self, end: &str) -> Result<bool, String> {
        let mut brackets: Vec<Bracket> = Vec::new();
        let mut assigns = false;
        while let Some(c) = self.rest().chars().next() {
            if brackets.is_empty() && self.rest().starts_with(end) {
                self.copy(end.len());
                return Ok(assigns);
            }
            match c {
                '\'' | '"' => {
                    self.read_string(c)?;
                    continue;
                }
                '(' | '[' | '{' => brackets.push(Bracket {
                    kind: c,
                    at: self.out.len(),
                    colons: Vec::new(),
                    has_comma: false,
                    behind_name: c == '[' && ends_with_name(&self.out),
                }),
                ',' => {
                    if let Some(bracket) = brackets.last_mut() {
                        bracket.has_comma = true;
                    }
                }
                ':' => {
                    if let Some(bracket) = brackets.last_mut() {
                        bracket.colons.push(self.out.len());
                    }
                }
                ')' | ']' | '}' => {
                    // Unbalanced, so not a template, as minijinja will report.
                    if let Some(bracket) = brackets.pop() {
                        if c == ']' && bracket.is_slice() && brackets.len() < MAX_NESTING {
                            self.call_slice(&bracket);
                            self.at += 1;
                            continue;
                        }
                    }
                }
                '=' => assigns |= brackets.is_empty(),
                _ => {}
            }
            self.copy(c.len_utf8());
        }
        Ok(assigns)
    }

    /// Turns a bracket's contents, written except for the closing bracket, into a call.
    fn call_slice(&mut self, bracket: &Bracket) {
        let inner = self.out.split_off(bracket.at);
        let mut call = format!(".{SLICE_METHOD}(");
        let mut from = 1;
        let ends = bracket.colons.iter().map(|colon| colon - bracket.at);
        for (index, end) in ends.chain([inner.len()]).enumerate() {
            let part = &inner[from..end];
            call.push_str(if index > 0 { "," } else { "" });
            call.push_str(if part.trim().is_empty() { "none" } else { "" });
            call.push_str(part);
            from = end + 1;
        }
        self.out.push_str(&call);
        self.out.push(')');
    }
}

pub fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn is_mark(c: char) -> bool {
    c == '-' || c == '+'
}

/// The sizes up to the end of `{% raw %}`, and up to that of `{% endraw %}`.
struct RawText {
    begin: usize,
    end: usize,
}

/// None if `source` does not begin with one.
fn raw_text(source: &str) -> Option<RawText> {
    let mut rest = behind_tag(source, "raw")?;
    let begin = source.len() - rest.len();
    loop {
        rest = &rest[rest.find("{%")?..];
        match behind_tag(rest, "endraw") {
            Some(rest) => return Some(RawText { begin, end: source.len() - rest.len() }),
            None => rest = &rest[2..],
        }
    }
}

/// What follows a tag that consists only of its name.
fn behind_tag<'s>(source: &'s str, name: &str) -> Option<&'s str> {
    let inner = source.strip_prefix("{%")?;
    let inner = inner.strip_prefix(is_mark).unwrap_or(inner).trim_ascii_start();
    let inner = inner.strip_prefix(name)?.trim_ascii_start();
    inner.strip_prefix(is_mark).unwrap_or(inner).strip_prefix("%}")
}
