// How an Attend is cut into work for the blocks of a GPU. Pure: a function of the step's rows, the
// heads, the window and a few facts of the device.
//
// Three kernels share the rows of a step by how many query rows (a token and a head) read the same
// keys. For each of them the keys of all its rows, one after another, are cut into as many equal
// shares as the GPU holds blocks of threads for one KV head: a share ends in the middle of a
// sequence where it must, so a long context among short ones, or alone, fills the GPU as well. The
// block that is done last merges what the parts of a cut tile found: attend_merge.h.
//
// The launch shape depends on the heads and the device alone, never on lengths, so that a captured
// graph can run again with another plan.
#ifndef BARAM_KERNELS_CUDA_ATTEND_PLAN_H_
#define BARAM_KERNELS_CUDA_ATTEND_PLAN_H_

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "kernels/cuda/slot_arrays.h"
#include "kernels/ops.h"

namespace baram::cuda {

// Keys that a block of threads takes at a time. Blocks of keys begin at multiples of it.
inline constexpr int32_t kKeyBlock = 64;
// The most blocks of a launch; each may need a counter, see attend_merge.h. Enough for six on each
// of 170 multiprocessors.
inline constexpr int32_t kMaxAttendBlocks = 1024;

enum class AttendKernel : uint8_t {
  kVector,  // up to 2 query rows, on the cores for fp32
  kNarrow,  // up to 16, a tensor-core tile high: the warps of a block share the keys
  kWide,    // tiles of 64: the warps of a block share the rows
};
inline constexpr int kAttendKernels = 3;

// What a plan depends on beside the step's rows.
struct AttendKind {
  HeadShape head;
  int32_t window = 0;  // 0: none
  bool operator==(const AttendKind&) const = default;
};
struct AttendDevice {
  int32_t multiprocessors = 0;
  int64_t shared_bytes = 0;  // that the blocks of a multiprocessor may use
};

// How one kernel sees the heads. A unit is what one block computes of a piece: some query heads of
// one KV head; query row r of a unit is token r / heads, head r % heads.
struct AttendTiling {
  int32_t heads = 1;   // of a unit; the last unit of a KV head may have fewer
  int32_t tokens = 1;  // of a tile
  int32_t units = 1;   // of a piece: the grid's x
  int32_t shares = 1;  // of the keys: the grid's y
};
AttendTiling TilingOf(AttendKernel kernel, const HeadShape& head, const AttendDevice& device);
// Which kernel computes a row of `count` tokens.
AttendKernel KernelFor(int32_t count, const HeadShape& head);

// Elements of a head in shared memory: a power of two, at least 32 for kVector, at least 64
// otherwise.
int32_t AttendDepth(AttendKernel kernel, int32_t head_dim);
// Blocks of threads that a multiprocessor's registers hold at once: what the kernels' launch bounds
// hold the compiler to. Shared memory may leave room for fewer.
constexpr int32_t AttendResidentBlocks(AttendKernel kernel, int32_t depth) {
  switch (kernel) {
    case AttendKernel::kVector:
      return depth <= 64 ? 6 : 4;
    case AttendKernel::kNarrow:
      return depth <= 64 ? 4 : depth <= 128 ? 3 : 2;
    case AttendKernel::kWide:
      return 2;
  }
  return 1;
}
// Dynamic shared memory of a block.
int64_t AttendSharedBytes(AttendKernel kernel, int32_t head_dim);

// What a block takes at a time: a tile of query tokens and a part of the keys they see.
struct AttendPiece {
  int32_t token;  // the first, in the step
  int32_t tokens;
  int32_t slot;
  int32_t position;   // of the first token
  int32_t key_begin;  // positions; what single tokens see of them follows from theirs
  int32_t key_end;
  // Where the tile's keys were cut, this is part `part` of `parts`, which are in consecutive
  // shares. The result of its token t goes to partial result `partial + part * tokens + t`.
  int32_t partial = -1;  // -1: the piece is the whole tile, its result the output
  int32_t part = 0;
  int32_t parts = 1;
  bool operator==(const AttendPiece&) const = default;
};

struct AttendPlan {
  // [shares + 1] per kernel: the pieces of share s are share_begin[s] .. share_begin[s + 1] - 1.
  std::vector<int32_t> share_begin[kAttendKernels];
  std::vector<AttendPiece> pieces;  // of all kernels
  int32_t partials = 0;             // tokens' partial results
  int32_t vector_rows = 0;          // the most query rows of a piece of kVector

  bool Uses(AttendKernel kernel) const {
    const auto& begin = share_begin[static_cast<int>(kernel)];
    return begin.front() < begin.back();
  }
};

// Overwrites `plan`; allocates only what it has not held before.
void PlanAttend(std::span<const StepRow> rows, const AttendKind& kind, const AttendDevice& device,
                AttendPlan* plan);
// For people and tests: one line a piece.
std::string AttendPlanText(const AttendPlan& plan);

// The most a plan can hold, whatever the rows: for a step's tokens, and over all heads.
int64_t MostAttendPieces(int32_t step_tokens, const AttendDevice& device);
int64_t MostAttendPartials(const HeadShape& head, const AttendDevice& device);
// Scratch memory for partial results: two floats and the padded head as fp32, for every token and
// head.
int64_t AttendPartialBytes(const HeadShape& head, int32_t row_elements, const AttendDevice& device);

}  // namespace baram::cuda

#endif  // BARAM_KERNELS_CUDA_ATTEND_PLAN_H_
