// RandomWeights: weights computed from a counter, so that any thread can make any row of them.
#include "engine/model/random_weights.h"

#include <cmath>
#include <string_view>

#include "engine/model/weight_fill.h"
#include "engine/model/weight_layout.h"
#include "kernels/float_types.h"

namespace baram {
namespace {

// The finalizer of splitmix64: every bit of the result depends on every bit of the counter.
uint64_t Mix(uint64_t x) {
  x += 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

// The key of a tensor's numbers. It depends on the name and not on the position, so that a spec
// with one more layer keeps the weights of the others.
uint64_t TensorKey(uint64_t seed, std::string_view tensor) {
  uint64_t key = Mix(seed);
  for (const char c : tensor) key = Mix(key ^ static_cast<unsigned char>(c));
  return key;
}

// Calls use(i, element) for the elements begin + i, i < count, of a tensor, uniform in [-1, 1).
// Four come from one 64-bit number, since billions of them are made at start-up.
template <typename Use>
void ForUniform(uint64_t key, int64_t begin, int64_t count, const Use& use) {
  for (int64_t i = 0; i < count;) {
    const int64_t first = (begin + i) % 4;
    uint64_t four = Mix(key + static_cast<uint64_t>((begin + i) / 4)) >> (16 * first);
    for (int64_t j = first; j < 4 && i < count; ++j, ++i, four >>= 16) {
      use(i, static_cast<float>(static_cast<int16_t>(four)) / 32768.0f);
    }
  }
}

}  // namespace

absl::StatusOr<std::unique_ptr<Weights>> RandomWeights(const ModelSpec& spec, Device& device,
                                                       int32_t positions, uint64_t seed) {
  auto weights = std::make_unique<Weights>();
  weights->spec = spec;
  const WeightLayout layout = LayOutWeights(device.Info().weights, *weights);
  absl::Status status = PlaceWeights(layout, positions, device, *weights);
  if (!status.ok()) return status;

  const WeightSource source{
      .type = [](const WeightPart&) { return DType::kBF16; },
      // Unit variance in, unit variance out: activations keep their scale at any depth.
      .read_rows =
          [&](const WeightPart& part, int64_t k, int64_t begin, int64_t rows, void* out) {
            const uint64_t key = TensorKey(seed, part.tensor);
            const float scale = std::sqrt(3.0f / static_cast<float>(k));
            auto* values = static_cast<uint16_t*>(out);
            ForUniform(key, begin * k, rows * k,
                       [&](int64_t i, float uniform) { values[i] = BF16FromF32(scale * uniform); });
            return absl::OkStatus();
          },
      .read_vector =
          [&](VectorKind kind, const WeightPart& part, float* out) {
            const uint64_t key = TensorKey(seed, part.tensor);
            const float centre = kind == VectorKind::kPlainNorm ? 1.0f : 0.0f;
            ForUniform(key, 0, part.rows,
                       [&](int64_t i, float uniform) { out[i] = centre + 0.25f * uniform; });
            return absl::OkStatus();
          },
  };
  status = FillWeights(layout, source, device.Info().workers, nullptr, device, *weights);
  if (!status.ok()) return status;
  return weights;
}

}  // namespace baram
