// What the per-ISA kernels are called with: the arguments of ops.h, resolved and flattened.
//
// Plain data over fixed-width types, because the files compiled with AVX-512 or AMX flags must not
// instantiate any inline function of the standard library or of ours: the linker could keep that
// copy for the whole program, which would then not start on a lesser machine. For the same reason
// kernels read the fields of Tensor and never call its member functions.
//
// Measurements in the comments of this folder name their machine by its letter in README,
// "Performance".
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

// The layout of packed weights, see pack.h.
inline constexpr int64_t kPanelColumns = 16;
inline constexpr int64_t kBlockK = 32;

// A weight as PackWeight lays it out.
struct WeightView {
  const uint16_t* data = nullptr;
  int64_t n = 0;
  int64_t k = 0;         // as in the checkpoint
  int64_t padded_k = 0;  // stored, a multiple of 32
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
  Tensor out;
};

// Unit: a row.
struct ActJob {
  Tensor gate_up;
  bool gelu = false;  // tanh form; otherwise SiLU
  Tensor out;
};

// The cache of one layer, as seen by one step. See kv_layout.h for what lies in a page.
struct CacheView {
  uint8_t* layer = nullptr;  // where this layer begins in page 0
  int64_t page_bytes = 0;
  int32_t page_tokens = 0;  // a power of two, at least 32
  int32_t heads = 0;
  int32_t kv_heads = 0;
  int32_t head_dim = 0;
  int32_t padded_k = 0;                 // elements stored of a key
  int32_t padded_v = 0;                 // and of a value
  const int32_t* page_table = nullptr;  // [slots, max_pages_per_slot] of the layer's group
  int32_t max_pages_per_slot = 0;
};

// Unit: a token.
struct StoreKvJob {
  CacheView cache;
  const int32_t* positions = nullptr;    // [tokens]
  const int32_t* token_slots = nullptr;  // [tokens]
  Tensor qkv;                            // bf16
  const float* q_norm = nullptr;         // or null
  const float* k_norm = nullptr;         // or null
  float eps = 0;
  const float* rope = nullptr;  // RopeTable::data or null
  int32_t rotary_dim = 0;
  bool interleaved = false;
};

// Keys per segment. A query row sums each segment from zero and then adds it to the earlier ones;
// position p is in segment p / kSegmentKeys. Part of the summation order, see attend.inc.
inline constexpr int32_t kSegmentKeys = 1024;

// Consecutive tokens of one sequence that attend together, over their keys in some segments.
struct AttendRun {
  int32_t token = 0;  // the first
  int32_t count = 0;
  int32_t slot = 0;
  int32_t position = 0;  // of the first
  int32_t segment = 0;   // the first
  int32_t segments = 0;
  // If the run is split by keys: the index of the partial of its first segment and token. Its
  // partials are [segments, count]. -1: not split.
  int32_t partial = -1;
};

// Query rows (tokens times heads) of a unit of AttendJob.
inline constexpr int32_t kUnitRows = 32;

// Floats of a partial after its padded_v sums of values: 16 lanes of the sum of weights, and the
// largest score in a cache line of its own.
inline constexpr int32_t kPartialTail = 32;

// Unit of attend: a run and some query heads of one KV head; see attend_plan.h. Unit of
// merge_attend: a whole run that was split by keys, and a query head; unit u is run u / heads.
struct AttendJob {
  CacheView cache;
  const AttendRun* runs = nullptr;  // [run_count]
  int64_t run_count = 0;
  int32_t heads_per_unit = 0;
  float* partials = nullptr;  // [partials, heads, padded_v + kPartialTail]
  Tensor q;                   // bf16
  int32_t window = 0;         // 0: none
  float scale = 1.0f;
  Tensor out;  // bf16
};

// How a set of kernels multiplies, and so how it packs the rows of `a`.
struct GemmForm {
  bool tiles = false;         // see gemm_amx.inc; otherwise lanes, see gemm_lanes.inc
  int32_t element_bytes = 4;  // of packed `a`
};

// Up to GemmPlan::chunk_rows rows of a GEMM. pack_a fills `packed_a`; its units are blocks of 16
// rows by block_k columns of `a`, row-major. gemm reads it; its unit is a panel of 16 output
// columns. The sums of the units of one call must fit the worker's scratch, see SumBytes in
// gemm_select.h.
struct GemmJob {
  Tensor a;  // bf16
  WeightView weight;
  const float* bias = nullptr;
  float scale = 1.0f;
  Tensor out;               // bf16 or f32
  int64_t block_k = 0;      // a multiple of kBlockK
  bool stream_out = false;  // write the result past the caches where its layout allows it
  // [rows, padded_k] in pack_a's layout. Tiles round more than 16 rows up to a multiple of 16.
  void* packed_a = nullptr;
};

}  // namespace baram::cpu

#endif  // BARAM_KERNELS_CPU_JOBS_H_
