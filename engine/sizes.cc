// SizeEngine: the defaults, and the search for the longest context that fits.
#include "engine/sizes.h"

#include <algorithm>
#include <bit>
#include <limits>

#include "absl/strings/str_cat.h"
#include "engine/memory_sum.h"
#include "engine/model/weight_layout.h"
#include "engine/model/workspace.h"
#include "engine/step_graphs.h"
#include "kernels/rounding.h"

namespace baram {
namespace {

// Defaults. A synchronous device computes a step while its decodes wait, so its steps are short:
// 512 tokens of a 1B model take two to six seconds on two cores.
constexpr int32_t kSyncSeqs = 32, kSyncTokens = 512;
constexpr int32_t kAsyncSeqs = 256, kAsyncTokens = 8192;
// Beside decodes steps are shorter yet: on two cores 128 tokens at a time are computed 0.98 times
// as fast as 512, and streams stand still a quarter of the time. For a GPU by arithmetic: 2048
// tokens are ten times what it multiplies while it reads the weights.
constexpr int32_t kSyncMixedTokens = 128, kAsyncMixedTokens = 2048;
// The default KV cache holds this much context for every sequence, within its share of the memory.
// On a device with memory of its own, which serves nothing else, it takes what is left, as far as
// running sequences can fill it.
constexpr int64_t kDefaultContext = 2048;
constexpr double kHostKvShare = 0.25;
// The engine's share of the host's memory: the rest is for the rest of the process.
constexpr double kUsableHostMemory = 0.92;
// The smallest useful cache: one sequence that can grow.
constexpr int64_t kMinPages = 2;
constexpr int64_t kMaxPages = 2'000'000'000;
constexpr int64_t kMaxBlocks = int64_t{1} << 24;
// What the sum leaves alone of a GPU's free memory: some of it are estimates, and kernels are
// loaded when they first run.
constexpr int64_t kSpareBytes = int64_t{256} << 20;

int64_t ShareOf(double share, int64_t bytes) {
  return static_cast<int64_t>(share * static_cast<double>(bytes));
}

// The memory this engine may use; no parts yet.
MemorySum MemoryFor(const EngineConfig& config, const DeviceInfo& device) {
  MemorySum sum;
  sum.device = device.name;
  sum.own_memory = device.own_memory;
  sum.total_bytes = device.memory_bytes;
  sum.free_bytes = device.free_bytes;
  if (!device.own_memory) {
    sum.usable_bytes = ShareOf(kUsableHostMemory, device.memory_bytes);
  } else if (config.kv_cache_bytes > 0) {
    sum.usable_bytes = device.free_bytes;
  } else {
    sum.share = config.gpu_memory_utilization;
    sum.usable_bytes = ShareOf(sum.share, device.memory_bytes);
  }
  return sum;
}

// Of numbers that are not negative. What 64 bits do not hold becomes the largest that they do.
int64_t Product(int64_t a, int64_t b) {
  int64_t product = 0;
  const bool over = __builtin_mul_overflow(a, b, &product);
  return over ? std::numeric_limits<int64_t>::max() : product;
}

// The longest sequence whose pages fit into `pages`.
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

// What running sequences can fill, within what is left of the memory.
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

// What the smallest useful cache holds.
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

// What a step may hold. After SizePages.
void SizeSteps(const EngineConfig& config, const ModelSpec& spec, const DeviceInfo& facts,
               EngineSizes* sizes) {
  const bool sync = facts.planning_depth == 1;
  EngineInfo& info = sizes->info;
  const auto choose = [sync](int32_t wanted, int32_t of_sync, int32_t of_async) {
    return wanted > 0 ? wanted : sync ? of_sync : of_async;
  };
  info.max_num_seqs = choose(config.max_num_seqs, kSyncSeqs, kAsyncSeqs);
  info.max_num_batched_tokens = choose(config.max_num_batched_tokens, kSyncTokens, kAsyncTokens);
  // Every running sequence decodes in every step.
  info.max_num_batched_tokens = std::max(info.max_num_batched_tokens, info.max_num_seqs);
  info.mixed_step_tokens =
      std::min(choose(config.mixed_step_tokens, kSyncMixedTokens, kAsyncMixedTokens),
               info.max_num_batched_tokens);
  sizes->max_logit_rows = std::clamp(config.max_logit_rows, 1, info.max_num_batched_tokens);
  if (facts.graphs && !config.enforce_eager) sizes->step_buckets = StepBuckets(info.max_num_seqs);

  SlotShape& slots = sizes->slots;
  slots.slots = info.max_num_seqs;
  slots.groups = static_cast<int32_t>(sizes->plan.groups.size());
  slots.vocab_size = spec.vocab_size;
  slots.max_step_tokens = info.max_num_batched_tokens;
  slots.max_step_outputs = info.max_num_seqs + sizes->max_logit_rows;
}

// The sum of the memory where sequences of `context` tokens are served, and the pages that are left
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
    // A share below 1 leaves more than that free by itself.
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
  if (absl::Status status = CheckShare(info.memory); !status.ok()) return status;
  if (absl::Status status = CheckFits(info.memory); !status.ok()) return status;
  info.pages = static_cast<int32_t>(std::min(bytes / info.page_bytes, kMaxPages));
  info.memory.parts.back().bytes = info.pages * info.page_bytes;
  info.kv_tokens = TokensThatFit(sizes->plan, info.pages, facts.planning_depth);
  return absl::OkStatus();
}

// Serves the longest context, `wanted` at most, whose rope tables and page tables leave room for a
// cache that holds it. Refuses for the shortest one.
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

}  // namespace

int64_t PagesForSequence(const KvPlan& plan, int64_t tokens, int32_t planning_depth) {
  const int64_t page_tokens = plan.shape.page_tokens;
  const int64_t blocks = CeilDivide(tokens, page_tokens);
  int64_t pages = 0;
  for (const KvGroup& group : plan.groups) {
    if (group.window == 0) {
      pages += blocks;
      continue;
    }
    // The window may begin anywhere in a page; every step in flight may have begun another.
    const int64_t windowed = CeilDivide(group.window - 1, page_tokens) + 1 + planning_depth;
    pages += std::min(blocks, windowed);
  }
  return pages;
}

int32_t DrawnIds(const EngineConfig& config, const ModelSpec& spec) {
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
    const bool drawn = id < DrawnIds(config, spec);
    (drawn ? info.defaults.eos_ids : info.ignored_eos_ids).push_back(id);
  }
  return info;
}

absl::StatusOr<EngineSizes> SizeEngine(const EngineConfig& config, const ModelSpec& spec,
                                       const GenerationDefaults& defaults, const Device& device) {
  EngineSizes sizes;
  sizes.info = DescribeModel(config, spec, defaults, device);
  if (absl::Status status = CheckEosIds(sizes.info); !status.ok()) return status;
  if (absl::Status status = SizePages(config, spec, device, &sizes); !status.ok()) return status;
  SizeSteps(config, spec, device.Info(), &sizes);
  const int32_t wanted = config.max_model_len > 0 ? config.max_model_len : spec.max_positions;
  if (absl::Status status = SizeContext(config, spec, device, wanted, &sizes); !status.ok()) {
    return status;
  }
  if (absl::Status status = CheckTables(sizes); !status.ok()) return status;
  return sizes;
}

}  // namespace baram
