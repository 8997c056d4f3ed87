// Opening a model: device, support, sizes, weights; and inspecting one without loading it.
#ifndef BARAM_ENGINE_OPEN_H_
#define BARAM_ENGINE_OPEN_H_

#include <cstdint>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/config.h"
#include "engine/engine.h"
#include "engine/loaded_model.h"
#include "engine/model/generation_defaults.h"
#include "engine/model/spec.h"
#include "kernels/device.h"

namespace baram {

// Opens config.device, checks support (I12), loads config.model, runs the warm-up steps. Errors are
// for the operator.
absl::StatusOr<std::unique_ptr<LoadedModel>> OpenModel(const EngineConfig& config);

// A model of random weights on a device that is already open: for benchmarks and tests.
absl::StatusOr<std::unique_ptr<LoadedModel>> OpenRandomModel(const EngineConfig& config,
                                                             const ModelSpec& spec,
                                                             std::unique_ptr<Device> device,
                                                             uint64_t seed);

// How many ids may be drawn: all below the returned one.
int32_t SampledVocab(const Vocabulary& vocabulary, const ModelSpec& spec);

// Sets the fields of `info` that come from the model folder's `defaults`: its EOS ids are those
// below `sampled_vocab`. Unimplemented: they are too many.
absl::Status SetGenerationDefaults(const GenerationDefaults& defaults, int32_t sampled_vocab,
                                   EngineInfo* info);

// See Engine::Inspect.
absl::StatusOr<Inspection> InspectModel(const EngineConfig& config);

}  // namespace baram

#endif  // BARAM_ENGINE_OPEN_H_
