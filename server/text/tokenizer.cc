// C++ wrapper of the text library's tokenizer and stream decoder.
#include "server/text/tokenizer.h"

#include <malloc.h>

#include <utility>

#include "server/text/ffi.h"

namespace baram::text {
namespace {

// The process keeps the memory of many small allocations unless it is trimmed: hundreds of
// megabytes. Tokenizing a text of this size takes a good part of a second, and trimming a fraction
// of that.
constexpr size_t kTrimBytes = size_t{1} << 20;
constexpr size_t kTrimIds = kTrimBytes / 4;

std::optional<int32_t> IdOrNone(int32_t id) {
  if (id < 0) return std::nullopt;
  return id;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Tokenizer>> Tokenizer::Load(const std::string& folder) {
  BaramTokenizer* raw = nullptr;
  BaramBuffer error{};
  const int32_t code = baram_tokenizer_load(ToView(folder), &raw, &error);
  if (code != BARAM_TEXT_OK) return TakeError(code, error);
  return std::unique_ptr<Tokenizer>(new Tokenizer(raw));
}

Tokenizer::Tokenizer(BaramTokenizer* raw)
    : raw_(raw),
      vocab_size_(baram_tokenizer_vocab_size(raw)),
      eos_id_(IdOrNone(baram_tokenizer_eos_id(raw))) {}

Tokenizer::~Tokenizer() { baram_tokenizer_free(raw_); }

absl::StatusOr<std::vector<int32_t>> Tokenizer::Encode(std::string_view text,
                                                       bool add_special_tokens,
                                                       size_t max_bytes) const {
  BaramIds ids{};
  BaramBuffer error{};
  const int32_t code =
      baram_tokenizer_encode(raw_, ToView(text), add_special_tokens, max_bytes, &ids, &error);
  std::vector<int32_t> result;
  if (code == BARAM_TEXT_OK) {
    result.assign(ids.data, ids.data + ids.size);
    baram_ids_free(ids);
  }
  if (text.size() >= kTrimBytes) malloc_trim(0);
  if (code != BARAM_TEXT_OK) return TakeError(code, error);
  return result;
}

absl::StatusOr<std::string> Tokenizer::Decode(std::span<const int32_t> ids,
                                              bool skip_special_tokens) const {
  BaramBuffer text{};
  const int32_t code =
      baram_tokenizer_decode(raw_, ids.data(), ids.size(), skip_special_tokens, &text);
  if (ids.size() >= kTrimIds) malloc_trim(0);
  if (code != BARAM_TEXT_OK) return TakeError(code, text);
  return TakeBuffer(text);
}

std::string_view Tokenizer::TokenBytes(int32_t id) const {
  return FromView(baram_tokenizer_token_bytes(raw_, id));
}

bool Tokenizer::IsSpecial(int32_t id) const { return baram_tokenizer_is_special(raw_, id) != 0; }

std::string Tokenizer::TokenText(int32_t id) const {
  return TakeBuffer(baram_tokenizer_token_text(raw_, id));
}

std::optional<int32_t> Tokenizer::TokenToId(std::string_view token) const {
  return IdOrNone(baram_tokenizer_token_to_id(raw_, ToView(token)));
}

StreamDecoder::StreamDecoder(const Tokenizer& tokenizer, bool skip_special_tokens)
    : raw_(baram_stream_new(tokenizer.raw(), skip_special_tokens)) {}

StreamDecoder::~StreamDecoder() {
  if (raw_ != nullptr) baram_stream_free(raw_);
}

StreamDecoder::StreamDecoder(StreamDecoder&& other) noexcept
    : raw_(std::exchange(other.raw_, nullptr)) {}

StreamDecoder& StreamDecoder::operator=(StreamDecoder&& other) noexcept {
  std::swap(raw_, other.raw_);
  return *this;
}

void StreamDecoder::Follow(std::span<const int32_t> prompt) {
  baram_stream_follow(raw_, prompt.data(), prompt.size());
}

void StreamDecoder::Step(int32_t id, std::string* text) {
  text->append(FromView(baram_stream_step(raw_, id)));
}

void StreamDecoder::End(std::string* text) { text->append(FromView(baram_stream_end(raw_))); }

}  // namespace baram::text
