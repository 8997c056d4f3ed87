// The C ABI of the text library. All functions are safe to call with hostile bytes; a panic inside
// becomes BARAM_TEXT_PANICKED. A model's files, but never a request, can still end the process in
// two ways: a chat template is bounded in steps, but not in memory or in how deep it nests values,
// and a tokenizer's replacements may make a short text arbitrarily long. Free each object exactly
// once, with its _free function.
#ifndef BARAM_TEXT_H_
#define BARAM_TEXT_H_

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct BaramTokenizer BaramTokenizer;  // immutable, shared between threads
typedef struct BaramTemplate BaramTemplate;    // immutable, shared between threads
typedef struct BaramStream BaramStream;        // one owner; keeps its tokenizer alive

enum {
  BARAM_TEXT_OK = 0,
  BARAM_TEXT_NOT_FOUND = 1,      // a file that must exist does not
  BARAM_TEXT_BAD_FILE = 2,       // a file of the model folder is unusable
  BARAM_TEXT_BAD_INPUT = 3,      // the request's text or messages are invalid
  BARAM_TEXT_BAD_ARGUMENTS = 4,  // the template's arguments are invalid
  BARAM_TEXT_RAISED = 5,         // the template called raise_exception; the text is its message
  BARAM_TEXT_TOO_LARGE = 6,      // a limit on bytes or on work was exceeded
  BARAM_TEXT_PANICKED = 7,       // a bug in the library
  BARAM_TEXT_NO_THREAD = 8,      // the system can't create a thread
  BARAM_TEXT_DENIED = 9,         // a file may not be read
};

// A view of bytes that the caller owns.
typedef struct BaramView {
  const char* data;
  size_t size;
} BaramView;

// Owned bytes; free with baram_buffer_free. After a status other than OK they are the error's text.
typedef struct BaramBuffer {
  char* data;
  size_t size;
  size_t capacity;
} BaramBuffer;

// Owned token ids; free with baram_ids_free.
typedef struct BaramIds {
  int32_t* data;
  size_t size;
  size_t capacity;
} BaramIds;

void baram_buffer_free(BaramBuffer buffer);
void baram_ids_free(BaramIds ids);

// `error` is written only when the status is not OK.
int32_t baram_tokenizer_load(BaramView folder, BaramTokenizer** out, BaramBuffer* error);
void baram_tokenizer_free(BaramTokenizer* tokenizer);

// One more than the largest id.
int32_t baram_tokenizer_vocab_size(const BaramTokenizer* tokenizer);
// -1 if the folder names none.
int32_t baram_tokenizer_eos_id(const BaramTokenizer* tokenizer);

int32_t baram_tokenizer_encode(const BaramTokenizer* tokenizer, BaramView text,
                               int32_t add_special_tokens, size_t max_bytes, BaramIds* out,
                               BaramBuffer* error);
// `out` receives the text, or the error's text.
int32_t baram_tokenizer_decode(const BaramTokenizer* tokenizer, const int32_t* ids, size_t count,
                               int32_t skip_special_tokens, BaramBuffer* out);

// The bytes live as long as the tokenizer; empty for an id without a token.
BaramView baram_tokenizer_token_bytes(const BaramTokenizer* tokenizer, int32_t id);
// Whether decoding may omit it.
int32_t baram_tokenizer_is_special(const BaramTokenizer* tokenizer, int32_t id);
BaramBuffer baram_tokenizer_token_text(const BaramTokenizer* tokenizer, int32_t id);
// -1 if there is no such token.
int32_t baram_tokenizer_token_to_id(const BaramTokenizer* tokenizer, BaramView token);

BaramStream* baram_stream_new(const BaramTokenizer* tokenizer, int32_t skip_special_tokens);
void baram_stream_free(BaramStream* stream);
// Before the first step of a reply: it continues `prompt`, whose own text is not returned.
void baram_stream_follow(BaramStream* stream, const int32_t* prompt, size_t count);
// The text lives until the next call on this stream.
BaramView baram_stream_step(BaramStream* stream, int32_t id);
BaramView baram_stream_end(BaramStream* stream);

// `override_path` may be empty.
int32_t baram_template_load(const BaramTokenizer* tokenizer, BaramView folder,
                            BaramView override_path, BaramTemplate** out, BaramBuffer* error);
void baram_template_free(BaramTemplate* chat_template);
int32_t baram_template_reads(const BaramTemplate* chat_template, BaramView name);
// `out` receives the prompt, or the error's text. `arguments` may be empty.
int32_t baram_template_render(const BaramTemplate* chat_template, BaramView messages,
                              BaramView arguments, int32_t add_generation_prompt,
                              int32_t continue_final_message, size_t max_output_bytes,
                              BaramBuffer* out);

#ifdef __cplusplus
}
#endif

#endif  // BARAM_TEXT_H_
