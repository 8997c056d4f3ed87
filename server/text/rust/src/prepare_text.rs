//! String literals in a template's code: minijinja's escapes are JSON's.

use std::fmt::Write;

use crate::prepare::Reader;

/// The position of the closing quote of the string at the beginning of `code`.
pub fn closing_quote(code: &str, quote: char) -> Option<usize> {
    let mut escaped = false;
    let end = code[1..].find(|c: char| {
        let ends = c == quote && !escaped;
        escaped = c == '\\' && !escaped;
        ends
    });
    end.map(|at| 1 + at)
}

impl Reader<'_> {
    pub fn read_string(&mut self, quote: char) -> Result<(), String> {
        // Unterminated, so not a template, as minijinja will report.
        let Some(end) = closing_quote(self.rest(), quote).map(|at| self.at + at) else {
            self.copy_rest();
            return Ok(());
        };
        let mut joined_lines = 0;
        self.copy(1);
        while self.at < end {
            let text = &self.source[self.at..end];
            let Some(behind) = text.strip_prefix('\\') else {
                self.copy(text.find('\\').unwrap_or(text.len()));
                continue;
            };
            joined_lines += usize::from(behind.starts_with('\n'));
            let size =
                self.write_escape(behind).map_err(|what| format!("{what} ({})", self.line()))?;
            self.at += 1 + size;
        }
        self.copy(1);
        (0..joined_lines).for_each(|_| self.out.push('\n'));
        Ok(())
    }

    /// Writes what Python's unicode-escape makes of a backslash and the beginning of `behind`, in a
    /// form that minijinja reads as the same. Returns how many bytes of `behind` belong to it.
    fn write_escape(&mut self, behind: &str) -> Result<usize, String> {
        let Some(c) = behind.chars().next() else { return Ok(0) };
        let digits = match c {
            'x' => 2,
            'u' => 4,
            'U' => 8,
            _ => 0,
        };
        let code = behind
            .get(1..1 + digits)
            .filter(|digits| digits.chars().all(|c| c.is_ascii_hexdigit()))
            .and_then(|digits| u32::from_str_radix(digits, 16).ok());
        match c {
            '\n' => {}
            '\\' | '\'' | '"' | 'b' | 'f' | 'n' | 'r' | 't' => _ = write!(self.out, "\\{c}"),
            'a' => self.out.push_str("\\u0007"),
            'v' => self.out.push_str("\\u000b"),
            '0'..='7' => {
                let is_octal = |c: char| ('0'..='7').contains(&c);
                let size = behind.chars().take(3).take_while(|c| is_octal(*c)).count();
                let code = u32::from_str_radix(&behind[..size], 8).unwrap_or_default();
                _ = write!(self.out, "\\u{code:04x}");
                return Ok(size);
            }
            'x' | 'u' | 'U' => {
                match code {
                    Some(code @ 0..=0xFFFF) => _ = write!(self.out, "\\u{code:04x}"),
                    Some(code) => match char::from_u32(code) {
                        Some(c) => self.out.push(c),
                        None => return Err(format!("\\{c} of a text is beyond Unicode")),
                    },
                    None => return Err(format!("\\{c} of a text needs {digits} digits")),
                }
                return Ok(1 + digits);
            }
            'N' => {
                return Err("\\N of a text can't be read here: write \\u and the code".to_string())
            }
            // Jinja has turned it into an escape by then, and Python reads the two backslashes.
            c if !c.is_ascii() => {
                _ = match c as u32 {
                    code @ 0..=0xFF => write!(self.out, "\\\\x{code:02x}"),
                    code @ 0..=0xFFFF => write!(self.out, "\\\\u{code:04x}"),
                    code => write!(self.out, "\\\\U{code:08x}"),
                }
            }
            c => _ = write!(self.out, "\\\\{c}"),
        }
        Ok(c.len_utf8())
    }
}
