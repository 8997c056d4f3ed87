// WeightLayout: which checkpoint tensors make up each weight of a model. The loader, the random
// weights, the sizes and the list of expected tensors are all derived from it.
#ifndef BARAM_ENGINE_MODEL_WEIGHT_LAYOUT_H_
#define BARAM_ENGINE_MODEL_WEIGHT_LAYOUT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "engine/model/spec.h"
#include "engine/model/weights.h"
#include "kernels/device.h"
#include "kernels/tensor.h"

namespace baram {

enum class VectorKind : uint8_t { kPlainNorm, kZeroCentredNorm, kBias };

// The rows of a matrix that one checkpoint tensor fills; for a vector, its elements.
struct WeightPart {
  std::string tensor;  // full name in the checkpoint
  int64_t rows = 0;
};

// Parts follow one another from row 0.
struct MatrixLayout {
  PackedWeight* target = nullptr;
  WeightShape shape;
  std::vector<WeightPart> parts;
};

struct VectorLayout {
  const float** target = nullptr;
  VectorKind kind = VectorKind::kPlainNorm;
  std::vector<WeightPart> parts;

  int64_t Elements() const;
  // Rounded up, so that vectors that share a buffer are aligned.
  int64_t AlignedElements() const;
};

struct WeightLayout {
  std::vector<MatrixLayout> matrices;
  std::vector<VectorLayout> vectors;
};

// The layout of weights.spec; targets point into `weights`, whose layers it creates.
WeightLayout LayOutWeights(Format format, Weights& weights);

// Elements of the buffer that holds all vectors, one after the other.
int64_t VectorElements(const WeightLayout& layout);

// A tensor that a checkpoint of this spec must have.
struct ExpectedTensor {
  std::string name;
  std::vector<int64_t> shape;
};
std::vector<ExpectedTensor> ExpectedTensors(const ModelSpec& spec);

// The number of parameters, and the bytes of device memory that Weights will hold.
int64_t ParameterCount(const ModelSpec& spec);
int64_t WeightBytes(const ModelSpec& spec, const Device& device, int32_t positions);

}  // namespace baram

#endif  // BARAM_ENGINE_MODEL_WEIGHT_LAYOUT_H_
