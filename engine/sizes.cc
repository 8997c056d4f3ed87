// SizeEngine: how many pages, slots and tokens fit a machine.
#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "engine/loaded_model.h"

namespace baram {
namespace {

// Defaults. A synchronous device computes a step while its decodes wait, so its steps are short:
// 512 tokens of a 1B model take about a second on two cores.
constexpr int32_t kSyncSeqs = 32, kSyncTokens = 512;
constexpr int32_t kAsyncSeqs = 256, kAsyncTokens = 8192;
// The default KV cache holds this much context for every sequence, within its share of the memory.
// On an asynchronous device, whose memory serves nothing else, it takes what is left.
constexpr int64_t kDefaultContext = 2048;
constexpr double kSyncKvShare = 0.25;
// Left for the rest of the process.
constexpr double kUsableMemory = 0.92;
constexpr int64_t kMostBlocks = int64_t{1} << 24;

int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

std::string Gigabytes(double bytes) { return absl::StrFormat("%.2f GB", bytes / 1e9); }

// The longest sequence whose pages fit into `pages`.
int64_t TokensThatFit(const KvPlan& plan, int64_t pages, int32_t planning_depth) {
  const int64_t page_tokens = plan.shape.page_tokens;
  int64_t low = 0, high = kMostBlocks;
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

}  // namespace

int64_t PagesForSequence(const KvPlan& plan, int64_t tokens, int32_t planning_depth) {
  const int64_t page_tokens = plan.shape.page_tokens;
  const int64_t blocks = CeilDiv(tokens, page_tokens);
  int64_t pages = 0;
  for (const KvGroup& group : plan.groups) {
    // The window may begin anywhere in a page; every step in flight may have begun another.
    const int64_t windowed = CeilDiv(group.window - 1, page_tokens) + 1 + planning_depth;
    pages += group.window == 0 ? blocks : std::min(blocks, windowed);
  }
  return pages;
}

absl::StatusOr<EngineSizes> SizeEngine(const EngineConfig& config, const ModelSpec& spec,
                                       const GenerationDefaults& defaults, const Device& device) {
  const DeviceInfo& facts = device.Info();
  const bool sync = facts.planning_depth == 1;
  EngineSizes sizes;
  EngineInfo& info = sizes.info;
  info.architecture = spec.architecture;
  info.family = spec.family;
  info.device = facts.name;
  info.processor = facts.processor;
  info.isa = facts.isa;
  info.workers = facts.workers;
  info.layers = static_cast<int32_t>(spec.layers.size());
  info.parameters = ParameterCount(spec);
  info.vocab_size = spec.vocab_size;
  info.trained_model_len = spec.max_positions;
  info.planning_depth = facts.planning_depth;
  info.prefix_cache = config.prefix_cache;
  info.exact = facts.exact;
  info.eos_ids = defaults.eos_ids;
  info.bos_id = defaults.bos_id;
  info.temperature = defaults.temperature;
  info.top_p = defaults.top_p;
  info.top_k = defaults.top_k;
  info.min_p = defaults.min_p;
  info.repetition_penalty = defaults.repetition_penalty;
  info.do_sample = defaults.do_sample;

  info.page_tokens = config.page_tokens > 0 ? config.page_tokens : facts.page_tokens;
  if ((info.page_tokens & (info.page_tokens - 1)) != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("page tokens must be a power of two, not ", info.page_tokens));
  }
  info.max_num_seqs = config.max_num_seqs > 0 ? config.max_num_seqs : sync ? kSyncSeqs : kAsyncSeqs;
  info.max_num_batched_tokens = config.max_num_batched_tokens > 0 ? config.max_num_batched_tokens
                                : sync                            ? kSyncTokens
                                                                  : kAsyncTokens;
  // Every running sequence decodes in every step.
  info.max_num_batched_tokens = std::max(info.max_num_batched_tokens, info.max_num_seqs);
  sizes.max_logit_rows = std::clamp(config.max_logit_rows, 1, info.max_num_batched_tokens);

  sizes.plan = PlanKv(spec, info.page_tokens);
  info.page_bytes = device.KvBytesPerPage(sizes.plan.shape);
  info.kv_bytes_per_token = KvBytesPerToken(sizes.plan, info.page_bytes);
  const int32_t wanted = config.max_model_len > 0 ? config.max_model_len : spec.max_positions;

  SlotShape& slots = sizes.slots;
  slots.slots = info.max_num_seqs;
  slots.groups = static_cast<int32_t>(sizes.plan.groups.size());
  slots.max_pages_per_slot = static_cast<int32_t>(CeilDiv(wanted, info.page_tokens));
  slots.vocab_size = spec.vocab_size;
  slots.max_step_tokens = info.max_num_batched_tokens;
  slots.max_step_outputs = info.max_num_seqs + sizes.max_logit_rows;

  info.weight_bytes = WeightBytes(spec, device, wanted);
  const int64_t fixed = info.weight_bytes + WorkspaceBytes(spec, device, sizes.plan.shape, slots);
  const double left = kUsableMemory * static_cast<double>(facts.memory_bytes) - fixed;
  const int64_t whole_pages = PagesForSequence(sizes.plan, wanted, facts.planning_depth);
  double kv_bytes = static_cast<double>(config.kv_cache_bytes);
  if (config.kv_cache_bytes == 0) {
    const int64_t each = PagesForSequence(sizes.plan, std::min<int64_t>(wanted, kDefaultContext),
                                          facts.planning_depth);
    const double useful =
        static_cast<double>(std::max(whole_pages, each * info.max_num_seqs)) * info.page_bytes;
    const double most =
        sync ? std::min(left, kSyncKvShare * static_cast<double>(facts.memory_bytes)) : left;
    kv_bytes = std::min(useful, most);
  } else if (kv_bytes > left) {
    return absl::FailedPreconditionError(absl::StrCat(
        "weights and work space need ", Gigabytes(fixed), " and the KV cache ", Gigabytes(kv_bytes),
        ", but ", facts.name, " has ", Gigabytes(static_cast<double>(facts.memory_bytes)),
        ": lower the KV cache bytes or the context"));
  }
  const double pages = std::floor(kv_bytes / static_cast<double>(info.page_bytes));
  info.pages = static_cast<int32_t>(std::clamp(pages, 0.0, 2e9));
  info.kv_tokens = TokensThatFit(sizes.plan, info.pages, facts.planning_depth);
  if (info.kv_tokens < std::min<int64_t>(wanted, 2 * info.page_tokens)) {
    return absl::FailedPreconditionError(absl::StrCat(
        "weights and work space need ", Gigabytes(fixed), " of the ",
        Gigabytes(static_cast<double>(facts.memory_bytes)), " that ", facts.name,
        " has, which leaves no room for a KV cache: give the process more memory, or lower the "
        "tokens of a step"));
  }
  info.max_model_len = static_cast<int32_t>(std::min<int64_t>(wanted, info.kv_tokens));
  slots.max_pages_per_slot = static_cast<int32_t>(CeilDiv(info.max_model_len, info.page_tokens));
  return sizes;
}

}  // namespace baram
