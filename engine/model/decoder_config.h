// Reads what the config.json of every decoder has: the sizes, the head, the one rotation, the
// windows. archs.cc makes the families out of it.
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

// Far past any model, as the other bounds in decoder_config.cc.
inline constexpr int64_t kMaxLayers = 1024;
inline constexpr int64_t kMaxPositions = int64_t{1} << 27;

// How a family names and defaults what every decoder has. A size of 0 has no default.
struct LlamaFields {
  const char* layers = "num_hidden_layers";
  const char* norm_eps = "rms_norm_eps";
  double default_norm_eps = 1e-6;
  const char* activation = "hidden_act";
  const char* default_activation = "silu";
  int64_t default_vocab = 0;
  int64_t default_heads = 0;
  int64_t default_kv_heads = 0;  // 0: num_attention_heads, which null means in any family
  int64_t default_head_dim = 0;  // 0: hidden_size / num_attention_heads
  int64_t default_max_positions = 2048;
  double default_theta = 10000.0;  // of the one rotation
  bool default_tied = false;
  bool attention_bias = true;  // whether the family reads the key of this name
  bool mlp_bias = true;
  bool one_rope = true;  // false: the family reads its own
};

// Complains of options that would change the result and that no family here has.
void RefuseForeignOptions(const ConfigFields& config);

// Pre-norm, grouped-query attention with half-split RoPE, SwiGLU, biases if asked for. Complains
// of foreign options, and of a vision model beside the text model.
ModelSpec ReadLlama(const ConfigFields& config, const LlamaFields& fields);

// For reading a rotation of `spec`.
RopeDefaults DefaultsOf(const ModelSpec& spec, const char* layer_type = "");

// How many keys a token of a windowed layer sees, its own included; 0 where the file says null.
int32_t ReadWindow(const ConfigFields& config);

// `layer_types` as one "is windowed" a layer; nothing where the file has no such list.
std::optional<std::vector<bool>> ReadLayerTypes(const ConfigFields& config, size_t layers);

// Every `period`-th layer is global, the others are windowed.
std::vector<bool> PeriodicWindows(size_t layers, int64_t period);

// Gives the windowed layers their window; complains where there are some and `window` is 0.
void SetWindows(const ConfigFields& config, const std::vector<bool>& windowed, int32_t window,
                ModelSpec& spec);

}  // namespace baram

#endif  // BARAM_ENGINE_MODEL_DECODER_CONFIG_H_
