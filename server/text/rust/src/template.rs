//! A model folder's chat template: compiled, and rendered for a conversation.

use std::collections::HashSet;
use std::io::Write;
use std::path::Path;

use minijinja::value::Serde;
use minijinja::{Environment, ErrorKind};
use serde_json::{Map, Value};

use crate::content::ContentForms;
use crate::copying;
use crate::error::{Error, Result, Status};
use crate::guard;
use crate::hf_env::new_environment;
use crate::prepare::prepare_source;
use crate::render_error::{describe, render_error, too_long, Panic};
use crate::template_source::find_source;
use crate::tokenizer::Tokenizer;

const NAME: &str = "chat template";

/// Everything that traverses the parsed template, from parsing to dropping it, recurses for each
/// link of a chain such as `a.b.c`: about 400 bytes of stack per byte of source.
const COMPILE_STACK_BYTES: usize = 128 << 20;

/// Appended to the last message to find its end in the prompt. The space is part of it: a template
/// that trims messages removes the space, and so reveals that it trims.
const CONTINUE_TAG: &str = "BARAM_CONTINUES_THE_LAST_MESSAGE_HERE ";

/// The tag, and what a template writes behind the last message.
const MAX_CUT_BYTES: usize = 1 << 10;

/// Separate request fields, never template arguments.
const RESERVED: [&str; 3] = ["messages", "add_generation_prompt", "continue_final_message"];

/// The names under which a message's reasoning is passed; templates read the first.
const REASONING: [&str; 3] = ["reasoning_content", "thinking", "reasoning"];

/// Limits the prompt of one short message, rendered at load to see how the template reads it.
const PROBE_MAX_BYTES: usize = 1 << 20;

pub struct ChatTemplate {
    env: Environment<'static>,
    /// As found in the folder.
    source: String,
    /// bos_token and the like.
    variables: Map<String, Value>,
    /// Variables that the template reads before setting them.
    undeclared: HashSet<String>,
    forms: ContentForms,
    /// Whether it mentions that role.
    knows_developers: bool,
}

impl ChatTemplate {
    pub fn load(tokenizer: &Tokenizer, folder: &Path, override_path: &Path) -> Result<Self> {
        let (origin, source) = find_source(folder, override_path)?;
        let shown = |error: minijinja::Error| {
            Error::bad_file(format!("The chat template of {origin} is wrong: {}", describe(&error)))
        };
        let (env, undeclared) =
            on_deep_stack(|| compile(&source).map_err(shown)).map_err(|error| {
                match error.status {
                    Status::Panicked => Error::bad_file(format!(
                        "The chat template of {origin} can't be compiled. {}",
                        error.message
                    )),
                    _ => error,
                }
            })?;
        let variables = tokenizer
            .named()
            .iter()
            .map(|(name, text)| (name.clone(), Value::from(text.as_str())))
            .collect();
        let knows_developers =
            ["'developer'", "\"developer\""].iter().any(|role| source.contains(role));
        let mut template = ChatTemplate {
            env,
            source,
            variables,
            undeclared,
            forms: ContentForms::default(),
            knows_developers,
        };
        template.forms =
            ContentForms::probe(|messages| template.render_probe(messages)).map_err(shown)?;
        Ok(template)
    }

    /// Whether the template reads the variable `name` before it sets it.
    pub fn reads(&self, name: &str) -> bool {
        self.undeclared.contains(name) || sets_from_itself(&self.source, name)
    }

    /// `messages` is a JSON array, `arguments` a JSON object or empty.
    pub fn render(
        &self,
        messages: &str,
        arguments: &str,
        add_generation_prompt: bool,
        continue_final_message: bool,
        max_output_bytes: usize,
    ) -> Result<String> {
        if add_generation_prompt && continue_final_message {
            return Err(Error::bad_input(
                "add_generation_prompt and continue_final_message exclude each other.",
            ));
        }
        let arguments = parse_arguments(arguments)?;
        let mut messages = parse_messages(messages)?;
        for (index, message) in messages.iter_mut().enumerate() {
            if !self.knows_developers {
                rename_developer(message);
            }
            name_reasoning(message);
            self.forms.fit(message).map_err(|what| {
                Error::bad_input(format!("The content of message {index} {what}."))
            })?;
        }
        let continued = match continue_final_message {
            true => Some(tag_final_message(&mut messages)?),
            false => None,
        };
        let mut context = self.variables.clone();
        context
            .extend([("tools".to_string(), Value::Null), ("documents".to_string(), Value::Null)]);
        context.extend(arguments);
        context.insert("messages".to_string(), messages.into_iter().map(Value::Object).collect());
        context.insert("add_generation_prompt".to_string(), add_generation_prompt.into());
        let cut_bytes = if continue_final_message { MAX_CUT_BYTES } else { 0 };
        let prompt = self
            .render_context(context, max_output_bytes.saturating_add(cut_bytes))
            .map_err(|error| render_error(&error, max_output_bytes))?;
        let prompt = match continued {
            Some(text) => cut_at_tag(prompt, &text)?,
            None => prompt,
        };
        match prompt.len() > max_output_bytes {
            true => Err(too_long(max_output_bytes)),
            false => Ok(prompt),
        }
    }

    /// Renders a short conversation to see how the template reads it.
    fn render_probe(&self, messages: Value) -> std::result::Result<String, minijinja::Error> {
        let mut context = self.variables.clone();
        context.extend([
            ("tools".to_string(), Value::Null),
            ("documents".to_string(), Value::Null),
            ("messages".to_string(), messages),
            ("add_generation_prompt".to_string(), Value::Bool(true)),
        ]);
        self.render_context(context, PROBE_MAX_BYTES)
    }

    fn render_context(
        &self,
        context: Map<String, Value>,
        max_bytes: usize,
    ) -> std::result::Result<String, minijinja::Error> {
        copying::begin(max_bytes);
        let mut out = CappedOutput { bytes: Vec::new(), left: max_bytes };
        let context = minijinja::Value::from(Serde(Value::Object(context)));
        let template = self.env.get_template(NAME)?;
        // If minijinja panics, the cause is in the template, or in what it makes of this
        // conversation: not a server error.
        guard(|| Ok(template.render_captured_to(context, &mut out).map(drop))).unwrap_or_else(
            |panic| {
                let what = panic.message.trim_end_matches('.').replacen("The", "the", 1);
                let error = minijinja::Error::new(ErrorKind::InvalidOperation, what);
                Err(error.with_source(Panic))
            },
        )?;
        // Templates and contexts are UTF-8, so their output is.
        String::from_utf8(out.bytes)
            .map_err(|_| minijinja::Error::new(ErrorKind::InvalidOperation, "it printed bad UTF-8"))
    }
}

/// The environment with the template in it, and the variables that the template reads.
fn compile(
    source: &str,
) -> std::result::Result<(Environment<'static>, HashSet<String>), minijinja::Error> {
    let mut env = new_environment()?;
    let source = prepare_source(source)
        .map_err(|what| minijinja::Error::new(ErrorKind::SyntaxError, what))?;
    env.add_template_owned(NAME, source)?;
    let undeclared = env.get_template(NAME)?.undeclared_variables(false);
    Ok((env, undeclared))
}

fn on_deep_stack<T: Send>(body: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .stack_size(COMPILE_STACK_BYTES)
            .spawn_scoped(scope, || guard(body))
            .map_err(|error| {
                let message = format!("No thread for the chat template: {error}.");
                Error::new(Status::NoThread, message)
            })?;
        thread.join().expect("guard lets no panic past")
    })
}

fn parse_messages(json: &str) -> Result<Vec<Map<String, Value>>> {
    let wrong = || Error::bad_input("The messages must be a JSON array of objects.");
    let value: Value = serde_json::from_str(json)
        .map_err(|error| Error::bad_input(format!("The messages are not JSON: {error}.")))?;
    let Value::Array(messages) = value else { return Err(wrong()) };
    if messages.is_empty() {
        return Err(Error::bad_input("The conversation is empty; give at least one message."));
    }
    messages
        .into_iter()
        .map(|message| match message {
            // Clients send "content": null and the like; templates expect such keys to be missing.
            Value::Object(message) => {
                Ok(message.into_iter().filter(|(_, value)| !value.is_null()).collect())
            }
            _ => Err(wrong()),
        })
        .collect()
}

/// Whether a tag sets `name` to something made of `name`, as `set x = x | default(1)` does:
/// undeclared_variables considers the name set before it looks at the value. The name in a string
/// counts as well: a false positive is harmless.
fn sets_from_itself(source: &str, name: &str) -> bool {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    source.split("{%").skip(1).any(|rest| {
        let tag = rest.split("%}").next().unwrap_or(rest);
        let mut uses = 0;
        let mut is_set = false;
        for (at, _) in tag.match_indices(name) {
            let behind = &tag[at + name.len()..];
            let before = tag[..at].chars().next_back();
            if before.is_some_and(|c| c == '.' || is_word(c)) || behind.starts_with(is_word) {
                continue;
            }
            uses += 1;
            let behind = behind.trim_start();
            is_set |= behind.starts_with('=') && !behind.starts_with("==");
        }
        is_set && uses > 1
    })
}

fn parse_arguments(json: &str) -> Result<Map<String, Value>> {
    if json.is_empty() {
        return Ok(Map::new());
    }
    let value: Value = serde_json::from_str(json).map_err(|error| {
        Error::bad_arguments(format!("The template arguments are not JSON: {error}."))
    })?;
    let Value::Object(arguments) = value else {
        return Err(Error::bad_arguments("The template arguments must be a JSON object."));
    };
    match RESERVED.iter().find(|name| arguments.contains_key(**name)) {
        Some(name) => Err(Error::bad_arguments(format!(
            "{name} is a field of the request and can't be a template argument."
        ))),
        None => Ok(arguments),
    }
}

/// OpenAI's name for the system role since its reasoning models. Templates that do not know it drop
/// the message, or reject it.
fn rename_developer(message: &mut Map<String, Value>) {
    if let Some(role) = message.get_mut("role").filter(|role| *role == "developer") {
        *role = "system".into();
    }
}

/// Stores a message's reasoning under the names that templates know, whichever name it came under.
fn name_reasoning(message: &mut Map<String, Value>) {
    let given = REASONING.iter().find_map(|name| message.get(*name));
    if let Some(reasoning) = given.cloned() {
        let thinking = message.shift_remove("thinking").unwrap_or_else(|| reasoning.clone());
        message.shift_insert(0, "thinking".to_string(), thinking);
        message.insert(REASONING[0].to_string(), reasoning);
    }
}

/// Marks the end of the last message's text and returns that text.
fn tag_final_message(messages: &mut [Map<String, Value>]) -> Result<String> {
    let nothing =
        || Error::bad_input("continue_final_message needs a last message with text to continue.");
    let content = messages.last_mut().and_then(|message| message.get_mut("content"));
    let text = match content.ok_or_else(nothing)? {
        Value::Array(parts) => {
            parts.iter_mut().rev().find_map(|part| part.get_mut("text")).ok_or_else(nothing)?
        }
        text => text,
    };
    let Value::String(text) = text else { return Err(nothing()) };
    let original = text.clone();
    text.push_str(CONTINUE_TAG);
    Ok(original)
}

fn cut_at_tag(mut prompt: String, text: &str) -> Result<String> {
    let at = prompt.rfind(CONTINUE_TAG.trim_end());
    match at.filter(|_| prompt.contains(text.trim_matches(crate::python::is_space))) {
        Some(at) => {
            let preserved = prompt[at..].starts_with(CONTINUE_TAG);
            prompt.truncate(at);
            if !preserved {
                prompt.truncate(prompt.trim_end_matches(crate::python::is_space).len());
            }
            Ok(prompt)
        }
        None => Err(Error::bad_input(
            "The chat template drops the last message, so it can't be continued.",
        )),
    }
}

struct CappedOutput {
    bytes: Vec<u8>,
    left: usize,
}

impl Write for CappedOutput {
    fn write(&mut self, data: &[u8]) -> std::io::Result<usize> {
        if data.len() > self.left {
            return Err(std::io::Error::other("the output is too long"));
        }
        self.left -= data.len();
        self.bytes.extend_from_slice(data);
        Ok(data.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
