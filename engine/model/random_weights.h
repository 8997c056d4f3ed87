// RandomWeights: a model without a checkpoint, for benchmarks and tests.
#ifndef BARAM_ENGINE_MODEL_RANDOM_WEIGHTS_H_
#define BARAM_ENGINE_MODEL_RANDOM_WEIGHTS_H_

#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "engine/model/spec.h"
#include "engine/model/weights.h"
#include "kernels/device.h"

namespace baram {

// Random weights of the spec's shapes. The same seed gives the same weights on every device.
// ResourceExhausted: the device has no memory for them.
absl::StatusOr<std::unique_ptr<Weights>> RandomWeights(const ModelSpec& spec, Device& device,
                                                       int32_t positions, uint64_t seed);

}  // namespace baram

#endif  // BARAM_ENGINE_MODEL_RANDOM_WEIGHTS_H_
