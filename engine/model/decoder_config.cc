// Reads the fields of config.json that all decoders have.
#include "engine/model/decoder_config.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "absl/strings/str_cat.h"
#include "kernels/tensor.h"

namespace baram {
namespace {

// Far beyond any model, and small enough that 64 bits hold the bytes of all weights, and those of a
// page of all layers. For the pages of all sequences they may not: sizes.cc checks those.
constexpr int64_t kMaxHidden = int64_t{1} << 20;
constexpr int64_t kMaxFfn = int64_t{1} << 22;
constexpr int64_t kMaxVocab = int64_t{1} << 24;
constexpr int64_t kMaxHeads = 4096;

Activation ReadActivation(const ConfigFields& config, const LlamaFields& fields) {
  const std::string name = config.StringOr(fields.activation, fields.default_activation);
  if (name == "silu" || name == "swish") return Activation::kSilu;
  if (name == "gelu_pytorch_tanh" || name == "gelu_new") return Activation::kGeluTanh;
  config.FailUnsupported(fields.activation, "supported are silu and gelu_pytorch_tanh");
  return Activation::kSilu;
}

int64_t ReadSize(const ConfigFields& config, const char* name, int64_t most, int64_t fallback) {
  return fallback > 0 ? config.IntegerOr(name, 1, most, fallback) : config.Integer(name, 1, most);
}

HeadShape ReadHeads(const ConfigFields& config, int64_t hidden, const LlamaFields& fields) {
  HeadShape head;
  head.heads = ReadSize(config, "num_attention_heads", kMaxHeads, fields.default_heads);
  const bool as_heads = fields.default_kv_heads == 0 || config.IsNull("num_key_value_heads");
  head.kv_heads = config.IntegerOr("num_key_value_heads", 1, kMaxHeads,
                                   as_heads ? head.heads : fields.default_kv_heads);
  if (head.heads % head.kv_heads != 0) {
    config.Fail("num_key_value_heads",
                absl::StrCat("must divide num_attention_heads, and ", head.kv_heads,
                             " does not divide ", head.heads));
  }
  const bool derived = !config.Has("head_dim") && fields.default_head_dim == 0;
  if (derived && hidden % head.heads != 0) {
    config.Fail("hidden_size", absl::StrCat("must be a multiple of num_attention_heads where "
                                            "head_dim is absent, and ",
                                            hidden, " is not one of ", head.heads));
  }
  const int64_t fallback = derived ? hidden / head.heads : fields.default_head_dim;
  const int64_t head_dim = config.IntegerOr("head_dim", 1, kMaxHidden, fallback);
  if (head_dim % 2 != 0 || head_dim > kMaxHeadDim) {
    const std::string supported = absl::StrCat("head sizes are even and at most ", kMaxHeadDim);
    if (config.Has("head_dim")) {
      config.FailUnsupported("head_dim", supported);
    } else {
      config.FailUnsupported("num_attention_heads",
                             absl::StrCat("it makes heads of ", head_dim, ", and ", supported));
    }
  }
  head.head_dim = static_cast<int32_t>(std::min<int64_t>(head_dim, kMaxHeadDim));
  return head;
}

float DefaultAttentionScale(const HeadShape& head) {
  return static_cast<float>(1.0 / std::sqrt(static_cast<double>(head.head_dim)));
}

}  // namespace

void RefuseForeignOptions(const ConfigFields& config) {
  for (const char* name : {"quantization_config", "quantization"}) {
    if (config.Has(name)) config.FailUnsupported(name, "serve a bf16, f16 or f32 checkpoint");
  }
  for (const char* name : {"num_experts", "num_local_experts", "n_routed_experts"}) {
    if (config.IntegerOr(name, 0, kMaxHidden, 0) > 0) {
      config.FailUnsupported(name, "mixture-of-experts models are not supported yet");
    }
  }
  for (const char* name : {"attn_logit_softcapping", "final_logit_softcapping"}) {
    if (config.Has(name)) config.FailUnsupported(name, "it must be absent or null");
  }
  if (config.Has("kv_lora_rank")) {
    config.FailUnsupported("kv_lora_rank", "latent attention is not supported yet");
  }
  if (config.BoolOr("use_bidirectional_attention", false)) {
    config.FailUnsupported("use_bidirectional_attention", "only causal attention is");
  }
  if (!config.BoolOr("is_causal", true)) {
    config.FailUnsupported("is_causal", "only causal attention is");
  }
}

ModelSpec ReadLlama(const ConfigFields& config, const LlamaFields& fields) {
  RefuseForeignOptions(config);
  if (config.Has("vision_config")) {
    config.FailUnsupported("vision_config", "only text models are");
  }
  ModelSpec spec;
  spec.hidden = config.Integer("hidden_size", 1, kMaxHidden);
  spec.vocab_size = ReadSize(config, "vocab_size", kMaxVocab, fields.default_vocab);
  // At least 2: a token of a prompt and one of its reply.
  spec.max_positions =
      config.IntegerOr("max_position_embeddings", 2, kMaxPositions, fields.default_max_positions);
  spec.head = ReadHeads(config, spec.hidden, fields);
  spec.norm_eps =
      static_cast<float>(config.NumberOr(fields.norm_eps, 0.0, 1.0, fields.default_norm_eps));
  spec.tied_lm_head = config.BoolOr("tie_word_embeddings", fields.default_tied);
  if (fields.one_rope) {
    RopeDefaults defaults = DefaultsOf(spec);
    defaults.theta = fields.default_theta;
    spec.ropes = {ReadRope(config, defaults)};
  }

  LayerSpec layer;
  layer.attention_scale = DefaultAttentionScale(spec.head);
  layer.qkv_bias = layer.o_bias = fields.attention_bias && config.BoolOr("attention_bias", false);
  layer.mlp_bias = fields.mlp_bias && config.BoolOr("mlp_bias", false);
  layer.ffn = config.Integer("intermediate_size", 1, kMaxFfn);
  layer.activation = ReadActivation(config, fields);
  spec.layers.assign(config.Integer(fields.layers, 1, kMaxLayers), layer);
  return spec;
}

RopeDefaults DefaultsOf(const ModelSpec& spec, const char* layer_type) {
  return {.layer_type = layer_type,
          .head_dim = spec.head.head_dim,
          .max_positions = spec.max_positions};
}

int32_t ReadWindow(const ConfigFields& config) {
  constexpr int64_t kReferenceDefault = 4096;
  if (config.IsNull("sliding_window")) return 0;
  return static_cast<int32_t>(
      config.IntegerOr("sliding_window", 1, kMaxPositions, kReferenceDefault));
}

std::optional<std::vector<bool>> ReadLayerTypes(const ConfigFields& config, size_t layers) {
  if (!config.Has("layer_types")) return std::nullopt;
  const std::vector<std::string> types = config.Strings("layer_types");
  std::vector<bool> windowed(layers, false);
  if (types.size() != layers) {
    config.Fail("layer_types", absl::StrCat("names ", types.size(), " layers of ", layers));
    return windowed;
  }
  for (size_t i = 0; i < layers; ++i) {
    windowed[i] = types[i] == "sliding_attention";
    if (!windowed[i] && types[i] != "full_attention") {
      config.Fail("layer_types", absl::StrCat("has ", Quote(types[i]), " for layer ", i,
                                              "; known are full_attention and "
                                              "sliding_attention"));
    }
  }
  return windowed;
}

std::vector<bool> PeriodicWindows(size_t layers, int64_t period) {
  std::vector<bool> windowed(layers);
  for (size_t i = 0; i < layers; ++i) windowed[i] = (static_cast<int64_t>(i) + 1) % period != 0;
  return windowed;
}

void SetWindows(const ConfigFields& config, const std::vector<bool>& windowed, int32_t window,
                ModelSpec& spec) {
  for (size_t i = 0; i < spec.layers.size(); ++i) {
    if (!windowed[i]) continue;
    if (window == 0) config.Fail("sliding_window", "gives no window, but some layers are windowed");
    spec.layers[i].window = window;
  }
}

}  // namespace baram
