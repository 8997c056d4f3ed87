//! A chat template as minijinja shall read it: what Jinja reads in another way, or minijinja fails
//! on, is written differently. Nothing moves to another line, so that errors name the right one.

use crate::tags;

/// The method that stands for `[start:stop:step]`, see `call_method`. minijinja slices lazily,
/// panics on an empty list taken backwards, and ends such slices elsewhere than Python.
pub const SLICE_METHOD: &str = "__slice";

/// One kind of line end, as Jinja sees any file; `{% generation %}` tags of training templates as
/// plain scopes; slices as calls of `SLICE_METHOD`; escapes in texts as Python reads them; what
/// loops go over as `tags::LOOP_FILTER` gives it. Err says what can't be read.
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
    /// The names of the tags that are open here and have an end.
    open: Vec<&'s str>,
    /// Of every macro and call among them, which of `tags::REST_NAMES` are values of its own.
    rest_names: Vec<[bool; 2]>,
}

/// A bracket that is open: its place in the output, and those of the colons right in it.
struct Bracket {
    kind: char,
    at: usize,
    colons: Vec<usize>,
    has_comma: bool,
    /// Behind the name of a filter or a test, where nothing can be sliced: minijinja will say so.
    behind_name: bool,
}

impl Bracket {
    fn is_slice(&self) -> bool {
        let is_one = !self.has_comma && (1..=2).contains(&self.colons.len());
        self.kind == '[' && is_one && !self.behind_name
    }
}

/// Stands among the open tags for a loop whose else has begun.
const LOOP_ELSE: &str = "else of for";

/// Deeper ones minijinja refuses.
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

    /// The - or + of a tag's begin.
    fn skip_mark(&mut self) {
        if self.rest().starts_with(['-', '+']) {
            self.copy(1);
        }
    }

    /// Jinja keeps the line end behind `{% raw %}`; minijinja would take it away as behind other tags.
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
        // In Jinja what a block of such a tag sets is its own.
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

    /// Writes the code of the tag just read, which begins there in the output, differently.
    fn rewrite_code(&mut self, begin: usize, write: impl Fn(&str) -> Option<String>) {
        let Some(code) = self.out[begin..].strip_suffix("%}") else { return };
        let code = code.strip_suffix(is_mark).unwrap_or(code);
        let end = begin + code.len();
        if let Some(written) = write(code) {
            self.out.replace_range(begin..end, &written);
        }
    }

    /// Begins a scope behind the tag just read, which takes away as much of what follows it.
    fn open_scope(&mut self) {
        let code = self.out.strip_suffix("%}").unwrap_or("");
        let mark = code.chars().next_back().filter(|c| is_mark(*c));
        self.out.push_str("{% with ");
        self.out.extend(mark);
        self.out.push_str("%}");
    }

    /// Refuses to read a macro's further arguments, of which minijinja knows nothing. What is named
    /// like them outside of the macro is hidden by them. `at`: where the code's tag begins.
    fn check_rest_names(&mut self, tag: &str, begin: usize, at: usize) -> Result<(), String> {
        let names = tags::rest_names(tag, &self.out[begin..]);
        if tag == "macro" {
            self.rest_names.push([false; 2]);
        }
        // The code of a call is read outside of it.
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

    /// minijinja leaves a loop without ending the scopes and captures in it, and takes the else of a
    /// loop, which is outside of it, for a place to jump from even where no loop is around.
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

    /// Copies to the end of the tag; whether a = stands in it outside of brackets.
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
                    // Without one this is no template, as minijinja will say.
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

    /// Turns the brackets and all in them, which is written but for the closing one, into a call.
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

/// The bytes to the end of `{% raw %}`, and to that of `{% endraw %}`.
struct RawText {
    begin: usize,
    end: usize,
}

/// None if `source` does not begin with such.
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

/// What follows a tag of no more than its name.
fn behind_tag<'s>(source: &'s str, name: &str) -> Option<&'s str> {
    let inner = source.strip_prefix("{%")?;
    let inner = inner.strip_prefix(is_mark).unwrap_or(inner).trim_ascii_start();
    let inner = inner.strip_prefix(name)?.trim_ascii_start();
    inner.strip_prefix(is_mark).unwrap_or(inner).strip_prefix("%}")
}
