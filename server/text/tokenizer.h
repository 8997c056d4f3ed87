// A model folder's tokenizer, and a decoder of token streams into whole characters.
#ifndef BARAM_SERVER_TEXT_TOKENIZER_H_
#define BARAM_SERVER_TEXT_TOKENIZER_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

struct BaramTokenizer;  // server/text/rust/baram_text.h
struct BaramStream;

namespace baram::text {

// Encoding peaks at about 100 to 190 bytes of memory per byte of normalized text, and at 340 if
// every character is a pre-token of its own, as digits are for some models; so longer text is
// refused.
inline constexpr size_t kMaxEncodeBytes = size_t{4} << 20;

// Immutable after Load: thread-safe.
class Tokenizer {
 public:
  // Reads tokenizer.json (required) and, if present, tokenizer_config.json and
  // special_tokens_map.json. NotFound without a tokenizer.json, PermissionDenied if a file may not
  // be read, DataLoss if it is unusable; the message names the file. The files are treated as
  // hostile.
  static absl::StatusOr<std::unique_ptr<Tokenizer>> Load(const std::string& folder);

  ~Tokenizer();
  Tokenizer(const Tokenizer&) = delete;
  Tokenizer& operator=(const Tokenizer&) = delete;

  // Special tokens spelled out in `text` become their ids. `add_special_tokens` adds what the model
  // expects around a text (usually the BOS token). InvalidArgument: not UTF-8, or longer than
  // `max_bytes` before or after the model's normalization.
  absl::StatusOr<std::vector<int32_t>> Encode(std::string_view text, bool add_special_tokens,
                                              size_t max_bytes = kMaxEncodeBytes) const;

  // The text of `ids`, always valid UTF-8. Ids outside the vocabulary are ignored; refuse them
  // earlier if they are an error.
  absl::StatusOr<std::string> Decode(std::span<const int32_t> ids, bool skip_special_tokens) const;

  // The bytes that a token adds to a text, possibly part of a character. Empty if there is no such
  // token. They live as long as this.
  std::string_view TokenBytes(int32_t id) const;
  // Whether Decode omits it when it skips special tokens.
  bool IsSpecial(int32_t id) const;
  // The token as the vocabulary spells it ("Ġthe", "<0xEA>"). Empty if there is no such token.
  std::string TokenText(int32_t id) const;
  std::optional<int32_t> TokenToId(std::string_view token) const;

  // One more than the largest id, added tokens included; there may be holes.
  int32_t vocab_size() const { return vocab_size_; }
  // From the folder's eos_token. generation_config.json may name more EOS ids.
  std::optional<int32_t> eos_id() const { return eos_id_; }

  // For StreamDecoder and ChatTemplate.
  const BaramTokenizer* raw() const { return raw_; }

 private:
  explicit Tokenizer(BaramTokenizer* raw);

  BaramTokenizer* raw_;  // owned
  int32_t vocab_size_;
  std::optional<int32_t> eos_id_;
};

// Decodes one reply token by token. The pieces concatenated equal Tokenizer::Decode of all ids, and
// each piece is valid UTF-8: text is held back until no later token can change it. Invalid bytes
// become U+FFFD. If a run of byte tokens ("<0xEA>") contains invalid bytes, Decode replaces the
// whole run, but a stream only those bytes: it has already returned what came before them. One
// owner, one thread at a time.
class StreamDecoder {
 public:
  // Keeps the parts of `tokenizer` that it needs alive.
  StreamDecoder(const Tokenizer& tokenizer, bool skip_special_tokens);
  ~StreamDecoder();
  StreamDecoder(StreamDecoder&& other) noexcept;
  StreamDecoder& operator=(StreamDecoder&& other) noexcept;

  // Call before the first Step of a reply that continues `prompt`: the pieces are then what Decode
  // of prompt and reply together adds to the prompt's own text. So the reply keeps a leading space,
  // which decoders strip from the start of a text. A character cut off at the prompt's end comes
  // out whole; if it stays incomplete, without the prompt's bytes. Reads only the prompt's last
  // tokens.
  void Follow(std::span<const int32_t> prompt);
  // Appends to `text` what this token makes final: often nothing, or one word.
  void Step(int32_t id, std::string* text);
  // Appends what is still held back, and resets: the next Step begins a new reply.
  void End(std::string* text);

 private:
  BaramStream* raw_;  // owned; null after a move
};

}  // namespace baram::text

#endif  // BARAM_SERVER_TEXT_TOKENIZER_H_
