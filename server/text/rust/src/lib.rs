//! The C ABI of `baram_text.h`: takes pointers, returns statuses and owned buffers, and lets no
//! panic out.

mod args;
mod clock;
mod content;
mod copying;
mod dict_view;
mod error;
mod folder;
mod functions;
mod hf_env;
mod iterables;
mod methods;
mod pieces;
mod prepare;
mod prepare_text;
mod python;
mod regex_parts;
mod regexes;
mod render_error;
mod stream;
mod tags;
mod template;
mod template_source;
mod text_filters;
mod texts;
mod tokenizer;

use std::cell::RefCell;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::path::Path;
use std::sync::{Arc, Once};

use error::{Error, Result, Status};
use stream::Stream;
use template::ChatTemplate;
use tokenizer::Tokenizer;

#[repr(C)]
pub struct BaramView {
    data: *const u8,
    size: usize,
}

impl BaramView {
    const EMPTY: BaramView = BaramView { data: std::ptr::null(), size: 0 };

    fn of(bytes: &[u8]) -> Self {
        BaramView { data: bytes.as_ptr(), size: bytes.len() }
    }

    /// # Safety
    /// `data` points to `size` bytes that outlive the use of the result, or `size` is 0.
    unsafe fn bytes<'a>(&self) -> &'a [u8] {
        if self.size == 0 {
            return &[];
        }
        std::slice::from_raw_parts(self.data, self.size)
    }

    /// # Safety
    /// As for `bytes`.
    unsafe fn text<'a>(&self, what: &str) -> Result<&'a str> {
        std::str::from_utf8(self.bytes()).map_err(|error| {
            let at = error.valid_up_to();
            Error::bad_input(format!("The {what} is not valid UTF-8 at byte {at}."))
        })
    }

    /// File names are bytes, not text.
    ///
    /// # Safety
    /// As for `bytes`.
    unsafe fn path<'a>(&self) -> &'a Path {
        Path::new(OsStr::from_bytes(self.bytes()))
    }
}

#[repr(C)]
pub struct BaramBuffer {
    data: *mut u8,
    size: usize,
    capacity: usize,
}

impl BaramBuffer {
    fn of(text: String) -> Self {
        let mut bytes = std::mem::ManuallyDrop::new(text.into_bytes());
        BaramBuffer { data: bytes.as_mut_ptr(), size: bytes.len(), capacity: bytes.capacity() }
    }
}

#[repr(C)]
pub struct BaramIds {
    data: *mut i32,
    size: usize,
    capacity: usize,
}

impl BaramIds {
    fn of(ids: Vec<i32>) -> Self {
        let mut ids = std::mem::ManuallyDrop::new(ids);
        BaramIds { data: ids.as_mut_ptr(), size: ids.len(), capacity: ids.capacity() }
    }
}

thread_local! {
    /// Where this thread last panicked.
    static PLACE: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Panics are reported through statuses, by location only: their messages, which the default hook
/// would print to stderr, may quote a request.
fn silence_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        std::panic::set_hook(Box::new(|panic| {
            let place = panic.location().map_or_else(String::new, |place| place.to_string());
            // For a crate's file, omit the build machine's registry path.
            let crates = place.split_once("/registry/src/").and_then(|(_, at)| at.split_once('/'));
            let place = crates.map_or(place.as_str(), |(_, at)| at).to_string();
            PLACE.with(|last| last.replace(place));
        }));
    });
}

fn guard<T>(body: impl FnOnce() -> Result<T>) -> Result<T> {
    silence_panics();
    catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|_| {
        let place = PLACE.with(|last| last.take());
        Err(Error::new(Status::Panicked, format!("The text library failed at {place}.")))
    })
}

/// Runs `body` and stores its value, or its error's text.
unsafe fn report<T>(
    body: impl FnOnce() -> Result<T>,
    store: impl FnOnce(T),
    error: *mut BaramBuffer,
) -> i32 {
    match guard(body) {
        Ok(value) => {
            store(value);
            Status::Ok as i32
        }
        Err(failure) => {
            *error = BaramBuffer::of(failure.shown());
            failure.status as i32
        }
    }
}

/// For functions without a status: what they return if a panic ever reaches them.
fn or_else<T>(fallback: T, body: impl FnOnce() -> T) -> T {
    guard(|| Ok(body())).unwrap_or(fallback)
}

// Safety of every function: pointers come from this library or point to memory that the caller
// keeps valid during the call, as baram_text.h requires.

#[no_mangle]
pub unsafe extern "C" fn baram_buffer_free(buffer: BaramBuffer) {
    if !buffer.data.is_null() {
        drop(Vec::from_raw_parts(buffer.data, buffer.size, buffer.capacity));
    }
}

#[no_mangle]
pub unsafe extern "C" fn baram_ids_free(ids: BaramIds) {
    if !ids.data.is_null() {
        drop(Vec::from_raw_parts(ids.data, ids.size, ids.capacity));
    }
}

/// The caller's pointer counts as one reference: streams keep the tokenizer alive.
#[no_mangle]
pub unsafe extern "C" fn baram_tokenizer_load(
    folder: BaramView,
    out: *mut *const Tokenizer,
    error: *mut BaramBuffer,
) -> i32 {
    let body = || Tokenizer::load(folder.path());
    report(body, |tokenizer| *out = Arc::into_raw(Arc::new(tokenizer)), error)
}

#[no_mangle]
pub unsafe extern "C" fn baram_tokenizer_free(tokenizer: *const Tokenizer) {
    or_else((), || drop(Arc::from_raw(tokenizer)));
}

#[no_mangle]
pub unsafe extern "C" fn baram_tokenizer_vocab_size(tokenizer: *const Tokenizer) -> i32 {
    (*tokenizer).vocab_size()
}

#[no_mangle]
pub unsafe extern "C" fn baram_tokenizer_eos_id(tokenizer: *const Tokenizer) -> i32 {
    or_else(-1, || (*tokenizer).named_id("eos_token").unwrap_or(-1))
}

#[no_mangle]
pub unsafe extern "C" fn baram_tokenizer_encode(
    tokenizer: *const Tokenizer,
    text: BaramView,
    add_special_tokens: i32,
    max_bytes: usize,
    out: *mut BaramIds,
    error: *mut BaramBuffer,
) -> i32 {
    let body = || (*tokenizer).encode(text.text("text")?, add_special_tokens != 0, max_bytes);
    report(body, |ids| *out = BaramIds::of(ids), error)
}

#[no_mangle]
pub unsafe extern "C" fn baram_tokenizer_decode(
    tokenizer: *const Tokenizer,
    ids: *const i32,
    count: usize,
    skip_special_tokens: i32,
    out: *mut BaramBuffer,
) -> i32 {
    let body = || {
        let ids = if count == 0 { &[] } else { std::slice::from_raw_parts(ids, count) };
        (*tokenizer).decode(ids, skip_special_tokens != 0)
    };
    report(body, |text| *out = BaramBuffer::of(text), out)
}

#[no_mangle]
pub unsafe extern "C" fn baram_tokenizer_token_bytes(
    tokenizer: *const Tokenizer,
    id: i32,
) -> BaramView {
    or_else(BaramView::EMPTY, || BaramView::of((*tokenizer).pieces().bytes(id)))
}

#[no_mangle]
pub unsafe extern "C" fn baram_tokenizer_is_special(tokenizer: *const Tokenizer, id: i32) -> i32 {
    or_else(0, || i32::from((*tokenizer).pieces().is_special(id)))
}

#[no_mangle]
pub unsafe extern "C" fn baram_tokenizer_token_text(
    tokenizer: *const Tokenizer,
    id: i32,
) -> BaramBuffer {
    let text = or_else(String::new(), || (*tokenizer).token_text(id));
    BaramBuffer::of(text)
}

#[no_mangle]
pub unsafe extern "C" fn baram_tokenizer_token_to_id(
    tokenizer: *const Tokenizer,
    token: BaramView,
) -> i32 {
    or_else(-1, || match token.text("token") {
        Ok(token) => (*tokenizer).token_to_id(token).unwrap_or(-1),
        Err(_) => -1,
    })
}

#[no_mangle]
pub unsafe extern "C" fn baram_stream_new(
    tokenizer: *const Tokenizer,
    skip_special_tokens: i32,
) -> *mut Stream {
    Arc::increment_strong_count(tokenizer);
    let stream = Stream::new(Arc::from_raw(tokenizer), skip_special_tokens != 0);
    Box::into_raw(Box::new(stream))
}

#[no_mangle]
pub unsafe extern "C" fn baram_stream_free(stream: *mut Stream) {
    or_else((), || drop(Box::from_raw(stream)));
}

#[no_mangle]
pub unsafe extern "C" fn baram_stream_follow(
    stream: *mut Stream,
    prompt: *const i32,
    count: usize,
) {
    let ids = if count == 0 { &[] } else { std::slice::from_raw_parts(prompt, count) };
    or_else((), || (*stream).follow(ids));
}

#[no_mangle]
pub unsafe extern "C" fn baram_stream_step(stream: *mut Stream, id: i32) -> BaramView {
    or_else(BaramView::EMPTY, || BaramView::of((*stream).step(id).as_bytes()))
}

#[no_mangle]
pub unsafe extern "C" fn baram_stream_end(stream: *mut Stream) -> BaramView {
    or_else(BaramView::EMPTY, || BaramView::of((*stream).end().as_bytes()))
}

#[no_mangle]
pub unsafe extern "C" fn baram_template_load(
    tokenizer: *const Tokenizer,
    folder: BaramView,
    override_path: BaramView,
    out: *mut *mut ChatTemplate,
    error: *mut BaramBuffer,
) -> i32 {
    let body = || ChatTemplate::load(&*tokenizer, folder.path(), override_path.path());
    report(body, |template| *out = Box::into_raw(Box::new(template)), error)
}

#[no_mangle]
pub unsafe extern "C" fn baram_template_free(chat_template: *mut ChatTemplate) {
    or_else((), || drop(Box::from_raw(chat_template)));
}

#[no_mangle]
pub unsafe extern "C" fn baram_template_reads(
    chat_template: *const ChatTemplate,
    name: BaramView,
) -> i32 {
    or_else(0, || {
        name.text("variable's name").is_ok_and(|name| (*chat_template).reads(name)) as i32
    })
}

#[no_mangle]
pub unsafe extern "C" fn baram_template_render(
    chat_template: *const ChatTemplate,
    messages: BaramView,
    arguments: BaramView,
    add_generation_prompt: i32,
    continue_final_message: i32,
    max_output_bytes: usize,
    out: *mut BaramBuffer,
) -> i32 {
    let body = || {
        (*chat_template).render(
            messages.text("conversation")?,
            arguments.text("template arguments")?,
            add_generation_prompt != 0,
            continue_final_message != 0,
            max_output_bytes,
        )
    };
    report(body, |text| *out = BaramBuffer::of(text), out)
}
