//! The form of content, one text or a list of parts, that a template reads for each role.

use serde_json::{json, Map, Value};

use crate::render_error::is_broken;

type Rendered = Result<String, minijinja::Error>;

const FIRST: &str = "BARAMFIRST";
const SECOND: &str = "BARAMSECOND";
/// A key of the probe's parts: a template that prints a list verbatim prints its keys.
const EXTRA: &str = "BARAMKEY";

/// The forms that a template accepts in one role's messages. One that accepts neither reads only
/// the first part.
#[derive(Clone, Copy)]
struct Form {
    text: bool,
    parts: bool,
}

const TEXT_ALONE: Form = Form { text: true, parts: false };

pub struct ContentForms {
    system: Form,
    assistant: Form,
    tool: Form,
    /// The user's, also used for roles that only this template knows.
    user: Form,
}

impl Default for ContentForms {
    fn default() -> Self {
        Self { system: TEXT_ALONE, assistant: TEXT_ALONE, tool: TEXT_ALONE, user: TEXT_ALONE }
    }
}

impl ContentForms {
    /// Renders two short conversations per role. Err if the template calls undefined functions or
    /// panics, both with a system message and without.
    pub fn probe(render: impl Fn(Value) -> Rendered) -> Result<Self, minijinja::Error> {
        let message = |role: &str, content: Value| json!({"role": role, "content": content});
        let text = render(json!([message("user", json!(FIRST))]));
        let parts = render(json!([message("user", two_parts())]));
        let user = Form::of(&text, &parts).unwrap_or(TEXT_ALONE);
        if let (Err(error), true) = (text, user.text) {
            // Some templates reject a conversation without a system message, through a custom
            // function.
            let system = message("system", json!(SECOND));
            let other = render(json!([system, message("user", json!(FIRST))]));
            if is_broken(&error) && other.is_err_and(|other| is_broken(&other)) {
                return Err(error);
            }
        }
        let asked = message("user", user.wrapped("a"));
        let of_role = |before: &[Value], role: &str, after: &[Value]| {
            let render_as = |content: Value| {
                let mut probed = message(role, content);
                if role == "tool" {
                    probed["tool_call_id"] = "abcdef123".into();
                }
                render(before.iter().chain([&probed]).chain(after).cloned().collect())
            };
            Form::of(&render_as(json!(FIRST)), &render_as(two_parts()))
        };
        let asked = [asked];
        // A role whose messages show in neither form gets the user's.
        let system = of_role(&[], "system", &asked).unwrap_or(user);
        let assistant = of_role(&asked, "assistant", &asked).unwrap_or(user);
        let mut call = message("assistant", assistant.wrapped(""));
        call["tool_calls"] = json!([{
            "id": "abcdef123", "type": "function", "function": {"name": "f", "arguments": {}},
        }]);
        let called = [asked[0].clone(), call];
        let tool = of_role(&called, "tool", &[]).unwrap_or(user);
        Ok(ContentForms { system, assistant, tool, user })
    }

    /// Converts the content to the form that the template reads.
    pub fn fit(&self, message: &mut Map<String, Value>) -> Result<(), String> {
        let form = match message.get("role").and_then(Value::as_str) {
            Some("system" | "developer") => self.system,
            Some("assistant") => self.assistant,
            Some("tool" | "ipython" | "function") => self.tool,
            _ => self.user,
        };
        let Some(content) = message.get_mut("content") else { return Ok(()) };
        match content {
            Value::String(text) => {
                *content = form.wrapped(text);
                Ok(())
            }
            Value::Array(parts) => {
                let texts: Vec<&str> = parts.iter().map(part_text).collect::<Result<_, _>>()?;
                if !form.parts {
                    *content = form.wrapped(&texts.join("\n"));
                }
                Ok(())
            }
            _ => Err("must be a string or an array of parts".to_string()),
        }
    }
}

impl Form {
    /// A template that loops over parts prints both texts, and nothing else of them; one that reads
    /// only parts prints nothing of a text. None if the message shows in neither form.
    fn of(text: &Rendered, parts: &Rendered) -> Option<Self> {
        let prints = |rendered: &Rendered, what| {
            rendered.as_ref().is_ok_and(|prompt: &String| prompt.contains(what))
        };
        let text = prints(text, FIRST);
        let first = prints(parts, FIRST) && !prints(parts, EXTRA);
        let parts = first && prints(parts, SECOND);
        (text || first).then_some(Form { text, parts })
    }

    fn wrapped(self, text: &str) -> Value {
        match self.text {
            true => json!(text),
            false => json!([{"type": "text", "text": text}]),
        }
    }
}

fn two_parts() -> Value {
    json!([
        {"type": "text", "text": FIRST, EXTRA: 1},
        {"type": "text", "text": SECOND, EXTRA: 1},
    ])
}

fn part_text(part: &Value) -> Result<&str, String> {
    let Value::Object(fields) = part else {
        return Err("has a part that is no object".to_string());
    };
    match fields.get("type").and_then(Value::as_str) {
        Some("text") => {}
        Some(other) => {
            return Err(format!("has a part of the type {other:?}; this model reads text"))
        }
        None => return Err("has a part without a type".to_string()),
    }
    fields
        .get("text")
        .and_then(Value::as_str)
        .ok_or_else(|| "has a text part without a text".to_string())
}
