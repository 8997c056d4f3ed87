// Request: what a client asks of the engine, in tokens. Immutable once submitted.
#ifndef BARAM_ENGINE_REQUEST_H_
#define BARAM_ENGINE_REQUEST_H_

#include <cstdint>
#include <iterator>
#include <string>
#include <vector>

#include "engine/steady_time.h"
#include "kernels/step.h"

namespace baram {

struct Request {
  // For logs and Abort. A client's call with several prompts becomes several requests, its parts:
  // they share the id and a `call_number` that no other call has. Other live calls may have the
  // same id, unless one of them requires it for itself.
  std::string id;
  uint64_t call_number = 0;
  int32_t part = 0;                 // distinct within a call
  bool own_id = false;              // no other live call may have this id
  std::vector<int32_t> prompt;      // 1 .. max_model_len - 1 ids, each inside the vocabulary
  SamplingParams sampling;          // output_index is set by the engine
  int32_t n = 1;                    // outputs; they share the prompt's pages
  int32_t max_tokens = 16;          // per output, at least 1; capped by the context
  std::vector<int32_t> stop_ids;    // ending ids, EOS included unless ignored; at most kMaxStopIds
  std::vector<int32_t> masked_ids;  // masked until min_tokens, at most kMaxStopIds; empty: stop_ids
  std::vector<TokenBias> logit_bias;
  int32_t prompt_logprobs = -1;  // -1: none; else as SamplingParams::logprobs
  int32_t priority = 0;          // lower runs first; ties by arrival
  SteadyTime deadline = SteadyTime::max();
  SteadyTime arrival{};  // when the front end had read it; zero: when it is submitted
  bool read_prefix_cache = true;
  std::string cache_salt;  // prompts with different salts never share pages
};

// What a waiting request counts toward EngineConfig::max_queued_tokens: its prompt tokens, and as
// many again for every log-probability that is kept per prompt token.
inline int64_t QueuedTokens(const Request& request) {
  const bool scored = request.prompt_logprobs >= 0;
  const int64_t kept = scored ? 1 + request.prompt_logprobs : 0;  // its own, and the alternatives
  return std::ssize(request.prompt) * (1 + kept);
}

}  // namespace baram

#endif  // BARAM_ENGINE_REQUEST_H_
