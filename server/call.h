// Call: a client's request in native types, independent of the front end it came through.
#ifndef BARAM_SERVER_CALL_H_
#define BARAM_SERVER_CALL_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "engine/request.h"
#include "engine/steady_time.h"

namespace baram::server {

// Limits that hold for every call; front ends that copy lists check them before copying.
inline constexpr size_t kMaxMessages = 4096;
inline constexpr size_t kMaxSaltBytes = 128;
inline constexpr size_t kMaxStops = 16;
inline constexpr size_t kMaxStopBytes = 256;
inline constexpr size_t kMaxStopTokenIds = 32;

struct TextPrompt {
  std::string text;
  bool add_special_tokens = true;
};

struct ChatPrompt {
  std::string messages_json;                  // an array of {role, content, ...} objects
  std::string arguments_json;                 // an object or empty
  std::optional<bool> add_generation_prompt;  // default: true unless continue_final_message
  std::optional<bool> continue_final_message;
  bool add_special_tokens = false;
};

using Prompt = std::variant<TextPrompt, std::vector<int32_t>, ChatPrompt>;

// The size limit of a reply that is sent as one message; also used in error sentences.
struct OneMessage {
  int64_t max_bytes = 0;
  const char* setting = "";  // the operator's
  const char* instead = "";  // what the client may do other than ask for less, ending in " or "
  // The field that requests the prompt's log-probabilities.
  const char* scores = "output.prompt_logprobs";
};

// A client's call in native types, with one prompt or several; absent fields take the model's or
// the server's default. Errors name fields by their native paths; a front end with other names uses
// RenameField of errors.h.
struct Call {
  std::string request_id;       // valid, see request_id.h
  bool own_id = false;          // no other call may run under that id meanwhile
  std::string model;            // may be empty
  std::vector<Prompt> prompts;  // at least one; each becomes a request to the engine
  std::optional<double> temperature, top_p, min_p, repetition_penalty, presence_penalty,
      frequency_penalty;
  std::optional<int64_t> top_k;  // 0 or -1: off
  std::optional<uint64_t> seed;
  int64_t n = 1;
  std::map<int64_t, double> logit_bias;
  std::optional<int64_t> max_tokens;  // absent: the rest of the context
  bool may_end_sooner = false;        // max_tokens is a default: having less room is no error
  const char* max_tokens_name = "max_tokens";  // the client's name for it, for error sentences
  int64_t min_tokens = 0;
  std::vector<std::string> stop;
  std::vector<int64_t> stop_token_ids;
  bool include_stop = false;
  bool ignore_eos = false;
  std::optional<int64_t> logprobs, prompt_logprobs;
  bool text = true;
  bool token_ids = false;  // DeltaEvent::tokens are wanted even without log-probabilities
  bool skip_special_tokens = true;
  int64_t priority = 0;
  std::string cache_salt;
  bool read_prefix_cache = true;
  std::optional<int64_t> truncate_prompt_tokens;
  // Absent: the reply is streamed, without a limit. Otherwise prompt log-probabilities that can't
  // fit are refused; the front end enforces the limit on the rest.
  std::optional<OneMessage> one_message;
  SteadyTime deadline = SteadyTime::max();
  SteadyTime arrival{};
};

}  // namespace baram::server

#endif  // BARAM_SERVER_CALL_H_
