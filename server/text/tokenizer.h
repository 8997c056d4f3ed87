// A model folder's tokenizer, and the decoder of a stream of its tokens into whole characters.
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

// Encoding peaks at some 100 to 170 bytes of memory for each byte of a text of words, and at 340
// where every character is a piece of its own, as digits are to some models; so text is refused
// above this.
inline constexpr size_t kMaxEncodeBytes = size_t{4} << 20;

// Immutable after Load: every method may be called from any thread at the same time.
class Tokenizer {
 public:
  // Reads tokenizer.json (required) and, where present, tokenizer_config.json and
  // special_tokens_map.json. NotFound without a tokenizer.json, PermissionDenied when a file may
  // not be read, DataLoss when it can't be used; the message names the file. The files are treated
  // as hostile.
  static absl::StatusOr<std::unique_ptr<Tokenizer>> Load(const std::string& folder);

  ~Tokenizer();
  Tokenizer(const Tokenizer&) = delete;
  Tokenizer& operator=(const Tokenizer&) = delete;

  // Special tokens written out in `text` become their ids. `add_special_tokens` adds what the model
  // wants around a text (usually the BOS token). InvalidArgument: not UTF-8, or above `max_bytes`.
  absl::StatusOr<std::vector<int32_t>> Encode(std::string_view text, bool add_special_tokens,
                                              size_t max_bytes = kMaxEncodeBytes) const;

  // The text of `ids`, always valid UTF-8. Ids outside the vocabulary stand for nothing; refuse
  // them earlier where they are an error.
  absl::StatusOr<std::string> Decode(std::span<const int32_t> ids, bool skip_special_tokens) const;

  // What a token adds to a text, which may be part of a character. Empty if there is no such token.
  std::string TokenBytes(int32_t id) const;
  // Whether Decode leaves it out where it skips special tokens.
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

// Decodes one reply token by token. The pieces joined together equal Tokenizer::Decode of all ids,
// and each piece is valid UTF-8: text waits inside until no later token can change it. Bytes that
// are no character become U+FFFD. Where a run of byte tokens ("<0xEA>") holds such bytes, Decode
// replaces the whole run, but a stream only those bytes: it has let out what came before them. One
// owner, one thread at a time.
class StreamDecoder {
 public:
  // Keeps what it needs of `tokenizer` alive.
  StreamDecoder(const Tokenizer& tokenizer, bool skip_special_tokens);
  ~StreamDecoder();
  StreamDecoder(StreamDecoder&& other) noexcept;
  StreamDecoder& operator=(StreamDecoder&& other) noexcept;

  // Before the first Step of a reply that continues `prompt`: the pieces are then what Decode of
  // prompt and reply together adds to the prompt's own text. So the reply keeps a leading blank,
  // which decoders strip from the start of a text. A character that the prompt broke off comes out
  // whole; if it stays broken, without the prompt's bytes. Reads the prompt's last tokens only.
  void Follow(std::span<const int32_t> prompt);
  // Appends to `text` what has become certain with this token: often nothing, or one word.
  void Step(int32_t id, std::string* text);
  // Appends what still waits, and starts over: the next Step begins a new reply.
  void End(std::string* text);

 private:
  BaramStream* raw_;  // owned; null after a move
};

}  // namespace baram::text

#endif  // BARAM_SERVER_TEXT_TOKENIZER_H_
