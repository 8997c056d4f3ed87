// The forward pass, written once for every model and device.
#include "engine/model/forward.h"

#include <algorithm>

namespace baram {
namespace {

// The arguments that all parts of a layer share.
struct Pass : ModelView {
  const StepView& step;
  int64_t rows;     // in use: the step's tokens, and at the end only those whose logits are needed
  Tensor residual;  // [rows, d]

  Tensor Rows(const Tensor& tensor) const { return tensor.Rows(rows); }
};

// Computes `residual`, and the `input` of the first layer, from the token ids.
void Embedding(const Pass& pass) {
  const ModelSpec& spec = pass.weights.spec;
  EmbedArgs embed{.step = pass.step,
                  .table = pass.weights.embedding,
                  .scale = spec.embedding_scale,
                  .out = pass.residual};
  pass.device.Embed(embed);
  const float* norm = pass.weights.layers.front().pre_attention;
  const Tensor input = pass.Rows(pass.work.input);
  if (norm == nullptr) {
    embed.out = input;
    pass.device.Embed(embed);
  } else {
    pass.device.Norm({.x = embed.out, .weight = norm, .eps = spec.norm_eps, .out = input});
  }
}

// Computes `qkv` from `input`, and stores keys and values in the cache.
void Project(const Pass& pass, size_t index) {
  const ModelSpec& spec = pass.weights.spec;
  const LayerSpec& layer = spec.layers[index];
  const LayerWeights& weights = pass.weights.layers[index];
  const Tensor qkv = pass.Rows(pass.work.qkv);
  pass.device.Gemm({.a = pass.Rows(pass.work.input),
                    .weight = weights.qkv,
                    .bias = weights.qkv_bias,
                    .out = qkv});
  pass.device.StoreKv({.step = pass.step,
                       .pool = pass.pool,
                       .layer = pass.plan.layers[index],
                       .qkv = qkv,
                       .q_norm = weights.q_norm,
                       .k_norm = weights.k_norm,
                       .eps = spec.norm_eps,
                       .rope = layer.rope < 0 ? RopeTable{} : pass.weights.ropes[layer.rope]});
}

// Computes `attention` from `qkv` and the cache.
void Attend(const Pass& pass, size_t index) {
  const LayerSpec& layer = pass.weights.spec.layers[index];
  const Tensor attention = pass.Rows(pass.work.attention);
  pass.device.Attend({.step = pass.step,
                      .pool = pass.pool,
                      .layer = pass.plan.layers[index],
                      .q = pass.Rows(pass.work.qkv).Cols(0, attention.cols),
                      .window = layer.window,
                      .scale = layer.attention_scale,
                      .out = attention,
                      .scratch = pass.work.attend_scratch});
}

// Continues with only the rows whose logits are needed: the rest of the last layer is for them
// alone. Returns their `attention`, which overwrites `qkv`.
Tensor KeepOutputs(Pass& pass) {
  const Tensor attention = pass.Rows(pass.work.attention);
  const Tensor residual = pass.residual;
  pass.rows = pass.step.outputs;
  pass.residual = pass.Rows(pass.work.lm_head_residual);
  const Tensor kept = DenseTensor(pass.work.qkv.data, attention.dtype, pass.rows, attention.cols);
  pass.device.GatherRows({.x = attention, .index = pass.step.output_tokens, .out = kept});
  pass.device.GatherRows({.x = residual, .index = pass.step.output_tokens, .out = pass.residual});
  return kept;
}

// Adds `branch` to `residual`, and computes the next `input` from the sum.
void AddBranch(const Pass& pass, float residual_scale, const float* post_weight,
               const float* pre_weight) {
  pass.device.AddNorm({.branch = pass.Rows(pass.work.branch),
                       .residual = pass.residual,
                       .post_weight = post_weight,
                       .pre_weight = pre_weight,
                       .scale = residual_scale,
                       .eps = pass.weights.spec.norm_eps,
                       .out = pass.Rows(pass.work.input)});
}

// Computes `branch` from `input`.
void Mlp(const Pass& pass, size_t index) {
  const LayerSpec& layer = pass.weights.spec.layers[index];
  const LayerWeights& weights = pass.weights.layers[index];
  Workspace& work = pass.work;

  // Dense at this layer's width, which may be less than the widest.
  Tensor gate_up = pass.Rows(work.gate_up);
  gate_up.cols = gate_up.stride = 2 * int64_t{layer.ffn};
  Tensor activated = pass.Rows(work.activated);
  activated.cols = activated.stride = layer.ffn;
  BeginPart(work);
  pass.device.Gemm({.a = pass.Rows(work.input),
                    .weight = weights.gate_up,
                    .bias = weights.gate_up_bias,
                    .out = gate_up});
  pass.device.Act({.gate_up = gate_up, .kind = layer.activation, .out = activated});
  BeginPart(work);
  pass.device.Gemm({.a = activated,
                    .weight = weights.down,
                    .bias = weights.down_bias,
                    .out = pass.Rows(work.branch)});
}

}  // namespace

Tensor Forward(const ModelView& model, const StepView& step) {
  const Weights& weights = model.weights;
  Workspace& work = model.work;
  const ModelSpec& spec = weights.spec;
  Pass pass{model, step, step.tokens, work.residual.Rows(step.tokens)};
  Embedding(pass);
  for (size_t i = 0; i < spec.layers.size(); ++i) {
    const LayerWeights& layer = weights.layers[i];
    const bool last = i + 1 == spec.layers.size();
    BeginPart(work);
    Project(pass, i);
    if (last && step.outputs == 0) return work.logits.Rows(0);  // only the cache was to be filled
    BeginPart(work);
    Attend(pass, i);
    const Tensor attention = last ? KeepOutputs(pass) : pass.Rows(work.attention);
    model.device.Gemm(
        {.a = attention, .weight = layer.o, .bias = layer.o_bias, .out = pass.Rows(work.branch)});
    AddBranch(pass, spec.layers[i].residual_scale, layer.post_attention, layer.pre_mlp);
    Mlp(pass, i);
    AddBranch(pass, spec.layers[i].residual_scale, layer.post_mlp,
              last ? weights.final_norm : weights.layers[i + 1].pre_attention);
  }
  return LogitsFrom(model, step, 0);
}

Tensor LogitsFrom(const ModelView& model, const StepView& step, int32_t begin) {
  Workspace& work = model.work;
  const int64_t rows = std::min<int64_t>(step.outputs - begin, work.logits.rows);
  const Tensor logits = work.logits.Rows(rows);
  BeginPart(work);
  model.device.Gemm({.a = work.input.Rows(begin, rows),
                     .weight = model.weights.lm_head,
                     .scale = model.weights.spec.logit_scale,
                     .out = logits});
  return logits;
}

}  // namespace baram
