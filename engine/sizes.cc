// SizeEngine: the defaults, and the search for the longest context that fits.
#include "engine/sizes.h"

#include <algorithm>
#include <bit>
#include <limits>
#include <utility>

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
// The share of the host's memory that the parts may take: the rest is for what they do not list.
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

// The largest number of [least, most] that `fits`, by halving: all below one that fits do so too.
// `least` is taken to fit.
template <typename Fits>
int64_t LargestThat(int64_t least, int64_t most, const Fits& fits) {
  while (least < most) {
    const int64_t middle = least + (most - least + 1) / 2;
    if (fits(middle)) {
      least = middle;
    } else {
      most = middle - 1;
    }
  }
  return least;
}

// The tokens of the longest sequence whose pages fit into `pages`.
int64_t TokensThatFit(const KvPlan& plan, int64_t pages, int32_t planning_depth) {
  const int64_t page_tokens = plan.shape.page_tokens;
  return page_tokens * LargestThat(0, kMaxBlocks, [&](int64_t blocks) {
           return PagesForSequence(plan, blocks * page_tokens, planning_depth) <= pages;
         });
}

// The context to serve if it fits.
int32_t WantedContext(const EngineConfig& config, const ModelSpec& spec) {
  return config.max_model_len > 0 ? config.max_model_len : spec.max_positions;
}

// Finds the sizes of one engine. The arguments must outlive it.
class Sizer {
 public:
  Sizer(const EngineConfig& config, const ModelSpec& spec, const Device& device)
      : config_(config),
        spec_(spec),
        device_(device),
        facts_(device.Info()),
        wanted_(WantedContext(config, spec)) {}

  // All sizes, with these default limits of steps. Call once.
  absl::StatusOr<EngineSizes> Size(const StepDefaults& steps) {
    info_ = UnsizedInfo(config_, spec_, device_);
    if (absl::Status status = SizePages(); !status.ok()) return status;
    SizeSteps(steps);
    if (absl::Status status = SizeContext(); !status.ok()) return status;
    if (absl::Status status = CheckTables(); !status.ok()) return status;
    return std::move(sizes_);
  }

 private:
  absl::Status SizePages() {
    info_.page_tokens = config_.page_tokens > 0 ? config_.page_tokens : facts_.page_tokens;
    if (!std::has_single_bit(static_cast<uint32_t>(info_.page_tokens))) {
      return absl::InvalidArgumentError(
          absl::StrCat("page tokens must be a power of two, not ", info_.page_tokens));
    }
    sizes_.plan = PlanKv(spec_, info_.page_tokens);
    info_.page_bytes = device_.KvBytesPerPage(sizes_.plan.shape);
    info_.kv_bytes_per_token = KvBytesPerToken(sizes_.plan, info_.page_bytes);
    return absl::OkStatus();
  }

  // The limits of a step.
  void SizeSteps(const StepDefaults& steps) {
    const auto choose = [](int32_t wanted, int32_t by_default) {
      return wanted > 0 ? wanted : by_default;
    };
    // A default does not raise a limit that was set.
    const int32_t seqs = config_.max_num_batched_tokens > 0
                             ? std::min(steps.seqs, config_.max_num_batched_tokens)
                             : steps.seqs;
    info_.max_num_seqs = choose(config_.max_num_seqs, seqs);
    info_.max_num_batched_tokens = choose(config_.max_num_batched_tokens, steps.tokens);
    // Every running sequence may decode in every step.
    info_.max_num_batched_tokens = std::max(info_.max_num_batched_tokens, info_.max_num_seqs);
    info_.mixed_step_tokens = std::min(choose(config_.mixed_step_tokens, steps.mixed_tokens),
                                       info_.max_num_batched_tokens);
    info_.max_logit_rows = std::clamp(config_.max_logit_rows, 1, info_.max_num_batched_tokens);
    if (facts_.graphs && !config_.enforce_eager) {
      sizes_.step_buckets = StepBuckets(info_.max_num_seqs);
    }

    SlotShape& slots = sizes_.slots;
    slots.slots = info_.max_num_seqs;
    slots.groups = sizes_.plan.groups();
    slots.vocab_size = spec_.vocab_size;
    slots.max_step_tokens = info_.max_num_batched_tokens;
    slots.max_step_outputs = info_.max_num_seqs + info_.max_logit_rows;
    slots.logit_rows = std::max(info_.max_num_seqs, config_.logit_rows_at_once);
  }

  // Chooses the longest context, the wanted one at most, whose rope tables and page tables leave
  // room for a cache that holds it. If even the shortest one does not fit, returns its error.
  absl::Status SizeContext() {
    const auto holds = [&](int64_t context) {
      return SizeCache(context).ok() && info_.kv_tokens >= context;
    };
    if (holds(wanted_)) return absl::OkStatus();
    return SizeCache(LargestThat(LeastContext(), wanted_ - 1, holds));
  }

  // The cache if sequences of `context` tokens are served.
  absl::Status SizeCache(int64_t context) {
    info_.max_model_len = static_cast<int32_t>(context);
    info_.weight_bytes = WeightBytes(spec_, device_, info_.max_model_len);
    sizes_.slots.max_pages_per_slot = static_cast<int32_t>(CeilDivide(context, info_.page_tokens));
    info_.memory = BudgetWithoutCache();
    const absl::StatusOr<int64_t> bytes = CacheBytes();
    if (!bytes.ok()) return bytes.status();
    info_.memory.parts.push_back({"KV cache", *bytes});
    if (absl::Status status = CheckFreeMemory(info_.memory); !status.ok()) return status;
    if (absl::Status status = CheckFits(info_.memory); !status.ok()) return status;
    info_.pages = static_cast<int32_t>(std::min(*bytes / info_.page_bytes, kMaxPages));
    info_.memory.parts.back().bytes = info_.pages * info_.page_bytes;
    info_.kv_tokens = TokensThatFit(sizes_.plan, info_.pages, facts_.planning_depth);
    // With a window in every layer, a sequence of any length fits: so many of the longest.
    const std::vector<int32_t>& windows = sizes_.plan.windows;
    if (std::ranges::find(windows, 0) == windows.end()) {
      info_.kv_tokens = std::min(info_.kv_tokens, context * (info_.pages / PagesFor(context)));
    }
    return absl::OkStatus();
  }

  // What everything but the cache takes.
  MemoryBudget BudgetWithoutCache() const {
    const int64_t activations = WorkspaceBytes(spec_, device_, sizes_.plan.shape, sizes_.slots) +
                                TakenBytes(facts_, ResultBytes(sizes_.slots));
    MemoryBudget budget = MemoryFor(config_, facts_);
    budget.parts = {{"weights", info_.weight_bytes}, {"activations", activations}};
    const DeviceUse use = device_.OwnUse(sizes_.slots);
    budget.parts.push_back({"slots and work space", use.state_bytes});
    if (facts_.own_memory) budget.parts.push_back({"context and code", use.runtime_bytes});
    if (!sizes_.step_buckets.empty()) {
      budget.parts.push_back({"graphs", StepGraphBytes(spec_, device_, sizes_.step_buckets)});
    }
    if (!facts_.own_memory && config_.host_parts) {
      for (MemoryBudget::Part& part : config_.host_parts(info_.max_model_len)) {
        budget.parts.push_back(std::move(part));
      }
    }
    if (facts_.own_memory) {
      // What a share below 1 leaves free counts toward it.
      const int64_t outside = std::max<int64_t>(0, facts_.free_bytes - budget.usable_bytes);
      if (outside < kSpareBytes) budget.parts.push_back({"to spare", kSpareBytes - outside});
    }
    return budget;
  }

  // What the cache takes, with all other parts in the budget. FailedPrecondition: the operator
  // wants less than is useful.
  absl::StatusOr<int64_t> CacheBytes() const {
    const int64_t least = PagesFor(LeastContext()) * info_.page_bytes;
    if (config_.kv_cache_bytes > 0 && config_.kv_cache_bytes < least) {
      return absl::FailedPreconditionError(absl::StrCat(
          "kv-cache-bytes ", config_.kv_cache_bytes, " are too few: the smallest useful ",
          "KV cache, which holds ", LeastContext(), " tokens, takes ", least));
    }
    return std::max(least, config_.kv_cache_bytes > 0 ? config_.kv_cache_bytes : DefaultBytes());
  }

  // What running sequences can fill of the cache, within the memory that is left.
  int64_t DefaultBytes() const {
    const int64_t left = info_.memory.usable_bytes - PartsBytes(info_.memory);
    const int64_t each = PagesFor(facts_.own_memory ? wanted_ : std::min(wanted_, kDefaultContext));
    const int64_t useful =
        Product(std::max(PagesFor(wanted_), Product(each, info_.max_num_seqs)), info_.page_bytes);
    const int64_t share = ShareOf(kHostKvShare, facts_.memory_bytes);
    return std::min({useful, left, facts_.own_memory ? left : share});
  }

  // The tokens that the smallest useful cache holds.
  int64_t LeastContext() const { return std::min(wanted_, kMinPages * info_.page_tokens); }

  int64_t PagesFor(int64_t tokens) const {
    return PagesForSequence(sizes_.plan, tokens, facts_.planning_depth);
  }

  absl::Status CheckTables() const {
    const int64_t entries = sizes_.slots.TableEntries();
    if (entries <= kMaxTableEntries) return absl::OkStatus();
    return absl::FailedPreconditionError(
        absl::StrCat("page tables of ", info_.max_num_seqs, " sequences of ", info_.max_model_len,
                     " tokens have ", entries, " entries, and ", kMaxTableEntries,
                     " are the most: lower max-num-seqs or max-model-len, or raise page-tokens"));
  }

  const EngineConfig& config_;
  const ModelSpec& spec_;
  const Device& device_;
  const DeviceInfo& facts_;
  const int64_t wanted_;  // context
  EngineSizes sizes_;
  EngineInfo& info_ = sizes_.info;
};

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

int64_t ResultBytes(const SlotShape& slots) {
  return slots.max_step_outputs * static_cast<int64_t>(sizeof(TokenResult));
}

EngineInfo UnsizedInfo(const EngineConfig& config, const ModelSpec& spec, const Device& device) {
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
  return info;
}

absl::StatusOr<EngineSizes> SizeEngine(const EngineConfig& config, const ModelSpec& spec,
                                       const Device& device) {
  const DeviceInfo& facts = device.Info();
  const auto sized = [&](const StepDefaults& steps) {
    return Sizer(config, spec, device).Size(steps);
  };
  if (!facts.synchronous()) return sized(kAsyncSteps);
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
