// The op set: the steps of a transformer that a device runs. One argument struct per op.
//
// Every op is asynchronous in its device's order, returns nothing, never allocates, and reads and
// writes only what its arguments name. Outputs never overlap inputs unless stated. The definition
// of every op is its plain loop in kernels/ref/. Shapes are written [rows, cols]: T is the step's
// tokens, O its logit rows, R any number of rows, V the vocabulary, d the hidden size, hd the head
// size, F the MLP width, n and k a weight's output and input features.
#ifndef BARAM_KERNELS_OPS_H_
#define BARAM_KERNELS_OPS_H_

#include <cstdint>
#include <string>
#include <variant>

#include "kernels/step.h"
#include "kernels/tensor.h"

namespace baram {

// out[t] = scale * table[token_ids[t]]. Reads the table as packed for the head's Gemm, so tied
// weights are stored once.
struct EmbedArgs {
  StepView step;
  PackedWeight table;  // n = vocabulary, k = d
  float scale = 1.0f;
  Tensor out;  // [T, d] residual or activation type
};

// RMSNorm: out = x / sqrt(mean(x^2) + eps) * weight, in fp32, rounded once at the end.
struct NormArgs {
  Tensor x;                       // [R, d] any type
  const float* weight = nullptr;  // [d]
  float eps = 1e-6f;
  Tensor out;  // [R, d] any type
};

// The seam between two sub-layers:
//   y = post_weight ? RMSNorm(branch, post_weight) : branch
//   residual += scale * y
//   out = pre_weight ? RMSNorm(residual, pre_weight) : residual   (rounded to out's type)
struct AddNormArgs {
  Tensor branch;                       // [R, d] what the sub-layer returned
  Tensor residual;                     // [R, d] read and written
  const float* post_weight = nullptr;  // [d] or null
  const float* pre_weight = nullptr;   // [d] or null
  float scale = 1.0f;                  // residual multiplier
  float eps = 1e-6f;
  Tensor out;  // [R, d] input of the next sub-layer
};

// out = scale * a W^T + bias. Sums are fp32 or wider. If DeviceInfo::exact, their order is the same
// for every R, so that a row's bits never depend on its neighbors (I10).
struct GemmArgs {
  Tensor a;  // [R, k] activation type
  PackedWeight weight;
  const float* bias = nullptr;  // [n] or null
  float scale = 1.0f;           // multiplies the product before the bias (logit scale)
  Tensor out;                   // [R, n] activation, residual or fp32 type
};

// Which elements i < rotary_dim / 2 pair up: (i, i + rotary_dim / 2), as in GPT-NeoX, or
// (2i, 2i + 1), as in GPT-J. A pair becomes x' = x cos - y sin, y' = y cos + x sin.
enum class RopeLayout : uint8_t { kHalfSplit, kInterleaved };

// Cosines and sines of one rotation, computed at load time in double precision: for every position
// `rotary_dim / 2` cosines, then as many sines, multiplied by the attention factor.
struct RopeTable {
  const float* data = nullptr;  // [positions, rotary_dim]; null: no rotation
  int32_t positions = 0;
  int32_t rotary_dim = 0;  // even; elements past it are not rotated
  RopeLayout layout = RopeLayout::kHalfSplit;
};

// The shape of a layer's attention and of its cache.
struct HeadShape {
  int32_t heads = 0;
  int32_t kv_heads = 0;  // divides heads
  int32_t head_dim = 0;  // even, at most kMaxHeadDim
  bool operator==(const HeadShape&) const = default;
};

// One page holds page_tokens tokens of every layer of one group. The device lays it out.
struct KvShape {
  HeadShape head;
  int32_t layers_per_group = 0;
  int32_t page_tokens = 0;  // a power of two; a device may set a minimum (Unsupported)
};

// The page pool: `pages` pages of Device::KvBytesPerPage(shape) bytes, shared by all groups.
struct KvPool {
  void* data = nullptr;
  KvShape shape;
  int64_t page_bytes = 0;
  int32_t pages = 0;
};

// Where one layer's keys and values live in a page.
struct KvLayer {
  int32_t group = 0;  // which page table
  int32_t index = 0;  // position of the layer inside the group's pages
};

// Per head: optional RMSNorm of q and k, rotation of q and k, then k and v are written to their
// page, v unchanged. q is normalized and rotated in place; k may be as well. Tokens whose slot is
// -1 are skipped.
struct StoreKvArgs {
  StepView step;
  KvPool pool;
  KvLayer layer;
  Tensor qkv;                     // [T, (heads + 2 * kv_heads) * hd]: q heads, k heads, v heads
  const float* q_norm = nullptr;  // [hd] or null
  const float* k_norm = nullptr;  // [hd] or null
  float eps = 1e-6f;
  RopeTable rope;
};

// Causal attention of every token over its sequence's pages, for any mix of prompt chunks and
// decode rows; tokens whose slot is -1 are skipped. Query head h reads KV head h / (heads /
// kv_heads). A token at position p sees positions max(0, p - window + 1) .. p. Softmax in fp32 or
// wider; if DeviceInfo::exact, key blocks start at fixed absolute positions (I10).
struct AttendArgs {
  StepView step;
  KvPool pool;
  KvLayer layer;
  Tensor q;                 // [T, heads * hd] (may be a column view of qkv)
  int32_t window = 0;       // 0: no window
  float scale = 1.0f;       // of the scores; positive, so that it keeps their order
  Tensor out;               // [T, heads * hd]
  void* scratch = nullptr;  // Device::AttendScratchBytes() bytes, aligned as by Device::Alloc
};

// kSilu: x / (1 + e^-x). kGeluTanh: x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3))).
enum class Activation : uint8_t { kSilu, kGeluTanh };

// out = act(gate) * up.
struct ActArgs {
  Tensor gate_up;  // [R, 2 * F]: gate, then up
  Activation kind = Activation::kSilu;
  Tensor out;  // [R, F]
};

// out[i] = x[index[i]].
struct GatherRowsArgs {
  Tensor x;                        // [T, d]
  const int32_t* index = nullptr;  // [R] device memory
  Tensor out;                      // [R, d]
};

// Draws or scores one token per row of logits, with the parameters of its slot: log-probability of
// the raw logits; bias, masks and penalties; temperature; min-p; top-k; top-p; draw. The draw is
// the largest of logit/temperature + Gumbel noise, keyed by (seed, output index, position, token),
// so preemption and batching change nothing (I13). A token at or past `valid_vocab` is never drawn;
// as a target it scores -infinity and ranks last. A draw updates the slot's last token, generated
// count and penalty counts; a score changes nothing. The logits may be overwritten. Exact
// definition: sampler_math.h.
struct SampleArgs {
  StepView step;
  Tensor logits;            // [O, V] fp32
  int32_t valid_vocab = 0;  // at most V and SlotShape::vocab_size
  // For grammars; the engine sets none. Per row, V bits in (V + 31) / 32 words: the allowed tokens;
  // a null row allows all.
  const uint32_t* const* masks = nullptr;  // [O] or null
  TokenResult* results = nullptr;          // [O] device memory
};

using OpArgs = std::variant<EmbedArgs, NormArgs, AddNormArgs, GemmArgs, StoreKvArgs, AttendArgs,
                            ActArgs, GatherRowsArgs, SampleArgs>;

// What an op's roofline is computed from.
struct OpCost {
  double bytes = 0;  // that must cross memory at least once
  double flops = 0;
};

// "Gemm", "Attend", ...
const char* OpName(const OpArgs& args);
// One line with the shapes, types and options that select a kernel.
std::string OpDescription(const OpArgs& args);
// Lower bounds. `context_tokens`: sum over query tokens of the keys it attends to; only Attend uses
// it.
OpCost CostOf(const OpArgs& args, double context_tokens = 0);

}  // namespace baram

#endif  // BARAM_KERNELS_OPS_H_
