// The forward pass, written once for every model and device.
#include "engine/model/forward.h"

#include <chrono>

namespace baram {
namespace {

// The step's rows of the activations, and what every layer is called with.
struct Pass {
  Device& device;
  const Weights& weights;
  const KvPlan& plan;
  const KvPool& pool;
  const StepView& step;
  const Workspace& work;

  Tensor Tokens(const Tensor& tensor) const { return tensor.Rows(step.tokens); }
  Tensor Outputs(const Tensor& tensor) const { return tensor.Rows(step.outputs); }
};

// From `input` to `branch`.
void Attention(const Pass& pass, size_t index) {
  const ModelSpec& spec = pass.weights.spec;
  const LayerSpec& layer = spec.layers[index];
  const LayerWeights& weights = pass.weights.layers[index];
  const Workspace& work = pass.work;

  const Tensor qkv = pass.Tokens(work.qkv);
  pass.device.Gemm(
      {.a = pass.Tokens(work.input), .weight = weights.qkv, .bias = weights.qkv_bias, .out = qkv});
  pass.device.StoreKv({.step = pass.step,
                       .pool = pass.pool,
                       .layer = pass.plan.layers[index],
                       .qkv = qkv,
                       .q_norm = weights.q_norm,
                       .k_norm = weights.k_norm,
                       .eps = spec.norm_eps,
                       .rope = layer.rope < 0 ? RopeTable{} : pass.weights.ropes[layer.rope]});
  const Tensor attention = pass.Tokens(work.attention);
  pass.device.Attend({.step = pass.step,
                      .pool = pass.pool,
                      .layer = pass.plan.layers[index],
                      .q = qkv.Cols(0, attention.cols),
                      .window = layer.window,
                      .scale = layer.attention_scale,
                      .out = attention,
                      .scratch = work.attend_scratch});
  pass.device.Gemm({.a = attention,
                    .weight = weights.o,
                    .bias = weights.o_bias,
                    .out = pass.Tokens(work.branch)});
}

// From `input` to `branch`.
void Mlp(const Pass& pass, size_t index) {
  const LayerSpec& layer = pass.weights.spec.layers[index];
  const LayerWeights& weights = pass.weights.layers[index];
  const Workspace& work = pass.work;

  // Dense at this layer's width, which may be less than the widest.
  Tensor gate_up = pass.Tokens(work.gate_up);
  gate_up.cols = gate_up.stride = 2 * int64_t{layer.ffn};
  Tensor activated = pass.Tokens(work.activated);
  activated.cols = activated.stride = layer.ffn;
  pass.device.Gemm({.a = pass.Tokens(work.input),
                    .weight = weights.gate_up,
                    .bias = weights.gate_up_bias,
                    .out = gate_up});
  pass.device.Act({.gate_up = gate_up, .kind = layer.activation, .out = activated});
  pass.device.Gemm({.a = activated,
                    .weight = weights.down,
                    .bias = weights.down_bias,
                    .out = pass.Tokens(work.branch)});
}

// From the token ids to `residual`, and to `input` of the first layer.
void Embedding(const Pass& pass) {
  const ModelSpec& spec = pass.weights.spec;
  EmbedArgs embed{.step = pass.step,
                  .table = pass.weights.embedding,
                  .scale = spec.embedding_scale,
                  .out = pass.Tokens(pass.work.residual)};
  pass.device.Embed(embed);
  const float* norm = pass.weights.layers.front().pre_attention;
  const Tensor input = pass.Tokens(pass.work.input);
  if (norm == nullptr) {
    embed.out = input;
    pass.device.Embed(embed);
  } else {
    pass.device.Norm({.x = embed.out, .weight = norm, .eps = spec.norm_eps, .out = input});
  }
}

// Adds `branch` to `residual` and makes `input` of what follows; null `out`: nothing follows.
void AddBranch(const Pass& pass, float residual_scale, const float* post_weight,
               const float* pre_weight, Tensor out) {
  pass.device.AddNorm({.branch = pass.Tokens(pass.work.branch),
                       .residual = pass.Tokens(pass.work.residual),
                       .post_weight = post_weight,
                       .pre_weight = pre_weight,
                       .scale = residual_scale,
                       .eps = pass.weights.spec.norm_eps,
                       .out = out});
}

// From `residual` to logits of the rows that want them.
void Head(const Pass& pass) {
  const ModelSpec& spec = pass.weights.spec;
  const Tensor rows = pass.Outputs(pass.work.head_rows);
  const Tensor input = pass.Outputs(pass.work.head_input);
  pass.device.GatherRows(
      {.x = pass.Tokens(pass.work.residual), .index = pass.step.output_tokens, .out = rows});
  pass.device.Norm(
      {.x = rows, .weight = pass.weights.final_norm, .eps = spec.norm_eps, .out = input});
  pass.device.Gemm({.a = input,
                    .weight = pass.weights.head,
                    .scale = spec.logit_scale,
                    .out = pass.Outputs(pass.work.logits)});
}

}  // namespace

Tensor Forward(Device& device, const Weights& weights, const KvPlan& plan, const KvPool& pool,
               const StepView& step, Workspace& workspace) {
  const Pass pass{device, weights, plan, pool, step, workspace};
  const std::vector<LayerSpec>& layers = weights.spec.layers;
  const Tensor input = pass.Tokens(workspace.input);
  Embedding(pass);
  for (size_t i = 0; i < layers.size(); ++i) {
    const LayerWeights& layer = weights.layers[i];
    const bool last = i + 1 == layers.size();
    workspace.layer_begun.store(std::chrono::steady_clock::now().time_since_epoch().count(),
                                std::memory_order_relaxed);
    Attention(pass, i);
    AddBranch(pass, layers[i].residual_scale, layer.post_attention, layer.pre_mlp, input);
    Mlp(pass, i);
    AddBranch(pass, layers[i].residual_scale, layer.post_mlp,
              last ? nullptr : weights.layers[i + 1].pre_attention, last ? Tensor{} : input);
  }
  if (step.outputs > 0) Head(pass);
  return pass.Outputs(workspace.logits);
}

}  // namespace baram
