// What the per-ISA kernels are called with: the arguments of ops.h, resolved and flattened.
//
// Plain data over fixed-width types, because the files compiled with AVX-512 or AMX flags must not
// instantiate any inline function of the standard library or of ours: the linker could keep that copy
// for the whole program, which would then not start on a lesser machine. For the same reason
// kernels read the fields of Tensor and never call its member functions.
#ifndef BARAM_KERNELS_CPU_JOBS_H_
#define BARAM_KERNELS_CPU_JOBS_H_

#include <cstdint>

#include "kernels/tensor.h"

namespace baram::cpu {

// The private memory of the thread that runs a kernel.
struct Worker {
  int32_t index = 0;
  void* scratch = nullptr;  // kWorkerScratchBytes, aligned to 64 bytes, contents undefined
};

inline constexpr int64_t kWorkerScratchBytes = int64_t{1} << 20;

// A weight as PackWeight lays it out, see pack.h.
struct WeightView {
  const uint16_t* data = nullptr;
  int64_t n = 0;
  int64_t k = 0;         // as in the checkpoint
  int64_t padded_k = 0;  // stored, a multiple of 32
};

// Unit: a row.
struct EmbedJob {
  const int32_t* token_ids = nullptr;  // [rows]
  WeightView table;
  float scale = 1.0f;
  Tensor out;
};

// Unit: a row.
struct GatherJob {
  Tensor x;
  const int32_t* index = nullptr;  // [rows]
  Tensor out;
};

// Unit: a row.
struct NormJob {
  Tensor x;
  const float* weight = nullptr;
  float eps = 0;
  Tensor out;
};

// Unit: a row.
struct AddNormJob {
  Tensor branch;
  Tensor residual;
  const float* post_weight = nullptr;  // or null
  const float* pre_weight = nullptr;   // or null
  float scale = 1.0f;
  float eps = 0;
  Tensor out;  // data null: only the residual
};

// Unit: a row.
struct ActJob {
  Tensor gate_up;
  bool gelu = false;  // tanh form; otherwise SiLU
  Tensor out;
};

// The cache of one layer, as seen by one step.
struct CacheView {
  std::byte* pool = nullptr;
  int64_t page_bytes = 0;
  int32_t page_tokens = 0;  // a power of two
  int32_t layers = 0;       // that share a page
  int32_t layer = 0;        // this one's index among them
  int32_t heads = 0;
  int32_t kv_heads = 0;
  int32_t head_dim = 0;
  const int32_t* page_table = nullptr;  // [slots, max_pages_per_slot] of the layer's group
  int32_t max_pages_per_slot = 0;
};

// Unit: a token.
struct StoreKvJob {
  CacheView cache;
  const int32_t* positions = nullptr;    // [tokens]
  const int32_t* token_slots = nullptr;  // [tokens]
  Tensor qkv;
  const float* q_norm = nullptr;  // or null
  const float* k_norm = nullptr;  // or null
  float eps = 0;
  const float* rope = nullptr;  // RopeTable::data or null
  int32_t rotary_dim = 0;
  bool interleaved = false;
};

// Unit: one entry of the plan, see attend_plan in cpu_attention.cc.
struct AttendJob {
  CacheView cache;
  const int32_t* positions = nullptr;  // [tokens]
  const int32_t* row_begin = nullptr;  // [rows + 1]
  const int32_t* row_slots = nullptr;  // [rows]
  int32_t rows = 0;
  Tensor q;
  int32_t window = 0;
  float scale = 1.0f;
  Tensor out;
};

// How the rows of `a` are laid out for a GEMM, see gemm_select.h.
enum class GemmPath : uint8_t {
  kFma,  // fp32 FMAs: `a` expanded to fp32, [rows, padded_k]
  kAmx,  // tiles: `a` as 16 x 32 bf16 tiles, [rows / 16, padded_k / 32], padded with zeros
};

// Up to GemmPlan::chunk_rows rows of a GEMM. `packed_a` is filled by pack_a and read by gemm.
struct GemmJob {
  GemmPath path = GemmPath::kFma;
  Tensor a;  // bf16
  WeightView weight;
  const float* bias = nullptr;
  float scale = 1.0f;
  Tensor out;  // bf16 or f32
  void* packed_a = nullptr;
};

}  // namespace baram::cpu

#endif  // BARAM_KERNELS_CPU_JOBS_H_
