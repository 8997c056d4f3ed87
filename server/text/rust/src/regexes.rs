//! Rewrites a regular expression for Oniguruma as one for fancy-regex. What remains different: case
//! that is ignored makes no two letters of one (`(?i:ss)` and ß), and `\G` does not match after a
//! match of nothing. fancy-regex rejects what only Oniguruma knows, such as `\R` and `\X`.

use std::borrow::Cow;

/// Oniguruma's `\w` in a class and `[:word:]`; outside of classes it has `LATIN_WORD` as well.
const WORD: &str = r"\p{Alphabetic}\p{M}\p{Nd}\p{Pc}";
const LATIN_WORD: &str = "²³¹¼½¾";

/// The longest of real ones have about two thousand; rewriting takes the square of it.
const MAX_BYTES: usize = 64 << 10;

/// An expression that means to fancy-regex what `pattern` means to Oniguruma.
pub fn translate(pattern: &str) -> Result<Cow<'_, str>, String> {
    if pattern.len() > MAX_BYTES {
        return Err(format!("it has more than {MAX_BYTES} bytes"));
    }
    let mut reader = Reader {
        rest: pattern,
        out: String::with_capacity(pattern.len()),
        groups: vec![Group { at: 0, closes: 0, ignores_case: false }],
        atom: None,
        is_repeated: false,
        ignores_case: false,
        is_spaced: false,
    };
    reader.read()?;
    match reader.out == pattern || reader.is_spaced {
        true => Ok(Cow::Borrowed(pattern)),
        false => Ok(Cow::Owned(reader.out)),
    }
}

/// An open group, or the whole expression.
struct Group {
    /// Where it begins in the output.
    at: usize,
    /// How many brackets close it: more if flags were set within it.
    closes: usize,
    /// Whether case is ignored around it.
    ignores_case: bool,
}

struct Reader<'p> {
    rest: &'p str,
    out: String,
    groups: Vec<Group>,
    /// Where in the output that begins which a repetition would repeat.
    atom: Option<usize>,
    is_repeated: bool,
    ignores_case: bool,
    /// Whether whitespace is ignored somewhere: such an expression is left as it is.
    is_spaced: bool,
}

impl Reader<'_> {
    fn read(&mut self) -> Result<(), String> {
        while let Some(c) = self.rest.chars().next() {
            match c {
                '\\' => self.read_escape(),
                '[' => {
                    self.begin_atom();
                    self.read_class()?;
                }
                '(' => self.open_group(),
                ')' => self.close_group(),
                // In Oniguruma they are always those of a line.
                '^' | '$' => {
                    self.skip(1);
                    self.out.push_str(if c == '^' { "(?m:^)" } else { "(?m:$)" });
                    self.atom = None;
                }
                '|' => {
                    self.copy(1);
                    self.atom = None;
                }
                '?' | '*' | '+' | '{' => self.read_repetition(c),
                c => {
                    self.begin_atom();
                    self.copy(c.len_utf8());
                }
            }
        }
        let closes = self.groups[0].closes;
        (0..closes).for_each(|_| self.out.push(')'));
        Ok(())
    }

    fn skip(&mut self, bytes: usize) {
        self.rest = &self.rest[bytes..];
    }

    fn copy(&mut self, bytes: usize) {
        self.out.push_str(&self.rest[..bytes]);
        self.skip(bytes);
    }

    /// Copies up to and including `end`, or all of the rest.
    fn copy_through(&mut self, end: char) {
        let size = self.rest.find(end).map_or(self.rest.len(), |at| at + end.len_utf8());
        self.copy(size);
    }

    /// Copies at most so many.
    fn copy_hex_digits(&mut self, most: usize) {
        let is_hex = |byte: &u8| byte.is_ascii_hexdigit();
        self.copy(self.rest.bytes().take(most).take_while(is_hex).count());
    }

    fn begin_atom(&mut self) {
        self.atom = Some(self.out.len());
        self.is_repeated = false;
    }

    /// `X{2,3}+` repeats `X{2,3}`; to fancy-regex the + means that it does not backtrack.
    fn read_repetition(&mut self, c: char) {
        let size = match c {
            '{' => interval_size(self.rest),
            _ => Some(1),
        };
        let Some(size) = size else {
            // Not a repetition.
            self.begin_atom();
            self.skip(1);
            self.out.push_str("\\{");
            return;
        };
        if let (Some(at), true) = (self.atom, self.is_repeated) {
            self.out.insert_str(at, "(?:");
            self.out.push(')');
        }
        self.copy(size);
        match self.rest.chars().next() {
            Some('?') => self.copy(1),
            Some('+') if c != '{' => self.copy(1),
            _ => {}
        }
        self.is_repeated = true;
    }

    fn read_escape(&mut self) {
        self.begin_atom();
        let Some(c) = self.rest[1..].chars().next() else { return self.copy(1) };
        let word = format!("[{WORD}{LATIN_WORD}]");
        let written = match c {
            'w' => word,
            'W' => format!("[^{WORD}{LATIN_WORD}]"),
            'b' => format!("(?:(?<={word})(?!{word})|(?<!{word})(?={word}))"),
            'B' => format!("(?:(?<={word})(?={word})|(?<!{word})(?!{word}))"),
            'Z' => r"(?=\n?\z)".to_string(),
            '<' | '>' => c.to_string(),
            'p' | 'P' => match self.read_property() {
                written if self.ignores_case && written.starts_with('\\') => {
                    self.out.push_str(&format!("(?-i:{written})"));
                    return;
                }
                written => {
                    self.out.push_str(&written);
                    return;
                }
            },
            _ => return self.copy_escape(c),
        };
        self.skip(2);
        self.out.push_str(&written);
    }

    /// Copies an escape with all that belongs to it, which a repetition would repeat.
    fn copy_escape(&mut self, c: char) {
        self.copy(1 + c.len_utf8());
        match c {
            'x' if self.rest.starts_with('{') => self.copy_through('}'),
            'x' => self.copy_hex_digits(2),
            'u' => self.copy_hex_digits(4),
            'k' | 'g' if self.rest.starts_with('<') => self.copy_through('>'),
            '0'..='9' => self.copy(self.rest.bytes().take_while(u8::is_ascii_digit).count()),
            _ => {}
        }
    }

    /// What `\p` or `\P` means here; skips it.
    fn read_property(&mut self) -> String {
        let is_negated = self.rest[1..].starts_with('P');
        self.skip(2);
        let end = self.rest.find('}').filter(|_| self.rest.starts_with('{'));
        // Without a name in braces it is the letter.
        let Some(end) = end else { return if is_negated { "P" } else { "p" }.to_string() };
        let name = &self.rest[1..end];
        self.skip(end + 1);
        let (name, flips) = match name.strip_prefix('^') {
            Some(name) => (name, true),
            None => (name, false),
        };
        let kind = if is_negated != flips { 'P' } else { 'p' };
        format!("\\{kind}{{{name}}}")
    }

    /// Copies a class with those nested in it.
    fn read_class(&mut self) -> Result<(), String> {
        let mut depth = 0;
        while let Some(c) = self.rest.chars().next() {
            match c {
                '[' => {
                    if let Some(named) = named_class(self.rest) {
                        self.out.push_str(&named.written);
                        self.skip(named.size);
                        continue;
                    }
                    depth += 1;
                    self.copy(1);
                    if self.rest.starts_with('^') {
                        self.copy(1);
                    }
                    if self.rest.starts_with(']') {
                        self.out.push('\\');
                        self.copy(1);
                    }
                }
                ']' => {
                    depth -= 1;
                    self.copy(1);
                    if depth == 0 {
                        return Ok(());
                    }
                }
                '\\' => match self.rest[1..].chars().next() {
                    Some(c @ ('w' | 'W')) => {
                        self.skip(2);
                        let negation = if c == 'W' { "^" } else { "" };
                        self.out.push_str(&format!("[{negation}{WORD}]"));
                    }
                    Some('p' | 'P') => {
                        let written = self.read_property();
                        self.out.push_str(&written);
                    }
                    Some('k' | 'g') => self.copy(2),
                    Some(c) => self.copy_escape(c),
                    None => self.copy(1),
                },
                // fancy-regex subtracts classes.
                '-' if self.rest.starts_with("--") => {
                    return Err("-- in a class can't be read here; write \\-".to_string());
                }
                '~' if self.rest.starts_with("~~") => {
                    self.out.push('\\');
                    self.copy(1);
                }
                c => self.copy(c.len_utf8()),
            }
        }
        Ok(())
    }

    fn open_group(&mut self) {
        let Some(kind) = self.rest.strip_prefix("(?") else {
            self.push_group(1);
            return;
        };
        if kind.starts_with('#') {
            return self.copy_through(')');
        }
        let is_flag = |c: char| c.is_ascii_alphabetic() || c == '-';
        let size = kind.find(|c| !is_flag(c)).unwrap_or(kind.len());
        let (flags, behind) = kind.split_at(size);
        let ends_with_group = match behind.chars().next() {
            Some(':') => true,
            Some(')') if !flags.is_empty() => false,
            _ => {
                // A look-around, or a group that is named or atomic.
                let name_size = match kind.as_bytes() {
                    [b'<', b'=' | b'!', ..] => 2,
                    [b'<', ..] => kind.find('>').map_or(1, |at| at + 1),
                    [_, ..] => 1,
                    [] => 0,
                };
                self.push_group(2 + name_size.min(kind.len()));
                return;
            }
        };
        let (set, unset) = flags.split_once('-').unwrap_or((flags, ""));
        self.is_spaced |= set.contains('x');
        // In Oniguruma m is for what the dot matches.
        let written = flags.replace('m', "s");
        let was_ignoring = self.ignores_case;
        if set.contains('i') || unset.contains('i') {
            self.ignores_case = set.contains('i');
        }
        if ends_with_group {
            let at = self.out.len();
            self.groups.push(Group { at, closes: 1, ignores_case: was_ignoring });
        } else if let Some(around) = self.groups.last_mut() {
            // The flags apply up to the end of the group around them, all its alternatives included.
            around.closes += 1;
        }
        self.skip(2 + size + 1);
        self.out.push_str(&format!("(?{written}:"));
        self.atom = None;
    }

    /// Copies what opens a group.
    fn push_group(&mut self, bytes: usize) {
        let at = self.out.len();
        self.groups.push(Group { at, closes: 1, ignores_case: self.ignores_case });
        let end = (bytes..=self.rest.len()).find(|end| self.rest.is_char_boundary(*end));
        self.copy(end.unwrap_or(self.rest.len()));
        self.atom = None;
    }

    fn close_group(&mut self) {
        self.skip(1);
        // An unmatched bracket is an error there and here.
        let group = if self.groups.len() > 1 { self.groups.pop() } else { None };
        let Some(group) = group else { return self.out.push(')') };
        (0..group.closes).for_each(|_| self.out.push(')'));
        self.ignores_case = group.ignores_case;
        self.atom = Some(group.at);
        self.is_repeated = false;
    }
}

/// The size of `{2,3}`, `{2,}`, `{,3}` or `{2}` at the beginning of `text`.
fn interval_size(text: &str) -> Option<usize> {
    let end = text.find('}')?;
    let (least, most) = text[1..end].split_once(',').unwrap_or((&text[1..end], ""));
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let is_interval = is_number(least) && is_number(most) && !(least.is_empty() && most.is_empty());
    is_interval.then_some(end + 1)
}

struct NamedClass {
    size: usize,
    written: String,
}

/// `[:punct:]` and the like at the beginning of `text`: Unicode's, where fancy-regex has ASCII's.
fn named_class(text: &str) -> Option<NamedClass> {
    let name = text.strip_prefix("[:")?;
    let name = &name[..name.find(":]")?];
    let (bare, negation) = match name.strip_prefix('^') {
        Some(bare) => (bare, "^"),
        None => (name, ""),
    };
    let set = match bare {
        "alnum" => r"\p{Alphabetic}\p{Nd}",
        "alpha" => r"\p{Alphabetic}",
        "ascii" => r"\x00-\x7F",
        "blank" => r"\p{Zs}\t",
        "cntrl" => r"\p{Cc}",
        "digit" => r"\p{Nd}",
        "graph" => r"\P{Cn}&&[^\s\p{Cc}]",
        "lower" => r"\p{Lowercase}",
        "print" => r"\P{Cn}&&[^\p{Cc}\p{Zl}\p{Zp}]",
        "punct" => r"\p{P}\p{S}",
        "space" => r"\s",
        "upper" => r"\p{Uppercase}",
        "word" => WORD,
        "xdigit" => r"0-9A-Fa-f",
        _ => return None,
    };
    Some(NamedClass { size: name.len() + 4, written: format!("[{negation}{set}]") })
}
