// Reads the fields of config.json that all decoders have: sizes, heads, the one rotation, windows.
// archs.cc builds the families from it.
#ifndef BARAM_ENGINE_MODEL_DECODER_CONFIG_H_
#define BARAM_ENGINE_MODEL_DECODER_CONFIG_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "engine/model/config_fields.h"
#include "engine/model/rope_config.h"
#include "engine/model/spec.h"

namespace baram {

// Far beyond any model, like the other bounds in decoder_config.cc.
inline constexpr int64_t kMaxLayers = 1024;
inline constexpr int64_t kMaxPositions = int64_t{1} << 27;

// How a family names the fields that every decoder has, and their defaults. A size of 0 has no
// default.
struct LlamaFields {
  const char* layers = "num_hidden_layers";
  const char* norm_eps = "rms_norm_eps";
  double default_norm_eps = 1e-6;
  const char* activation = "hidden_act";
  const char* default_activation = "silu";
  int64_t default_vocab = 0;
  int64_t default_heads = 0;
  int64_t default_kv_heads = 0;  // 0: num_attention_heads, as null means in every family
  int64_t default_head_dim = 0;  // 0: hidden_size / num_attention_heads
  int64_t default_max_positions = 2048;
  double default_theta = 10000.0;  // of the one rotation
  bool default_tied = false;
  bool attention_bias = true;  // whether the family reads the key of this name
  bool mlp_bias = true;
  bool one_rope = true;  // false: the family reads its own
};

// Records an error for options that would change the result and that no family here has.
void RefuseForeignOptions(const ConfigFields& config);

// Pre-norm, grouped-query attention with half-split RoPE, SwiGLU, biases if configured. Records an
// error for foreign options, and for a vision model next to the text model.
ModelSpec ReadLlama(const ConfigFields& config, const LlamaFields& fields);

// The defaults for reading a rotation of `spec`.
RopeDefaults DefaultsOf(const ModelSpec& spec, const char* layer_type = "");

// How many keys a token of a windowed layer sees, its own included; 0 if the file says null.
// Records an error in `config` for an invalid one, and returns the default.
int32_t ReadWindow(const ConfigFields& config);

// `layer_types` as one flag per layer, true if it is windowed; nullopt if the file has no such
// list. Records an error in `config` for an invalid one, whose unknown layers count as full.
std::optional<std::vector<bool>> ReadLayerTypes(const ConfigFields& config, size_t layers);

// Every `period`-th layer is global, the others are windowed.
std::vector<bool> PeriodicWindows(size_t layers, int64_t period);

// Sets the window of the windowed layers; records an error if there are some and `window` is 0.
void SetWindows(const ConfigFields& config, const std::vector<bool>& windowed, int32_t window,
                ModelSpec& spec);

}  // namespace baram

#endif  // BARAM_ENGINE_MODEL_DECODER_CONFIG_H_
