// PlaceWeights allocates the device memory of the weights of a layout; FillWeights fills it from a
// source of tensors.
#ifndef BARAM_ENGINE_MODEL_WEIGHT_FILL_H_
#define BARAM_ENGINE_MODEL_WEIGHT_FILL_H_

#include <cstdint>
#include <functional>

#include "absl/status/status.h"
#include "engine/model/load_progress.h"
#include "engine/model/weight_layout.h"
#include "engine/model/weights.h"
#include "kernels/device.h"

namespace baram {

// Where tensors come from. `type` and `read_rows` are called from several threads at once.
struct WeightSource {
  std::function<DType(const WeightPart& part)> type;
  // Rows [begin, begin + rows) of a matrix tensor of `k` columns, densely.
  std::function<absl::Status(const WeightPart& part, int64_t k, int64_t begin, int64_t rows,
                             void* out)>
      read_rows;
  // A whole vector tensor, as it is stored (norms not folded).
  std::function<absl::Status(VectorKind kind, const WeightPart& part, float* out)> read_vector;
};

// Allocates every weight and rope table of `weights`, and sets the pointers to them.
// ResourceExhausted: the device has no memory for it.
absl::Status PlaceWeights(const WeightLayout& layout, int32_t positions, Device& device,
                          Weights& weights);

// Fills what PlaceWeights allocated; `layout` must be that of the same weights. The calling thread
// is the first of `threads`, of which the system may start fewer, and the only one that calls
// `progress`.
absl::Status FillWeights(const WeightLayout& layout, const WeightSource& source, int32_t threads,
                         const LoadProgress& progress, Device& device, Weights& weights);

}  // namespace baram

#endif  // BARAM_ENGINE_MODEL_WEIGHT_FILL_H_
