// Request: what a client asked of the engine, in tokens. Immutable once submitted.
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
  // For logs and Abort. A client's call with several prompts is several of these, its parts: they
  // share the id and a `call_number`, which no other call has. Other calls may live under the same
  // id, unless one of them is to have it alone.
  std::string id;
  uint64_t call_number = 0;
  int32_t part = 0;                 // each of a call has another
  bool own_id = false;              // no part of another call lives under this id beside it
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
  SteadyTime arrival{};  // when the front end had read it
  bool read_prefix_cache = true;
  std::string cache_salt;  // prompts with different salts never share pages
};

// What a waiting request counts against EngineConfig::max_queued_tokens: its prompt, and as much
// again for every log-probability that is kept of each of its tokens.
inline int64_t QueuedTokens(const Request& request) {
  const bool scored = request.prompt_logprobs >= 0;
  const int64_t kept = scored ? 1 + request.prompt_logprobs : 0;  // its own, and the alternatives
  return std::ssize(request.prompt) * (1 + kept);
}

}  // namespace baram

#endif  // BARAM_ENGINE_REQUEST_H_
