// The shapes by name.
#include "bench/model_shapes.h"

#include <cmath>

namespace baram::bench {
namespace {

ModelSpec Shape(const char* name, int32_t layers, const HeadShape& head, const LayerSpec& layer) {
  ModelSpec spec;
  spec.architecture = name;
  spec.family = std::string(name) + ", random weights";
  spec.head = head;
  spec.ropes = {{.rotary_dim = head.head_dim}};
  spec.layers.assign(layers, layer);
  for (LayerSpec& each : spec.layers) {
    each.attention_scale = 1 / std::sqrt(static_cast<float>(head.head_dim));
  }
  return spec;
}

ModelSpec Llama1B() {
  ModelSpec spec =
      Shape("Llama shape", 16, {.heads = 32, .kv_heads = 8, .head_dim = 64}, {.ffn = 8192});
  spec.hidden = 2048;
  spec.vocab_size = 49'152;
  spec.max_positions = 4096;
  spec.tied_lm_head = true;
  return spec;
}

ModelSpec Llama32() {
  ModelSpec spec = Llama1B();
  spec.architecture = "Llama 3.2 1B shape";
  spec.family = "Llama 3.2 1B shape, random weights";
  spec.vocab_size = 128'256;
  spec.max_positions = 131'072;
  return spec;
}

// Norms after the sub-layers instead of before; norms of queries and keys.
ModelSpec Exaone1B() {
  ModelSpec spec = Shape("EXAONE 4.0 1.2B shape", 30, {.heads = 32, .kv_heads = 8, .head_dim = 64},
                         {.qk_norm = NormKind::kPlain,
                          .pre_attention = NormKind::kNone,
                          .post_attention = NormKind::kPlain,
                          .pre_mlp = NormKind::kNone,
                          .post_mlp = NormKind::kPlain,
                          .ffn = 4096});
  spec.names.post_attention = "model.layers.{}.post_attention_layernorm";
  spec.names.post_mlp = "model.layers.{}.post_feedforward_layernorm";
  spec.hidden = 2048;
  spec.vocab_size = 102'400;
  spec.max_positions = 65'536;
  spec.tied_lm_head = true;
  return spec;
}

ModelSpec Llama8B() {
  ModelSpec spec = Shape("Llama 3.1 8B shape", 32, {.heads = 32, .kv_heads = 8, .head_dim = 128},
                         {.ffn = 14'336});
  spec.hidden = 4096;
  spec.vocab_size = 128'256;
  spec.max_positions = 131'072;
  return spec;
}

ModelSpec Tiny() {
  ModelSpec spec = Shape("tiny shape", 2, {.heads = 2, .kv_heads = 1, .head_dim = 16}, {.ffn = 48});
  spec.hidden = 32;
  spec.vocab_size = 100;
  spec.max_positions = 1024;
  return spec;
}

}  // namespace

bool FindModelShape(const std::string& name, ModelSpec* spec) {
  struct Row {
    const char* name;
    ModelSpec (*make)();
  };
  constexpr Row kShapes[] = {{"llama-1b", Llama1B},
                             {"llama-3.2-1b", Llama32},
                             {"exaone-1.2b", Exaone1B},
                             {"llama-8b", Llama8B},
                             {"tiny", Tiny}};
  for (const Row& row : kShapes) {
    if (name != row.name) continue;
    *spec = row.make();
    return true;
  }
  return false;
}

}  // namespace baram::bench
