// Weights: a checkpoint on a device, packed. Loading is strict: no tensor may be missing or left
// over.
#ifndef BARAM_ENGINE_MODEL_WEIGHTS_H_
#define BARAM_ENGINE_MODEL_WEIGHTS_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/model/load_progress.h"
#include "engine/model/spec.h"
#include "kernels/device.h"

namespace baram {

// Norm weights and biases are fp32 device vectors; null if the spec has none.
struct LayerWeights {
  PackedWeight qkv;  // n = (heads + 2 kv_heads) * head_dim
  PackedWeight o;
  PackedWeight gate_up;  // n = 2 * ffn: gate, then up
  PackedWeight down;
  const float* qkv_bias = nullptr;
  const float* o_bias = nullptr;
  const float* gate_up_bias = nullptr;
  const float* down_bias = nullptr;
  const float* q_norm = nullptr;
  const float* k_norm = nullptr;
  const float* pre_attention = nullptr;
  const float* post_attention = nullptr;
  const float* pre_mlp = nullptr;
  const float* post_mlp = nullptr;
};

// Owns the device memory. Immutable after loading; must not outlive the device.
struct Weights {
  ModelSpec spec;
  PackedWeight embedding;
  PackedWeight lm_head;  // the embedding itself when tied
  const float* final_norm = nullptr;
  std::vector<LayerWeights> layers;
  std::vector<RopeTable> ropes;  // [spec.ropes], with `positions` as requested
  int64_t bytes = 0;             // device memory held
  std::vector<Buffer> buffers;
};

// Checks the checkpoint's headers against the spec without reading weights; reports up to three
// missing, mis-shaped or unexpected tensors, or tensors of an unsupported type. Only LoadWeights
// compares a stored tied LM head with the embedding. Sets `file_bytes` to the size of the files
// that were opened; 0 if one can't be read. Its errors are those of LoadWeights.
absl::Status CheckCheckpoint(const std::string& folder, const ModelSpec& spec, int64_t* file_bytes);

struct LoadOptions {
  int32_t positions = 0;  // rows of the rope tables: the served context
  int32_t threads = 1;    // that convert and pack
  LoadProgress progress;
};

// Reads the safetensors of `folder`. NotFound: there are none. PermissionDenied: a file may not be
// read. DataLoss: a file is broken, or its tensors are not those that the spec expects.
// Unimplemented: their type is not supported. ResourceExhausted: the device has no memory for them,
// or too many files are open. Peak memory is the packed weights and a few megabytes per thread.
// Three kinds of tensors may be left over: rotary frequencies, which follow from the spec; the LM
// head of a tied model, if it equals the embedding; and the parts of a multimodal model that the
// spec skips by name.
absl::StatusOr<std::unique_ptr<Weights>> LoadWeights(const std::string& folder,
                                                     const ModelSpec& spec, Device& device,
                                                     const LoadOptions& options);

}  // namespace baram

#endif  // BARAM_ENGINE_MODEL_WEIGHTS_H_
