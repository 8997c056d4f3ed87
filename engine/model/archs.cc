// The model families: from a config.json to a ModelSpec. Each family starts from another and states
// the difference. The facts are those of the reference library's configuration and modeling files:
// what config.json states always wins, and what it omits gets the reference's default, except for
// sizes that every published folder of the family states: those must be present.
#include "engine/model/archs.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "engine/model/decoder_config.h"
#include "engine/model/rope_config.h"
#include "kernels/float_types.h"

namespace baram {
namespace {

constexpr double kMaxScale = 1e6;  // limit of the multipliers

ModelSpec Llama(const ConfigFields& config) { return ReadLlama(config, {}); }

// Llama with a window on every layer.
ModelSpec Mistral(const ConfigFields& config) {
  ModelSpec spec = ReadLlama(config, {.default_kv_heads = 8,
                                      .default_max_positions = 131072,
                                      .attention_bias = false,
                                      .mlp_bias = false});
  const int32_t window = ReadWindow(config);
  for (LayerSpec& layer : spec.layers) layer.window = window;
  // The reference takes a Mistral that lists its layer_types for a Ministral, whose layers differ;
  // if the list has only one kind, the two are the same.
  const auto types = ReadLayerTypes(config, spec.layers.size());
  if (types && *types != std::vector<bool>(spec.layers.size(), window > 0)) {
    config.FailUnsupported("layer_types", "Mistral's layers are all alike");
  }
  return spec;
}

// Qwen's windows: from layer `max_window_layers` on, if enabled at all.
void ReadQwenWindows(const ConfigFields& config, ModelSpec& spec) {
  const int32_t window = config.BoolOr("use_sliding_window", false) ? ReadWindow(config) : 0;
  auto windowed = ReadLayerTypes(config, spec.layers.size());
  if (!windowed) {
    const int64_t first = config.IntegerOr("max_window_layers", 0, kMaxLayers, 28);
    windowed.emplace(spec.layers.size(), false);
    for (size_t i = first; window > 0 && i < windowed->size(); ++i) (*windowed)[i] = true;
  }
  SetWindows(config, *windowed, window, spec);
}

// Llama with biases on q, k and v only, and Qwen's windows.
ModelSpec Qwen2(const ConfigFields& config) {
  ModelSpec spec = ReadLlama(config, {.default_kv_heads = 32,
                                      .default_max_positions = 32768,
                                      .attention_bias = false,
                                      .mlp_bias = false});
  for (LayerSpec& layer : spec.layers) layer.qkv_bias = true;
  ReadQwenWindows(config, spec);
  return spec;
}

// Llama with per-head query and key norms, and Qwen's windows.
ModelSpec Qwen3(const ConfigFields& config) {
  ModelSpec spec = ReadLlama(config, {.default_kv_heads = 32,
                                      .default_head_dim = 128,
                                      .default_max_positions = 32768,
                                      .mlp_bias = false});
  for (LayerSpec& layer : spec.layers) layer.qk_norm = NormKind::kPlain;
  ReadQwenWindows(config, spec);
  return spec;
}

// EXAONE 3.x is Llama under names of its own. In a folder saved by the reference, which supports it
// since transformers 5.24, the keys are Llama's, with other defaults; the tensor names may be
// Llama's too. If both keys are present, the family's own counts.
ModelSpec Exaone(const ConfigFields& config) {
  LlamaFields fields = {.default_norm_eps = 1e-5, .default_tied = true};
  if (config.Has("num_hidden_layers") && !config.Has("num_layers")) {
    fields = {.default_norm_eps = 1e-5,
              .default_kv_heads = 8,
              .default_max_positions = 4096,
              .default_theta = 5e5};
  }
  const auto prefer = [&](const char* own, const char*& key) {
    if (config.Has(own) || !config.Has(key)) key = own;
  };
  prefer("num_layers", fields.layers);
  prefer("layer_norm_epsilon", fields.norm_eps);
  prefer("activation_function", fields.activation);
  ModelSpec spec = ReadLlama(config, fields);
  spec.other_names = {spec.names};
  TensorNames& names = spec.names;
  names.embedding = "transformer.wte";
  names.final_norm = "transformer.ln_f";
  names.q = "transformer.h.{}.attn.attention.q_proj";
  names.k = "transformer.h.{}.attn.attention.k_proj";
  names.v = "transformer.h.{}.attn.attention.v_proj";
  names.o = "transformer.h.{}.attn.attention.out_proj";
  names.pre_attention = "transformer.h.{}.ln_1";
  names.pre_mlp = "transformer.h.{}.ln_2";
  names.gate = "transformer.h.{}.mlp.c_fc_0";
  names.up = "transformer.h.{}.mlp.c_fc_1";
  names.down = "transformer.h.{}.mlp.c_proj";
  return spec;
}

// EXAONE 4's windows without layer_types: `sliding_window_pattern` is a period, or a string of L
// and G that repeats, except that the last layer is always global.
std::vector<bool> ReadExaone4Pattern(const ConfigFields& config, size_t layers) {
  const char* field = "sliding_window_pattern";
  if (!config.IsString(field)) {
    return PeriodicWindows(layers, config.IntegerOr(field, 1, kMaxLayers, 4));
  }
  const std::string letters = config.StringOr(field, "");
  std::vector<bool> windowed(layers, false);
  if (letters.empty() || letters.find_first_not_of("LG") != std::string::npos) {
    config.Fail(field, "must be a number or the letters L and G, such as LLLG");
    return windowed;
  }
  for (size_t i = 0; i + 1 < layers; ++i) windowed[i] = letters[i % letters.size()] == 'L';
  return windowed;
}

// Llama with per-head norms, and norms after the sub-layers instead of before them. If there are
// windows, layers without one have no rotation either.
ModelSpec Exaone4(const ConfigFields& config) {
  ModelSpec spec = ReadLlama(config, {.default_norm_eps = 1e-5,
                                      .default_kv_heads = 32,
                                      .attention_bias = false,
                                      .mlp_bias = false});
  for (LayerSpec& layer : spec.layers) {
    layer.qk_norm = NormKind::kPlain;
    layer.pre_attention = layer.pre_mlp = NormKind::kNone;
    layer.post_attention = layer.post_mlp = NormKind::kPlain;
  }
  spec.names.post_attention = "model.layers.{}.post_attention_layernorm";
  spec.names.post_mlp = "model.layers.{}.post_feedforward_layernorm";

  const int32_t window = ReadWindow(config);
  auto windowed = ReadLayerTypes(config, spec.layers.size());
  if (!windowed) {
    windowed = window > 0 ? ReadExaone4Pattern(config, spec.layers.size())
                          : std::vector<bool>(spec.layers.size(), false);
  }
  SetWindows(config, *windowed, window, spec);
  for (LayerSpec& layer : spec.layers) {
    if (window > 0 && layer.window == 0) layer.rope = -1;
  }
  return spec;
}

// Llama with four multipliers and, optionally, norms after the sub-layers too.
ModelSpec HyperClovaX(const ConfigFields& config) {
  ModelSpec spec = Llama(config);
  const auto multiplier = [&](const char* name, double fallback) {
    const auto value = static_cast<float>(config.NumberOr(name, -kMaxScale, kMaxScale, fallback));
    if (value == 0) config.Fail(name, "must not be 0");
    return value;
  };
  spec.embedding_scale = multiplier("embedding_multiplier", 1.0);
  spec.logit_scale = multiplier("logits_scaling", 1.0);
  for (LayerSpec& layer : spec.layers) {
    layer.attention_scale = static_cast<float>(
        config.NumberOr("attention_multiplier", 1e-6, kMaxScale, layer.attention_scale));
    layer.residual_scale = multiplier("residual_multiplier", 1.0);
  }
  // If it is absent, transformers assumes true and Naver's own plugin false: the file must say.
  if (!config.Has("use_post_norm")) config.Fail("use_post_norm", "is missing");
  if (config.BoolOr("use_post_norm", false)) {
    for (LayerSpec& layer : spec.layers) {
      layer.post_attention = layer.post_mlp = NormKind::kPlain;
    }
    spec.names.post_attention = "model.layers.{}.post_norm1";
    spec.names.post_mlp = "model.layers.{}.post_norm2";
  }
  return spec;
}

// The square root of the hidden size, cast to the type of the weights as in the reference. The file
// names that type; the text part of a multimodal folder names none, and is bf16.
float Gemma3EmbeddingScale(const ConfigFields& config, int32_t hidden) {
  const auto root = static_cast<float>(std::sqrt(static_cast<double>(hidden)));
  const std::string type = config.StringOr("dtype", config.StringOr("torch_dtype", "bfloat16"));
  if (type == "bfloat16") return F32FromBF16(BF16FromF32(root));
  if (type == "float16") return F32FromF16(F16FromF32(root));
  return root;
}

// Llama with norms before and after both sub-layers and per head, all zero-centred; tanh GELU; an
// embedding scaled by the root of its size, in the model's type; five windowed layers per global
// one, each kind with its own rotation; and an attention scale that does not follow from the head
// size.
ModelSpec Gemma3(const ConfigFields& config) {
  ModelSpec spec = ReadLlama(config, {.activation = "hidden_activation",
                                      .default_activation = "gelu_pytorch_tanh",
                                      .default_vocab = 262208,
                                      .default_heads = 8,
                                      .default_kv_heads = 4,
                                      .default_head_dim = 256,
                                      .default_max_positions = 131072,
                                      .default_tied = true,
                                      .mlp_bias = false,
                                      .one_rope = false});
  spec.final_norm = NormKind::kZeroCentred;
  spec.embedding_scale = Gemma3EmbeddingScale(config, spec.hidden);

  RopeDefaults global = DefaultsOf(spec, "full_attention");
  global.theta = 1e6;
  RopeDefaults local = DefaultsOf(spec, "sliding_attention");
  local.theta_field = "rope_local_base_freq";
  local.scaled = false;
  spec.ropes = {ReadRope(config, global), ReadRope(config, local)};

  auto windowed = ReadLayerTypes(config, spec.layers.size());
  if (!windowed) {
    windowed = PeriodicWindows(spec.layers.size(),
                               config.IntegerOr("sliding_window_pattern", 1, kMaxLayers, 6));
  }
  SetWindows(config, *windowed, ReadWindow(config), spec);
  const double query_scalar = config.NumberOr("query_pre_attn_scalar", 1e-6, kMaxScale, 256.0);
  for (size_t i = 0; i < spec.layers.size(); ++i) {
    LayerSpec& layer = spec.layers[i];
    layer.rope = (*windowed)[i] ? 1 : 0;
    layer.attention_scale = static_cast<float>(1.0 / std::sqrt(query_scalar));
    layer.qk_norm = layer.pre_attention = layer.post_attention = layer.pre_mlp = layer.post_mlp =
        NormKind::kZeroCentred;
  }
  spec.names.post_attention = "model.layers.{}.post_attention_layernorm";
  spec.names.pre_mlp = "model.layers.{}.pre_feedforward_layernorm";
  spec.names.post_mlp = "model.layers.{}.post_feedforward_layernorm";
  return spec;
}

// `names` of a model whose tensors are below `prefix`, not below "model.".
TensorNames Below(const std::string& prefix, TensorNames names) {
  for (std::string* name :
       {&names.embedding, &names.final_norm, &names.q, &names.k, &names.v, &names.o, &names.q_norm,
        &names.k_norm, &names.pre_attention, &names.post_attention, &names.pre_mlp, &names.post_mlp,
        &names.gate, &names.up, &names.down}) {
    if (!name->empty()) *name = absl::StrCat(prefix, absl::StripPrefix(*name, "model."));
  }
  return names;
}

// Gemma 3 with a vision model, which is skipped: without images the reference's mask is causal. The
// text model's fields are in an object of their own. The type of the weights and whether the head
// is tied are stated outside of it, and the reference looks nowhere else.
ModelSpec MultimodalGemma3(const ConfigFields& config) {
  RefuseForeignOptions(config);
  if (!config.Has("text_config")) config.Fail("text_config", "is missing");
  ModelSpec spec = Gemma3(config.Object("text_config"));
  spec.embedding_scale = Gemma3EmbeddingScale(config, spec.hidden);
  spec.tied_lm_head = config.BoolOr("tie_word_embeddings", true);

  TensorNames saved = Below("model.language_model.", spec.names);  // as trainers save it
  saved.skipped_prefixes = {"model.vision_tower.", "model.multi_modal_projector."};
  spec.names = Below("language_model.model.", spec.names);  // as it is published
  spec.names.lm_head = "language_model.lm_head";
  spec.names.skipped_prefixes = {"vision_tower.", "multi_modal_projector."};
  spec.other_names = {saved};
  return spec;
}

constexpr Arch kArchs[] = {
    {"LlamaForCausalLM", "llama", "Llama", Llama},
    {"MistralForCausalLM", "mistral", "Mistral", Mistral},
    {"Qwen2ForCausalLM", "qwen2", "Qwen2", Qwen2},
    {"Qwen3ForCausalLM", "qwen3", "Qwen3", Qwen3},
    {"ExaoneForCausalLM", "exaone", "EXAONE 3", Exaone, "LlamaForCausalLM"},
    {"Exaone4ForCausalLM", "exaone4", "EXAONE 4", Exaone4},
    {"HyperCLOVAXForCausalLM", "hyperclovax", "HyperCLOVA X", HyperClovaX},
    {"Gemma3ForCausalLM", "gemma3_text", "Gemma 3", Gemma3},
    {"Gemma3ForConditionalGeneration", "gemma3", "multimodal Gemma 3", MultimodalGemma3},
};

}  // namespace

std::span<const Arch> Archs() { return kArchs; }

// YaRN is often enabled by adding its object alone, while max_position_embeddings keeps its old
// value. Files with another scaling usually state the extended context; of those that do not, only
// the stated one is served.
int32_t StretchedContext(int32_t max_positions, std::span<const RopeSpec> ropes) {
  for (const RopeSpec& rope : ropes) {
    if (rope.scaling != RopeScaling::kYarn) continue;
    const double stretched = std::floor(rope.original_max_positions * rope.factor);
    const double served = std::min(stretched, static_cast<double>(kMaxPositions));
    max_positions = std::max(max_positions, static_cast<int32_t>(served));
  }
  return max_positions;
}

}  // namespace baram
