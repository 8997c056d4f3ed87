// EngineConfig: what the operator decides about the engine. EngineInfo: what came of it.
#ifndef BARAM_ENGINE_CONFIG_H_
#define BARAM_ENGINE_CONFIG_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "engine/memory_sum.h"
#include "engine/model/generation_defaults.h"
#include "engine/model/load_progress.h"

namespace baram {

// Policies are fields here, never subclasses. Zero means "from the machine and the model".
struct EngineConfig {
  std::string model;           // folder
  std::string device = "cpu";  // see kernels/device.h OpenDevice
  std::string isa;             // force a CPU instruction set; empty: the fastest
  int32_t threads = 0;
  bool pin_threads = false;

  int32_t max_model_len = 0;  // context; shrinks to what the KV cache holds
  int64_t kv_cache_bytes = 0;
  // The share (0, 1] of a device's own memory that this process may take in all. Not asked for
  // where kv_cache_bytes are named; then the sum need only be free.
  double gpu_memory_utilization = 0.9;
  int32_t page_tokens = 0;             // a power of two; 0: the device's choice
  int32_t max_num_seqs = 0;            // sequences that run at once
  int32_t max_num_batched_tokens = 0;  // tokens of one step
  int32_t mixed_step_tokens = 0;       // those of prompts in a step that also goes on with answers
  int32_t max_logit_rows = 256;        // scored tokens of one step (prompt log-probabilities)
  int32_t max_chunk_tokens = 0;        // of one prompt in one step; 0: what the step has left
  bool prefix_cache = true;
  bool enforce_eager = false;   // no graphs, on a device that has them
  bool overlap_kernels = true;  // see DeviceOptions
  bool shared_carveout = true;  // the same
  int32_t valid_vocab = 0;      // ids at or past it are never drawn; 0: all of the model's
  int32_t needed_vocab = 0;     // a model with fewer ids is refused: its texts could not be served
  bool preempt_every_draw = false;  // recompute before every token: for tests of exactness (I10)

  // While so many requests wait no further one is accepted. A request waits while none of its
  // outputs runs: before it is first admitted, and again once it is preempted. So those that live
  // are at most these and one a running sequence, whatever priorities they come with.
  int32_t max_queued_requests = 1024;
  int64_t max_queued_tokens = 4'000'000;  // of those that wait together, see QueuedTokens
  int32_t min_priority = 0;               // the most urgent that a call may name, see QueueBound
  int32_t stream_tokens = 1024;           // an outbox's ring; a full one pauses its sequence
  // A sequence that is paused for longer, and whose reader takes nothing, ends with kSlowReader.
  double longest_pause_s = 30;

  // What the rest of the process may take of the host's memory at a time, where contexts are so
  // long. A device that has no memory of its own is told to leave it. May be empty: nothing.
  std::function<int64_t(int64_t context)> host_bytes;

  LoadProgress load_progress;
  std::function<void(const std::string&)> warn, lost;  // see DeviceOptions
};

// How much of `bound`, of requests or tokens that wait, those of `priority` may fill. A quarter is
// left to calls more urgent than those that name no priority (which is 0), or to the latter where
// the operator allows nothing more urgent: a batch job that steps back then keeps neither out.
inline int64_t QueueBound(const EngineConfig& config, int64_t bound, int64_t priority) {
  constexpr int32_t kPushesIn = -1;
  if (priority <= std::max(config.min_priority, kPushesIn)) return bound;
  return std::max<int64_t>(1, bound * 3 / 4);
}

// The most EOS ids of a model's configuration. The tokenizer's and a request's own stop ids have
// the rest of kMaxStopIds.
inline constexpr size_t kMaxEosIds = 31;

// Facts after opening; constant from then on.
struct EngineInfo {
  std::string architecture;
  std::string family;
  std::string device;     // "cpu"
  std::string processor;  // for people
  std::string isa;
  int32_t workers = 0;
  int32_t processors = 0;  // for them, at once; 0: not known
  int32_t layers = 0;
  int64_t parameters = 0;
  int64_t weight_bytes = 0;
  MemorySum memory;
  int32_t vocab_size = 0;
  int32_t max_model_len = 0;      // served
  int32_t model_context_len = 0;  // the most that it could be: the model's, as YaRN stretches it
  int32_t page_tokens = 0;
  int32_t pages = 0;
  int64_t page_bytes = 0;
  int64_t kv_tokens = 0;  // tokens of one long sequence the pool holds
  double kv_bytes_per_token = 0;
  int32_t max_num_seqs = 0;
  int32_t max_num_batched_tokens = 0;
  int32_t mixed_step_tokens = 0;
  int32_t planning_depth = 1;
  bool prefix_cache = true;
  bool exact = false;  // I10 holds on this device
  double load_s = 0;
  int64_t warm_up_bytes = 0;  // the device's own memory that the first steps took: code

  GenerationDefaults defaults;  // with at most kMaxEosIds EOS ids, all of which can be drawn
  std::vector<int32_t> ignored_eos_ids;  // the folder's others: they are never drawn
};

}  // namespace baram

#endif  // BARAM_ENGINE_CONFIG_H_
