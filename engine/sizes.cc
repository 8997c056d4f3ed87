// SizeEngine: the defaults, and the search for the longest context that fits.
#include "engine/sizes.h"

#include <algorithm>
#include <bit>
#include <limits>

#include "absl/strings/str_cat.h"
#include "engine/memory_budget.h"
#include "engine/model/weight_layout.h"
#include "engine/model/workspace.h"
#include "engine/step_graphs.h"
#include "kernels/rounding.h"

namespace baram {
namespace {

// The limits of a step if the operator sets none.
struct StepDefaults {
  int32_t seqs;
  int32_t tokens;
  int32_t mixed_tokens;  // of prompts, in steps with decodes
};
// By calculation, 2048 tokens take a GPU ten times as long to compute as the weights to read.
constexpr StepDefaults kAsyncSteps = {.seqs = 256, .tokens = 8192, .mixed_tokens = 2048};
// A synchronous device computes a step while its decodes wait, so its steps are short: 512 tokens
// of a 1B model take two to six seconds on two cores. With decodes they are shorter still: in steps
// of 128, tokens are computed 0.98 times as fast as in steps of 512, and streams stall for a
// quarter of the time.
constexpr StepDefaults kLeastSyncSteps = {.seqs = 32, .tokens = 512, .mixed_tokens = 128};
// With more workers a step holds more and takes no longer: 16 decodes per worker, as with two
// workers, and from 8 workers on at most 64 prompt tokens per worker instead of 256. The benefit,
// by calculation:
//   decodes   A step reads the weights once, 2 bytes each, and computes 2 flops per row with each.
//             Two cores with AMX compute some 75 rows while they read; a socket of 64 cores reads 8
//             to 10 times as fast and computes 32 times as fast: some 250 rows. 32 rows would leave
//             it waiting for memory.
//   prompts   128 tokens are two rows for each of 64 workers in everything but products, and a
//             layer has a dozen barriers. 1024 tokens are 16 rows each, and take some 4 times as
//             long as reading the weights. A product rereads its weights for every 512 rows, so
//             beyond 512 only barriers and steps are saved: 4096 is the maximum.
// With vector instructions a worker multiplies at a sixth to a tenth of the speed of AMX, and
// correspondingly fewer rows hide the reading: prompts grow a quarter as fast.
StepDefaults SyncSteps(int32_t workers, bool matrix_units) {
  const int32_t share = matrix_units ? 1 : 4;
  return {.seqs = std::clamp(16 * workers, kLeastSyncSteps.seqs, 256),
          .tokens = std::clamp(64 * workers / share, kLeastSyncSteps.tokens, 4096),
          .mixed_tokens = std::clamp(16 * workers / share, kLeastSyncSteps.mixed_tokens, 1024)};
}
// Larger steps may take one part in this many of the cache that the smallest steps would leave, and
// nothing of the context.
constexpr int32_t kCachePart = 8;
// By default, more sequences than the minimum run only if the cache holds this many tokens of each:
// with less they would preempt each other, and recompute.
constexpr int64_t kHeldContext = 512;
// The default KV cache holds this many tokens of every sequence, within its share of the memory. On
// a device with memory of its own, which serves nothing else, it takes what is left, up to what
// running sequences can fill.
constexpr int64_t kDefaultContext = 2048;
constexpr double kHostKvShare = 0.25;
// The engine's share of the host's memory: the rest is for the rest of the process.
constexpr double kUsableHostMemory = 0.92;
// The smallest useful cache: one sequence that can grow.
constexpr int64_t kMinPages = 2;
constexpr int64_t kMaxPages = 2'000'000'000;
constexpr int64_t kMaxBlocks = int64_t{1} << 24;
// What the total leaves alone of a GPU's free memory: some parts are estimates, and kernels are
// loaded when they first run.
constexpr int64_t kSpareBytes = int64_t{256} << 20;

int64_t ShareOf(double share, int64_t bytes) {
  return static_cast<int64_t>(share * static_cast<double>(bytes));
}

// The memory that this engine may use, without parts yet.
MemoryBudget MemoryFor(const EngineConfig& config, const DeviceInfo& device) {
  MemoryBudget budget;
  budget.device = device.name;
  budget.own_memory = device.own_memory;
  budget.total_bytes = device.memory_bytes;
  budget.free_bytes = device.free_bytes;
  if (!device.own_memory) {
    budget.usable_bytes = ShareOf(kUsableHostMemory, device.memory_bytes);
  } else if (config.kv_cache_bytes > 0) {
    budget.usable_bytes = device.free_bytes;
  } else {
    budget.share = config.gpu_memory_utilization;
    budget.usable_bytes = ShareOf(budget.share, device.memory_bytes);
  }
  return budget;
}

// For non-negative numbers. Saturates at the largest 64-bit value.
int64_t Product(int64_t a, int64_t b) {
  int64_t product = 0;
  const bool over = __builtin_mul_overflow(a, b, &product);
  return over ? std::numeric_limits<int64_t>::max() : product;
}

// The tokens of the longest sequence whose pages fit into `pages`.
int64_t TokensThatFit(const KvPlan& plan, int64_t pages, int32_t planning_depth) {
  const int64_t page_tokens = plan.shape.page_tokens;
  int64_t low = 0, high = kMaxBlocks;
  while (low < high) {
    const int64_t middle = (low + high + 1) / 2;
    if (PagesForSequence(plan, middle * page_tokens, planning_depth) <= pages) {
      low = middle;
    } else {
      high = middle - 1;
    }
  }
  return low * page_tokens;
}

// What running sequences can fill, within the memory that is left.
int64_t DefaultKvBytes(const EngineSizes& sizes, const DeviceInfo& facts, int64_t wanted,
                       int64_t left) {
  const auto pages_for = [&](int64_t tokens) {
    return PagesForSequence(sizes.plan, tokens, facts.planning_depth);
  };
  const int64_t each = pages_for(facts.own_memory ? wanted : std::min(wanted, kDefaultContext));
  const int64_t useful = Product(
      std::max(pages_for(wanted), Product(each, sizes.info.max_num_seqs)), sizes.info.page_bytes);
  const int64_t share = ShareOf(kHostKvShare, facts.memory_bytes);
  return std::min({useful, left, facts.own_memory ? left : share});
}

// The tokens that the smallest useful cache holds.
int64_t LeastContext(const EngineInfo& info, int64_t wanted) {
  return std::min(wanted, kMinPages * info.page_tokens);
}

absl::Status CheckEosIds(const EngineInfo& info) {
  if (info.defaults.eos_ids.size() <= kMaxEosIds) return absl::OkStatus();
  return absl::UnimplementedError(
      absl::StrCat("config.json and generation_config.json name ", info.defaults.eos_ids.size(),
                   " EOS ids (eos_token_id), but at most ", kMaxEosIds, " can be served"));
}

absl::Status SizePages(const EngineConfig& config, const ModelSpec& spec, const Device& device,
                       EngineSizes* sizes) {
  EngineInfo& info = sizes->info;
  info.page_tokens = config.page_tokens > 0 ? config.page_tokens : device.Info().page_tokens;
  if (!std::has_single_bit(static_cast<uint32_t>(info.page_tokens))) {
    return absl::InvalidArgumentError(
        absl::StrCat("page tokens must be a power of two, not ", info.page_tokens));
  }
  sizes->plan = PlanKv(spec, info.page_tokens);
  info.page_bytes = device.KvBytesPerPage(sizes->plan.shape);
  info.kv_bytes_per_token = KvBytesPerToken(sizes->plan, info.page_bytes);
  return absl::OkStatus();
}

// The limits of a step. Call after SizePages.
void SizeSteps(const EngineConfig& config, const ModelSpec& spec, const DeviceInfo& facts,
               const StepDefaults& steps, EngineSizes* sizes) {
  EngineInfo& info = sizes->info;
  const auto choose = [](int32_t wanted, int32_t by_default) {
    return wanted > 0 ? wanted : by_default;
  };
  // A default does not raise a limit that was set.
  const int32_t seqs = config.max_num_batched_tokens > 0
                           ? std::min(steps.seqs, config.max_num_batched_tokens)
                           : steps.seqs;
  info.max_num_seqs = choose(config.max_num_seqs, seqs);
  info.max_num_batched_tokens = choose(config.max_num_batched_tokens, steps.tokens);
  // Every running sequence may decode in every step.
  info.max_num_batched_tokens = std::max(info.max_num_batched_tokens, info.max_num_seqs);
  info.mixed_step_tokens =
      std::min(choose(config.mixed_step_tokens, steps.mixed_tokens), info.max_num_batched_tokens);
  sizes->max_logit_rows = std::clamp(config.max_logit_rows, 1, info.max_num_batched_tokens);
  if (facts.graphs && !config.enforce_eager) sizes->step_buckets = StepBuckets(info.max_num_seqs);

  SlotShape& slots = sizes->slots;
  slots.slots = info.max_num_seqs;
  slots.groups = sizes->plan.groups();
  slots.vocab_size = spec.vocab_size;
  slots.max_step_tokens = info.max_num_batched_tokens;
  slots.max_step_outputs = info.max_num_seqs + sizes->max_logit_rows;
}

// Adds up the memory if sequences of `context` tokens are served, and sets the pages that are left
// in it.
absl::Status SizeCache(const EngineConfig& config, const ModelSpec& spec, const Device& device,
                       int64_t wanted, int64_t context, EngineSizes* sizes) {
  const DeviceInfo& facts = device.Info();
  EngineInfo& info = sizes->info;
  info.max_model_len = static_cast<int32_t>(context);
  info.weight_bytes = WeightBytes(spec, device, info.max_model_len);
  sizes->slots.max_pages_per_slot = static_cast<int32_t>(CeilDivide(context, info.page_tokens));
  const int64_t activations = WorkspaceBytes(spec, device, sizes->plan.shape, sizes->slots) +
                              TakenBytes(facts, ResultBytes(sizes->slots));
  info.memory = MemoryFor(config, facts);
  info.memory.parts = {{"weights", info.weight_bytes}, {"activations", activations}};
  if (facts.own_memory) {
    const DeviceUse use = device.OwnUse(sizes->slots);
    info.memory.parts.push_back({"slots and work space", use.state_bytes});
    info.memory.parts.push_back({"context and code", use.runtime_bytes});
  }
  if (!sizes->step_buckets.empty()) {
    info.memory.parts.push_back({"graphs", StepGraphBytes(spec, sizes->step_buckets)});
  }
  if (!facts.own_memory && config.host_bytes) {
    info.memory.parts.push_back({"texts", config.host_bytes(context)});
  }
  if (facts.own_memory) {
    // What a share below 1 leaves free counts toward it.
    const int64_t outside = std::max<int64_t>(0, facts.free_bytes - info.memory.usable_bytes);
    if (outside < kSpareBytes) info.memory.parts.push_back({"to spare", kSpareBytes - outside});
  }
  const int64_t least_tokens = LeastContext(info, wanted);
  const int64_t least =
      PagesForSequence(sizes->plan, least_tokens, facts.planning_depth) * info.page_bytes;
  if (config.kv_cache_bytes > 0 && config.kv_cache_bytes < least) {
    return absl::FailedPreconditionError(
        absl::StrCat("kv-cache-bytes ", config.kv_cache_bytes, " are too few: the smallest useful ",
                     "KV cache, which holds ", least_tokens, " tokens, takes ", least));
  }
  const int64_t left = info.memory.usable_bytes - PartsBytes(info.memory);
  const int64_t bytes =
      std::max(least, config.kv_cache_bytes > 0 ? config.kv_cache_bytes
                                                : DefaultKvBytes(*sizes, facts, wanted, left));
  info.memory.parts.push_back({"KV cache", bytes});
  if (absl::Status status = CheckFreeMemory(info.memory); !status.ok()) return status;
  if (absl::Status status = CheckFits(info.memory); !status.ok()) return status;
  info.pages = static_cast<int32_t>(std::min(bytes / info.page_bytes, kMaxPages));
  info.memory.parts.back().bytes = info.pages * info.page_bytes;
  info.kv_tokens = TokensThatFit(sizes->plan, info.pages, facts.planning_depth);
  return absl::OkStatus();
}

// Chooses the longest context, `wanted` at most, whose rope tables and page tables leave room for a
// cache that holds it. If even the shortest one does not fit, returns its error.
absl::Status SizeContext(const EngineConfig& config, const ModelSpec& spec, const Device& device,
                         int64_t wanted, EngineSizes* sizes) {
  const auto size = [&](int64_t context) {
    return SizeCache(config, spec, device, wanted, context, sizes);
  };
  const auto holds = [&](int64_t context) {
    return size(context).ok() && sizes->info.kv_tokens >= context;
  };
  if (holds(wanted)) return absl::OkStatus();
  int64_t low = LeastContext(sizes->info, wanted), high = wanted - 1;
  while (low < high) {
    const int64_t middle = (low + high + 1) / 2;
    if (holds(middle)) {
      low = middle;
    } else {
      high = middle - 1;
    }
  }
  return size(low);
}

absl::Status CheckTables(const EngineSizes& sizes) {
  const EngineInfo& info = sizes.info;
  const int64_t entries = sizes.slots.TableEntries();
  if (entries <= kMaxTableEntries) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat("page tables of ", info.max_num_seqs, " sequences of ", info.max_model_len,
                   " tokens have ", entries, " entries, and ", kMaxTableEntries,
                   " are the most: lower max-num-seqs or max-model-len, or raise page-tokens"));
}

// The context to serve if it fits.
int32_t WantedContext(const EngineConfig& config, const ModelSpec& spec) {
  return config.max_model_len > 0 ? config.max_model_len : spec.max_positions;
}

// All sizes, with these default limits of steps.
absl::StatusOr<EngineSizes> SizeWith(const StepDefaults& steps, const EngineConfig& config,
                                     const ModelSpec& spec, const GenerationDefaults& defaults,
                                     const Device& device) {
  EngineSizes sizes;
  sizes.info = DescribeModel(config, spec, defaults, device);
  if (absl::Status status = CheckEosIds(sizes.info); !status.ok()) return status;
  if (absl::Status status = SizePages(config, spec, device, &sizes); !status.ok()) return status;
  SizeSteps(config, spec, device.Info(), steps, &sizes);
  const int32_t wanted = WantedContext(config, spec);
  if (absl::Status status = SizeContext(config, spec, device, wanted, &sizes); !status.ok()) {
    return status;
  }
  if (absl::Status status = CheckTables(sizes); !status.ok()) return status;
  return sizes;
}

// Whether larger steps leave as long a context, and about as large a cache, as the smallest ones.
bool LeavesCache(const EngineInfo& larger, const EngineInfo& least) {
  return larger.max_model_len >= least.max_model_len &&
         larger.pages >= least.pages - least.pages / kCachePart;
}

}  // namespace

int64_t PagesForSequence(const KvPlan& plan, int64_t tokens, int32_t planning_depth) {
  const int64_t page_tokens = plan.shape.page_tokens;
  const int64_t blocks = CeilDivide(tokens, page_tokens);
  int64_t pages = 0;
  for (const int32_t window : plan.windows) {
    if (window == 0) {
      pages += blocks;
      continue;
    }
    // The window may start anywhere in a page; every step in flight may have started another page.
    const int64_t windowed = CeilDivide(window - 1, page_tokens) + 1 + planning_depth;
    pages += std::min(blocks, windowed);
  }
  return pages;
}

int32_t SampledVocab(const EngineConfig& config, const ModelSpec& spec) {
  return config.valid_vocab > 0 ? std::min(config.valid_vocab, spec.vocab_size) : spec.vocab_size;
}

int64_t ResultBytes(const SlotShape& slots) {
  return slots.max_step_outputs * static_cast<int64_t>(sizeof(TokenResult));
}

EngineInfo DescribeModel(const EngineConfig& config, const ModelSpec& spec,
                         const GenerationDefaults& defaults, const Device& device) {
  const DeviceInfo& facts = device.Info();
  EngineInfo info;
  info.architecture = spec.architecture;
  info.family = spec.family;
  info.device = facts.name;
  info.processor = facts.processor;
  info.isa = facts.isa;
  info.workers = facts.workers;
  info.processors = facts.processors;
  info.layers = static_cast<int32_t>(spec.layers.size());
  info.parameters = ParameterCount(spec);
  info.vocab_size = spec.vocab_size;
  info.model_context_len = spec.max_positions;
  info.planning_depth = facts.planning_depth;
  info.prefix_cache = config.prefix_cache;
  info.exact = facts.exact;
  info.defaults = defaults;
  info.defaults.eos_ids.clear();
  for (const int32_t id : defaults.eos_ids) {
    const bool drawn = id < SampledVocab(config, spec);
    (drawn ? info.defaults.eos_ids : info.ignored_eos_ids).push_back(id);
  }
  return info;
}

absl::StatusOr<EngineSizes> SizeEngine(const EngineConfig& config, const ModelSpec& spec,
                                       const GenerationDefaults& defaults, const Device& device) {
  const DeviceInfo& facts = device.Info();
  const auto sized = [&](const StepDefaults& steps) {
    return SizeWith(steps, config, spec, defaults, device);
  };
  if (facts.planning_depth > 1) return sized(kAsyncSteps);
  absl::StatusOr<EngineSizes> least = sized(kLeastSyncSteps);
  if (!least.ok()) return least;
  const int64_t context = std::min<int64_t>(WantedContext(config, spec), kHeldContext);
  const int64_t pages_each = PagesForSequence(least->plan, context, facts.planning_depth);
  // If memory is short, the steps of half as many workers take half as much.
  for (int32_t workers = facts.workers; workers > 2; workers /= 2) {
    StepDefaults steps = SyncSteps(workers, facts.matrix_units);
    absl::StatusOr<EngineSizes> larger = sized(steps);
    if (!larger.ok()) continue;
    if (const int64_t held = larger->info.pages / pages_each; held < steps.seqs) {
      steps.seqs = static_cast<int32_t>(std::max<int64_t>(held, kLeastSyncSteps.seqs));
      larger = sized(steps);
    }
    if (larger.ok() && LeavesCache(larger->info, least->info)) return larger;
  }
  return least;
}

}  // namespace baram
