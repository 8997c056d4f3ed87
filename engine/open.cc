// Opening and inspecting, which report the same errors in the same order.
#include "engine/open.h"

#include <algorithm>
#include <map>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "engine/blame.h"
#include "engine/memory_budget.h"
#include "engine/model/hf_config.h"
#include "engine/model/random_weights.h"
#include "engine/model/support.h"
#include "engine/model/weight_layout.h"
#include "engine/sizes.h"
#include "engine/steady_time.h"
#include "engine/warm_up.h"
#include "spdlog/spdlog.h"

namespace baram {
namespace {

// A setting that may be left unset.
struct OptionalSetting {
  const char* name;
  bool (*leave_out)(EngineConfig& config);  // returns whether it was set
};

// Resets a field to its default.
template <auto kField>
bool LeaveOut(EngineConfig& config) {
  const auto unset = EngineConfig().*kField;
  return std::exchange(config.*kField, unset) != unset;
}

constexpr OptionalSetting kOptionalSettings[] = {
    {"isa", LeaveOut<&EngineConfig::isa>},
    {"threads", LeaveOut<&EngineConfig::threads>},
    {"max-model-len", LeaveOut<&EngineConfig::max_model_len>},
    {"kv-cache-bytes", LeaveOut<&EngineConfig::kv_cache_bytes>},
    {"page-tokens", LeaveOut<&EngineConfig::page_tokens>},
    {"max-num-seqs", LeaveOut<&EngineConfig::max_num_seqs>},
    {"max-num-batched-tokens", LeaveOut<&EngineConfig::max_num_batched_tokens>},
};

// `refused`, blamed on the one setting without which the rest `works`. Unchanged if leaving out
// none of them helps, or any one of several does. If none is set, it is the machine that does not
// suffice: FailedPrecondition becomes ResourceExhausted.
template <typename Works>
absl::Status BlameOptional(const absl::Status& refused, const EngineConfig& config, Works works) {
  if (!BlamedSetting(refused).empty()) return refused;
  const char* blamed = nullptr;
  bool has_any = false;
  for (const OptionalSetting& setting : kOptionalSettings) {
    EngineConfig without = config;
    if (!setting.leave_out(without)) continue;
    has_any = true;
    if (!works(without)) continue;
    if (blamed != nullptr) return refused;
    blamed = setting.name;
  }
  if (!has_any && absl::IsFailedPrecondition(refused)) {
    return absl::ResourceExhaustedError(refused.message());
  }
  if (blamed == nullptr) return refused;
  return BlameSetting(absl::InvalidArgumentError(refused.message()), blamed);
}

std::unique_ptr<Device> OpenConfiguredDevice(const EngineConfig& config, std::string* error) {
  return OpenDevice(config.device,
                    {.threads = config.threads,
                     .isa = config.isa,
                     .pin_threads = config.pin_threads,
                     .overlap_kernels = config.overlap_kernels,
                     .shared_carveout = config.shared_carveout,
                     .warn = config.warn,
                     .lost = config.lost},
                    error);
}

absl::StatusOr<std::unique_ptr<Device>> OpenDeviceOrBlame(const EngineConfig& config) {
  std::string error;
  std::unique_ptr<Device> device = OpenConfiguredDevice(config, &error);
  if (device != nullptr) return device;
  const auto opens = [](const EngineConfig& other) {
    std::string ignored;
    return OpenConfiguredDevice(other, &ignored) != nullptr;
  };
  const absl::Status refused = BlameOptional(absl::ResourceExhaustedError(error), config, opens);
  // The default device should exist on every machine, so something is missing here; any other
  // device was asked for.
  const bool asked_for = config.device != EngineConfig().device;
  if (!asked_for || !BlamedSetting(refused).empty()) return refused;
  return BlameSetting(absl::InvalidArgumentError(error), "device");
}

absl::Status CheckSupportOrBlame(const EngineConfig& config, const Vocabulary& vocabulary,
                                 const ModelSpec& spec, const Device& device) {
  if (vocabulary.needed > spec.vocab_size) {
    return absl::DataLossError(
        absl::StrCat(config.model, ": the tokenizer produces token id ", vocabulary.needed - 1,
                     " for even the simplest text, but vocab_size of config.json is ",
                     spec.vocab_size, ": the tokenizer files belong to another model"));
  }
  const auto check = [&](const EngineConfig& one) {
    return CheckSupport(spec, device, one.page_tokens);
  };
  const absl::Status status = check(config);
  if (status.ok()) return status;
  return BlameOptional(status, config, [&](const EngineConfig& one) { return check(one).ok(); });
}

absl::StatusOr<EngineSizes> SizeEngineOrBlame(const EngineConfig& config, const ModelSpec& spec,
                                              const Device& device) {
  absl::StatusOr<EngineSizes> sizes = SizeEngine(config, spec, device);
  if (sizes.ok()) return sizes;
  return BlameOptional(sizes.status(), config, [&](const EngineConfig& other) {
    return SizeEngine(other, spec, device).ok();
  });
}

// Allocates the memory that a model needs in addition to its weights, and warms it up.
absl::StatusOr<std::unique_ptr<LoadedModel>> MakeReady(const EngineConfig& config,
                                                       const ModelSpec& spec, int32_t valid_vocab,
                                                       EngineSizes sizes,
                                                       std::unique_ptr<Device> device,
                                                       std::unique_ptr<Weights> weights) {
  auto model = std::make_unique<LoadedModel>();
  model->info = std::move(sizes.info);
  model->info.weight_bytes = weights->bytes;
  model->device = std::move(device);
  model->weights = std::move(weights);
  model->plan = std::move(sizes.plan);
  model->slots = sizes.slots;
  model->step_buckets = std::move(sizes.step_buckets);
  model->valid_vocab = valid_vocab;
  const EngineInfo& info = model->info;
  absl::StatusOr<std::unique_ptr<Workspace>> workspace =
      MakeWorkspace(spec, *model->device, model->plan.shape, model->slots);
  if (!workspace.ok()) return workspace.status();
  model->workspace = *std::move(workspace);
  model->results_memory = model->device->Alloc(ResultBytes(model->slots));
  if (model->results_memory.data() == nullptr || !model->device->ReserveSlots(model->slots)) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "the device ", info.device, " has no memory for the state of ", info.max_num_seqs,
        " sequences and steps of ", info.max_num_batched_tokens,
        " tokens: lower max-num-seqs or max-num-batched-tokens, or free memory there"));
  }
  // The largest comes last: what a device can't do without is allocated before it.
  model->pool_memory = model->device->Alloc(info.pages * info.page_bytes);
  if (model->pool_memory.data() == nullptr) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "the device ", info.device, " has no memory for a KV cache of ",
        ShowBytes(info.pages * info.page_bytes), ": lower kv-cache-bytes, or free memory there"));
  }
  model->pool = {model->pool_memory.data(), model->plan.shape, info.page_bytes, info.pages};
  const int64_t free_bytes = model->device->FreeBytes();
  const absl::Status warm = WarmUp(*model);
  if (absl::IsDataLoss(warm)) {
    return absl::DataLossError(absl::StrCat(config.model, ": ", warm.message()));
  }
  if (!warm.ok()) return warm;
  model->info.warm_up_bytes = free_bytes - model->device->FreeBytes();
  return model;
}

std::string DescribeAttention(const ModelSpec& spec) {
  std::map<std::pair<int32_t, bool>, int32_t> kinds;  // (-window, has RoPE) -> layers
  for (const LayerSpec& layer : spec.layers) ++kinds[{-layer.window, layer.rope >= 0}];
  std::vector<std::string> parts;
  for (const auto& [kind, layers] : kinds) {
    const auto [minus_window, rope] = kind;
    const char* noun = parts.empty() ? (layers == 1 ? " layer" : " layers") : "";
    parts.push_back(absl::StrCat(layers, noun, minus_window == 0 ? " full" : " of window ",
                                 minus_window == 0 ? "" : absl::StrCat(-minus_window),
                                 rope ? "" : " without RoPE"));
  }
  return absl::StrJoin(parts, ", ");
}

// The common first part of opening and inspecting, so that they report the same errors in the same
// order.
struct ReadAndOpened {
  ModelSpec spec;
  GenerationDefaults defaults;
  std::unique_ptr<Device> device;
  Vocabulary vocabulary;
};

absl::StatusOr<ReadAndOpened> ReadAndOpen(const EngineConfig& config) {
  absl::StatusOr<ModelSpec> spec = ReadModelSpec(config.model);
  if (!spec.ok()) return spec.status();
  if (config.max_model_len > spec->max_positions) {
    return BlameSetting(
        absl::InvalidArgumentError(absl::StrCat("max-model-len is ", config.max_model_len,
                                                " but the model was made for contexts of up to ",
                                                spec->max_positions, " tokens")),
        "max-model-len");
  }
  absl::StatusOr<GenerationDefaults> defaults = ReadGenerationDefaults(config.model);
  if (!defaults.ok()) return defaults.status();
  absl::StatusOr<std::unique_ptr<Device>> device = OpenDeviceOrBlame(config);
  if (!device.ok()) return device.status();
  absl::StatusOr<Vocabulary> vocabulary = Vocabulary();
  if (config.vocabulary) vocabulary = config.vocabulary();
  if (!vocabulary.ok()) return vocabulary.status();
  return ReadAndOpened{*std::move(spec), *std::move(defaults), *std::move(device), *vocabulary};
}

}  // namespace

int32_t SampledVocab(const Vocabulary& vocabulary, const ModelSpec& spec) {
  return vocabulary.valid > 0 ? std::min(vocabulary.valid, spec.vocab_size) : spec.vocab_size;
}

absl::Status SetGenerationDefaults(const GenerationDefaults& defaults, int32_t sampled_vocab,
                                   EngineInfo* info) {
  info->defaults = defaults;
  std::vector<int32_t>& drawn = info->defaults.eos_ids;
  const auto ignored = std::stable_partition(drawn.begin(), drawn.end(),
                                             [&](int32_t id) { return id < sampled_vocab; });
  info->ignored_eos_ids.assign(ignored, drawn.end());
  drawn.erase(ignored, drawn.end());
  if (drawn.size() <= kMaxEosIds) return absl::OkStatus();
  return absl::UnimplementedError(
      absl::StrCat("config.json and generation_config.json name ", drawn.size(),
                   " EOS ids (eos_token_id), but at most ", kMaxEosIds, " can be served"));
}

absl::StatusOr<std::unique_ptr<LoadedModel>> OpenModel(const EngineConfig& config) {
  const SteadyTime begin = std::chrono::steady_clock::now();
  absl::StatusOr<ReadAndOpened> found = ReadAndOpen(config);
  if (!found.ok()) return found.status();
  auto& [spec, defaults, device, vocabulary] = *found;
  if (absl::Status status = CheckSupportOrBlame(config, vocabulary, spec, *device); !status.ok()) {
    return status;
  }
  absl::StatusOr<EngineSizes> sizes = SizeEngineOrBlame(config, spec, *device);
  if (!sizes.ok()) return sizes.status();
  const int32_t sampled_vocab = SampledVocab(vocabulary, spec);
  if (absl::Status status = SetGenerationDefaults(defaults, sampled_vocab, &sizes->info);
      !status.ok()) {
    return status;
  }
  spdlog::info(Describe(sizes->info.memory));
  if (const std::string shortage = DescribeShortage(sizes->info.memory); !shortage.empty()) {
    spdlog::warn(shortage);
  }
  if (const std::vector<int32_t>& ignored = sizes->info.ignored_eos_ids; !ignored.empty()) {
    spdlog::warn(
        "EOS ids {} are ignored: config.json or generation_config.json names them, and only "
        "ids below {} are drawn",
        absl::StrJoin(ignored, ", "), sampled_vocab);
  }
  absl::StatusOr<std::unique_ptr<Weights>> weights =
      LoadWeights(config.model, spec, *device,
                  {.positions = sizes->info.max_model_len,
                   .threads = sizes->info.workers,
                   .progress = config.load_progress});
  if (!weights.ok()) return weights.status();
  absl::StatusOr<std::unique_ptr<LoadedModel>> model = MakeReady(
      config, spec, sampled_vocab, *std::move(sizes), std::move(device), *std::move(weights));
  if (model.ok()) {
    (*model)->info.load_s = SecondsSince(begin);
  }
  return model;
}

absl::StatusOr<std::unique_ptr<LoadedModel>> OpenRandomModel(const EngineConfig& config,
                                                             const ModelSpec& spec,
                                                             std::unique_ptr<Device> device,
                                                             uint64_t seed) {
  if (absl::Status status = CheckSupport(spec, *device, config.page_tokens); !status.ok()) {
    return status;
  }
  absl::StatusOr<EngineSizes> sizes = SizeEngine(config, spec, *device);
  if (!sizes.ok()) return sizes.status();
  absl::StatusOr<std::unique_ptr<Weights>> weights =
      RandomWeights(spec, *device, sizes->info.max_model_len, seed);
  if (!weights.ok()) return weights.status();
  return MakeReady(config, spec, spec.vocab_size, *std::move(sizes), std::move(device),
                   *std::move(weights));
}

absl::StatusOr<Inspection> InspectModel(const EngineConfig& config) {
  absl::StatusOr<ReadAndOpened> found = ReadAndOpen(config);
  if (!found.ok()) return found.status();
  const auto& [spec, defaults, device, vocabulary] = *found;

  Inspection inspection;
  inspection.memory_bytes = device->Info().memory_bytes;
  inspection.attention = DescribeAttention(spec);
  inspection.servable = CheckSupportOrBlame(config, vocabulary, spec, *device);
  absl::StatusOr<EngineSizes> sizes = SizeEngineOrBlame(config, spec, *device);
  if (sizes.ok()) {
    inspection.info = std::move(sizes->info);
  } else {
    inspection.servable.Update(sizes.status());
    inspection.info = UnsizedInfo(config, spec, *device);
    inspection.info.weight_bytes = WeightBytes(spec, *device, spec.max_positions);
  }
  inspection.servable.Update(
      SetGenerationDefaults(defaults, SampledVocab(vocabulary, spec), &inspection.info));
  // After the sizes, as opening loads the weights after them.
  inspection.servable.Update(CheckCheckpoint(config.model, spec, &inspection.checkpoint_bytes));
  return inspection;
}

}  // namespace baram
