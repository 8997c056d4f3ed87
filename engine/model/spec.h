// ModelSpec: a model family as a value. Everything that the forward pass, the loader, the trace,
// the support check and the roofline need to know about a checkpoint follows from it.
#ifndef BARAM_ENGINE_MODEL_SPEC_H_
#define BARAM_ENGINE_MODEL_SPEC_H_

#include <cstdint>
#include <string>
#include <vector>

#include "kernels/ops.h"

namespace baram {

enum class NormKind : uint8_t {
  kNone,
  kPlain,        // x / rms(x) * w
  kZeroCentred,  // x / rms(x) * (1 + w); folded into w at load
};

enum class RopeScaling : uint8_t { kDefault, kLinear, kLlama3, kYarn };

// One rotation table, see RopeFrequencies. The names are config.json's.
struct RopeSpec {
  RopeScaling scaling = RopeScaling::kDefault;
  RopeLayout layout = RopeLayout::kHalfSplit;
  int32_t rotary_dim = 0;
  double theta = 10000.0;
  double factor = 1.0;
  double original_max_positions = 0;
  double low_freq_factor = 1.0;   // llama3
  double high_freq_factor = 4.0;  // llama3
  double beta_fast = 32.0;        // YaRN
  double beta_slow = 1.0;         // YaRN
  double attention_factor = 0;    // YaRN; 0: from mscale and factor
  double mscale = 0;
  double mscale_all_dim = 0;
  bool truncate = true;  // YaRN: round the ends of the ramp
  bool operator==(const RopeSpec&) const = default;
};

struct LayerSpec {
  int32_t window = 0;  // 0: full attention; W: W keys, the token's own included
  int32_t rope = 0;    // index into ModelSpec::ropes, -1: no rotation
  float attention_scale = 0;
  NormKind qk_norm = NormKind::kNone;  // per head, before rotation
  bool qkv_bias = false;
  bool o_bias = false;
  NormKind pre_attention = NormKind::kPlain;
  NormKind post_attention = NormKind::kNone;
  NormKind pre_mlp = NormKind::kPlain;
  NormKind post_mlp = NormKind::kNone;
  int32_t ffn = 0;
  Activation activation = Activation::kSilu;
  bool mlp_bias = false;
  float residual_scale = 1.0f;
  bool operator==(const LayerSpec&) const = default;
};

// Names of a checkpoint's tensors by role, without ".weight"; "{}" is the index of the layer.
struct TensorNames {
  std::string embedding = "model.embed_tokens";
  std::string final_norm = "model.norm";
  std::string lm_head = "lm_head";
  std::string q = "model.layers.{}.self_attn.q_proj";
  std::string k = "model.layers.{}.self_attn.k_proj";
  std::string v = "model.layers.{}.self_attn.v_proj";
  std::string o = "model.layers.{}.self_attn.o_proj";
  std::string q_norm = "model.layers.{}.self_attn.q_norm";
  std::string k_norm = "model.layers.{}.self_attn.k_norm";
  std::string pre_attention = "model.layers.{}.input_layernorm";
  std::string post_attention;
  std::string pre_mlp = "model.layers.{}.post_attention_layernorm";
  std::string post_mlp;
  std::string gate = "model.layers.{}.mlp.gate_proj";
  std::string up = "model.layers.{}.mlp.up_proj";
  std::string down = "model.layers.{}.mlp.down_proj";
  std::vector<std::string> skipped_prefixes;  // of tensors of parts that are not served
};

struct ModelSpec {
  std::string architecture;  // "Qwen3ForCausalLM", the family's name in config.json
  std::string family;        // "Qwen3", human-readable
  int32_t hidden = 0;
  int32_t vocab_size = 0;     // rows of the embedding, padding included
  int32_t max_positions = 0;  // the context of the checkpoint, as extended by YaRN
  HeadShape head;             // the same for every layer
  std::vector<LayerSpec> layers;
  std::vector<RopeSpec> ropes;
  float norm_eps = 1e-6f;
  NormKind final_norm = NormKind::kPlain;
  float embedding_scale = 1.0f;
  float logit_scale = 1.0f;
  bool tied_lm_head = false;
  TensorNames names;
  // Other sets of names, each complete, that a checkpoint may use instead of `names`.
  std::vector<TensorNames> other_names;
};

}  // namespace baram

#endif  // BARAM_ENGINE_MODEL_SPEC_H_
