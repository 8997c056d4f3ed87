// Serving: the one path both front ends use, from a client's call to a running request:
// validate, template, tokenize, Engine::Submit. Everything refusable is refused here, with the code
// and the sentence the client sees.
#ifndef BARAM_SERVER_SERVING_H_
#define BARAM_SERVER_SERVING_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/engine.h"
#include "server/reply.h"
#include "server/text/chat_template.h"
#include "server/text/tokenizer.h"

namespace baram::server {

class Delivery;
class ReplyHandle;
class TextPool;
struct Config;

struct TextPrompt {
  std::string text;
  bool add_special_tokens = true;
};

struct ChatPrompt {
  std::string messages_json;   // an array of {role, content, ...} objects
  std::string arguments_json;  // an object or empty
  std::optional<bool> add_generation_prompt;   // default: true unless continue_final_message
  std::optional<bool> continue_final_message;
  bool add_special_tokens = false;
};

using Prompt = std::variant<TextPrompt, std::vector<int32_t>, ChatPrompt>;

// A client's call in native types; absent fields take the model's or the server's default. `names`
// used in error details are the native ones; a front end with other names translates them.
struct Call {
  std::string request_id;  // may be empty
  std::string model;       // may be empty
  Prompt prompt;
  std::optional<double> temperature, top_p, min_p, repetition_penalty, presence_penalty,
      frequency_penalty;
  std::optional<int64_t> top_k;  // 0 or -1: off
  std::optional<uint64_t> seed;
  int64_t n = 1;
  std::map<int64_t, double> logit_bias;
  std::optional<int64_t> max_tokens;  // absent: what the context leaves
  int64_t min_tokens = 0;
  std::vector<std::string> stop;
  std::vector<int64_t> stop_token_ids;
  bool include_stop = false;
  bool ignore_eos = false;
  std::optional<int64_t> logprobs, prompt_logprobs;
  bool text = true;
  bool skip_special_tokens = true;
  int64_t priority = 0;
  std::string cache_salt;
  bool read_prefix_cache = true;
  std::optional<int64_t> truncate_prompt_tokens;
  SteadyTime deadline = SteadyTime::max();
  SteadyTime arrival{};
};

// What a front end learns when a call is accepted. It may use it until it dropped the handle.
struct Accepted {
  std::string request_id;
  std::vector<int32_t> prompt_ids;
  std::shared_ptr<ReplyHandle> reply;  // see delivery.h: cancel, write done
};

class Serving {
 public:
  Serving(Engine& engine, const text::Tokenizer& tokenizer, const text::ChatTemplate* chat_template,
          Delivery& delivery, TextPool& pool, const Config& config);

  // Validates, renders and tokenizes on the text pool, submits, then calls `done` once, from any
  // thread, with what was accepted or why not; `sink` then receives chunks. Refuses at once with
  // ResourceExhausted when the text pool's queue is full. `sink` must live until it was given a chunk
  // with `last` or `done` got an error.
  void Start(Call call, ReplySink* sink, std::function<void(absl::StatusOr<Accepted>)> done);

  // The same checks without running: used by Tokenize, RenderChat and /tokenize. Runs on the caller's
  // thread, which must belong to the text pool.
  absl::StatusOr<std::vector<int32_t>> Tokenize(const Prompt& prompt) const;
  absl::StatusOr<std::string> RenderChat(const ChatPrompt& prompt) const;
  absl::StatusOr<std::string> Detokenize(const std::vector<int64_t>& ids,
                                         bool skip_special_tokens) const;
  // NotFound unless `model` is empty or a served name.
  absl::Status CheckModel(const std::string& model) const;

  const std::vector<std::string>& served_names() const;
  const EngineInfo& info() const;
  Engine& engine() const;
  const text::Tokenizer& tokenizer() const;
  TextPool& pool() const;
};

}  // namespace baram::server

#endif  // BARAM_SERVER_SERVING_H_
