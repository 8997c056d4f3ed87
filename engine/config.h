// EngineConfig: the operator's settings of the engine. EngineInfo: the facts that result from them.
#ifndef BARAM_ENGINE_CONFIG_H_
#define BARAM_ENGINE_CONFIG_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/memory_budget.h"
#include "engine/model/generation_defaults.h"
#include "engine/model/load_progress.h"

namespace baram {

// What the tokenizer means for its model.
struct Vocabulary {
  int32_t valid = 0;   // ids from this one on are never drawn; 0: all of the model's are
  int32_t needed = 0;  // ids that the simplest texts need: a model with fewer is refused
};

// Policies are fields here, never subclasses. A number of zero is chosen for the machine and the
// model, unless stated otherwise.
struct EngineConfig {
  std::string model;           // folder
  std::string device = "cpu";  // see kernels/device.h OpenDevice
  std::string isa;             // force a CPU instruction set; empty: the fastest
  int32_t threads = 0;
  bool pin_threads = false;

  int32_t max_model_len = 0;  // context; lowered to what the KV cache holds
  int64_t kv_cache_bytes = 0;
  // The share (0, 1] of a device's own memory that this process may use in total. Ignored if
  // kv_cache_bytes is set; then the total only has to be free.
  double gpu_memory_utilization = 0.9;
  int32_t page_tokens = 0;             // a power of two; 0: the device's choice
  int32_t max_num_seqs = 0;            // sequences that run at once
  int32_t max_num_batched_tokens = 0;  // tokens of one step
  int32_t mixed_step_tokens = 0;       // prompt tokens of one step that also decodes
  int32_t max_logit_rows = 256;        // scored tokens of one step (prompt log-probabilities)
  // Logits are computed and sampled for this many outputs of a step at a time, or for max_num_seqs
  // if that is more: they take 4 bytes per entry of the vocabulary each.
  int32_t logit_rows_at_once = 128;
  int32_t max_chunk_tokens = 0;  // of one prompt in one step; 0: whatever the step has left
  // [0, 1): what a prompt that a step does not finish leaves of it to much shorter ones behind it.
  double short_prompt_share = 0.5;
  bool prefix_cache = true;
  bool enforce_eager = false;       // no graphs, on a device that has them
  bool overlap_kernels = true;      // see DeviceOptions
  bool shared_carveout = true;      // see DeviceOptions
  bool preempt_every_draw = false;  // recompute before every token, for tests of exactness (I10)

  // While this many requests wait, no further one is accepted. A request waits while none of its
  // outputs runs: before it is first admitted, and again once it is preempted. So at most this many
  // requests, plus one per running sequence, are live, whatever their priorities.
  int32_t max_queued_requests = 1024;
  int64_t max_queued_tokens = 4'000'000;  // of all waiting requests together, see QueuedTokens
  int32_t min_priority = 0;               // the most urgent one that a call may set, see QueueBound
  int32_t stream_tokens = 1024;  // size of an outbox's ring; a full one pauses its sequence
  // A paused sequence whose reader takes no token for this long ends with kSlowReader.
  double longest_pause_s = 30;

  // The most memory of the host that the rest of the process uses at a time, given the context
  // length; called after `vocabulary`. A device without memory of its own leaves that much free.
  // May be empty: nothing.
  std::function<std::vector<MemoryBudget::Part>(int64_t context)> host_parts;

  // Called once by the thread that opens the engine, after the device is open: the tokenizer may
  // load meanwhile. Its error ends the opening. May be empty: a default Vocabulary.
  std::function<absl::StatusOr<Vocabulary>()> vocabulary;

  LoadProgress load_progress;
  std::function<void(const std::string&)> warn, lost;  // see DeviceOptions
};

// How much of `bound`, a limit of waiting requests or tokens, requests of `priority` may fill. A
// quarter is reserved for calls more urgent than the default priority 0, or for the default one if
// the operator allows nothing more urgent: a batch job that lowers its priority then blocks
// neither.
inline int64_t QueueBound(const EngineConfig& config, int64_t bound, int64_t priority) {
  constexpr int32_t kMoreUrgentThanDefault = -1;
  if (priority <= std::max(config.min_priority, kMoreUrgentThanDefault)) return bound;
  return std::max<int64_t>(1, bound * 3 / 4);
}

// The most EOS ids that a model's configuration may have. The tokenizer's and a request's own stop
// ids share the rest of kMaxStopIds.
inline constexpr size_t kMaxEosIds = 31;

// The facts about an opened engine; constant.
struct EngineInfo {
  std::string architecture;
  std::string family;
  std::string device;     // "cpu"
  std::string processor;  // human-readable
  std::string isa;
  int32_t workers = 0;
  int32_t processors = 0;  // that the workers may use at once; 0: unknown
  int32_t layers = 0;
  int64_t parameters = 0;
  int64_t weight_bytes = 0;
  MemoryBudget memory;
  int32_t vocab_size = 0;
  int32_t max_model_len = 0;      // served
  int32_t model_context_len = 0;  // the model's own limit, as extended by YaRN
  int32_t page_tokens = 0;
  int32_t pages = 0;
  int64_t page_bytes = 0;
  // Of the longest single sequence that fits into the pool; with a window in every layer, of all
  // the longest sequences that fit.
  int64_t kv_tokens = 0;
  double kv_bytes_per_token = 0;
  int32_t max_num_seqs = 0;
  int32_t max_num_batched_tokens = 0;
  int32_t mixed_step_tokens = 0;
  int32_t max_logit_rows = 0;
  int32_t planning_depth = 1;
  bool prefix_cache = true;
  bool exact = false;  // I10 holds on this device
  double load_s = 0;
  int64_t warm_up_bytes = 0;  // the device's own memory that the warm-up steps took for code

  GenerationDefaults defaults;  // with at most kMaxEosIds EOS ids, all of which can be drawn
  std::vector<int32_t> ignored_eos_ids;  // the folder's other EOS ids, which are never drawn
};

}  // namespace baram

#endif  // BARAM_ENGINE_CONFIG_H_
