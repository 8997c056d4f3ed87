// Attend for one or two query rows that share their keys: decode steps of models with as many KV
// heads as query heads or half as many, on the fp32 cores.
//
//   out = softmax(scale * q K^T) V over the keys each row sees, flash-decoding: pieces of the keys
//   are computed by different blocks and put together by the last of them, see attend_merge.h
//
// Bound by reading the cache: 4 * hd * kv_heads bytes per key for 4 * hd * heads flops, at most 2
// flops per byte here. More query rows per KV head go to attend_tiles.cu, where tensor cores keep
// up with memory. The limit is calculated, not measured, from the instructions that a warp compiled
// for sm_90a executes for 16 keys of 128 elements, 8 KiB: 628 for one row, 920 for two, 1466 for
// four; on tensor cores some 400 for any number up to 16. With 132 multiprocessors, 4 instructions
// per cycle and 1.75 GHz, four rows could read 5.2 TB/s if no cycle were lost, hardly more than an
// H200 delivers; two rows 8.2.
//
// Grid [KV heads, shares of the keys], 128 threads. A key takes kDepth / 8 lanes of 8 elements, so
// a warp reads 32 * 8 / kDepth keys at a time, 16 keys (all in one page) of each block of 64. A
// lane copies its own 16 bytes of keys and values to shared memory one block ahead, and no other
// lane reads them: no barrier until the piece is done. Each group of lanes keeps its own softmax,
// so that lanes communicate only to sum a score; the softmaxes are merged at the end of the piece.

#include "kernels/cuda/attend_merge.h"
#include "kernels/cuda/attend_pieces.h"
#include "kernels/cuda/dispatch.h"
#include "kernels/cuda/launchers.h"
#include "kernels/cuda/prims/reduce.h"

namespace baram::cuda {
namespace {

constexpr int kWarpKeys = kKeyBlock / kAttendWarps;
// Partial results that a lane reads at once. 8 only at depth 128: with shorter heads a thread has
// too few registers, and with two rows of longer heads they spill.
template <int kDepth>
inline constexpr int kMergedAtOnce = kDepth == 128 ? 8 : 4;

template <int kDepth, int kRows>
class VectorPiece {
 public:
  __device__ VectorPiece(const AttendLaunch& args, const AttendUnit& unit, const AttendPiece& piece)
      : args_(args),
        unit_(unit),
        piece_(piece),
        lane_(static_cast<int>(threadIdx.x) % kWarpThreads),
        warp_(static_cast<int>(threadIdx.x) / kWarpThreads),
        begin_(lane_ % kLanes * kWideVector) {}

  // Leaves its results in shared memory, for all threads.
  __device__ void Run() {
    Begin();
    const int32_t first = piece_.key_begin / kKeyBlock;
    const int32_t end = (piece_.key_end - 1) / kKeyBlock + 1;
    int32_t page = PageOf(first);
    Copy(first, 0, page);
    page = PageOf(first + 1);
    for (int32_t block = first; block < end; ++block) {
      const int stage = (block - first) % 2;
      Copy(block + 1, 1 - stage, page);
      page = PageOf(block + 2);  // the arithmetic hides its latency
      CopyAsyncWait<1>();
      Add(block, Stage(stage));
    }
    CopyAsyncWait<0>();
    __syncthreads();  // results take the place of the stages
    Leave();
    __syncthreads();
  }

  // Parts of the results, in the order of dynamic shared memory.
  static constexpr int kParts = kAttendWarps * (kWarpThreads * kWideVector / kDepth);

 private:
  static constexpr int kLanes = kDepth / kWideVector;    // of a key
  static constexpr int kGroups = kWarpThreads / kLanes;  // keys a warp reads at a time
  static constexpr int kPasses = kWarpKeys / kGroups;    // until its part of a block is read
  static constexpr int kPlane = kPasses * kWarpThreads;  // vectors of a warp's keys, or values

  // This lane's vectors, kWarpThreads apart: [kPasses] of keys, then of values.
  __device__ uint4* Stage(int stage) const {
    return DynamicShared<uint4>() + (stage * kAttendWarps + warp_) * 2 * kPlane + lane_;
  }
  __device__ int32_t Key(int32_t block, int pass) const {
    return block * kKeyBlock + warp_ * kWarpKeys + pass * kGroups + lane_ / kLanes;
  }

  __device__ bool Sees(int r, int32_t key) const {
    return key >= keys_[r].begin && key < keys_[r].end;
  }

  __device__ void Begin() {
    for (int r = 0; r < kRows; ++r) {
      LoadQuery(args_, RowOf(args_, piece_, unit_, r), begin_, q_[r]);
      for (int i = 0; i < kWideVector; ++i) {
        q_[r][i] *= args_.scale;
        sums_[r][i] = 0;
      }
      keys_[r] = KeysOf(args_, piece_, r);
      state_[r] = {kMinusInfinity, 0};
    }
  }

  // The page of this warp's keys of a block. Does not read the page table if no key is wanted.
  __device__ int32_t PageOf(int32_t block) const {
    const int32_t first = block * kKeyBlock + warp_ * kWarpKeys;
    if (first >= piece_.key_end || first + kWarpKeys <= piece_.key_begin) return -1;
    return args_.kv.Page(piece_.slot, first >> args_.kv.page_shift);
  }

  // Keys outside the piece become zero: they may be NaN, and 0 times NaN is NaN.
  __device__ void Copy(int32_t block, int stage, int32_t page) const {
    uint4* to = Stage(stage);
    const KvView& kv = args_.kv;
    const Bf16* keys = kv.Plane(page < 0 ? 0 : page, unit_.kv_head, 0);
    const Bf16* values = kv.Plane(page < 0 ? 0 : page, unit_.kv_head, 1);
    for (int pass = 0; pass < kPasses; ++pass) {
      const int32_t key = Key(block, pass);
      const bool wanted =
          key >= piece_.key_begin && key < piece_.key_end && begin_ < kv.row_elements;
      const int32_t row = key & ((1 << kv.page_shift) - 1);
      const int32_t at = wanted ? row * kv.row_elements + begin_ : 0;
      CopyAsync16(to + pass * kWarpThreads, keys + at, wanted ? 16 : 0);
      CopyAsync16(to + kPlane + pass * kWarpThreads, values + at, wanted ? 16 : 0);
    }
    CopyAsyncCommit();
  }

  __device__ void Add(int32_t block, const uint4* stage) {
    float scores[kPasses][kRows];
    BARAM_UNROLL
    for (int pass = 0; pass < kPasses; ++pass) {
      float key[kWideVector];
      LoadVector<kWideVector>(reinterpret_cast<const Bf16*>(stage + pass * kWarpThreads), key);
      for (int r = 0; r < kRows; ++r) {
        float dot = 0;
        for (int i = 0; i < kWideVector; ++i) dot += q_[r][i] * key[i];
        dot = WarpReduce<Sum>(dot, kLanes);
        scores[pass][r] = Sees(r, Key(block, pass)) ? dot : kMinusInfinity;
      }
    }
    for (int r = 0; r < kRows; ++r) {
      float largest = state_[r].largest;
      BARAM_UNROLL
      for (int pass = 0; pass < kPasses; ++pass) largest = fmaxf(largest, scores[pass][r]);
      const float factor = Rescale(state_[r].largest, largest);
      float sum = state_[r].sum * factor;
      BARAM_UNROLL
      for (int pass = 0; pass < kPasses; ++pass) {
        scores[pass][r] = Rescale(scores[pass][r], largest);
        sum += scores[pass][r];
      }
      state_[r] = {largest, sum};
      for (int i = 0; i < kWideVector; ++i) sums_[r][i] *= factor;
    }
    BARAM_UNROLL
    for (int pass = 0; pass < kPasses; ++pass) {
      float value[kWideVector];
      LoadVector<kWideVector>(reinterpret_cast<const Bf16*>(stage + kPlane + pass * kWarpThreads),
                              value);
      for (int r = 0; r < kRows; ++r) {
        // A weight of 0 is not enough: 0 times NaN is NaN. A single row sees all keys of the piece.
        if (kRows > 1 && !Sees(r, Key(block, pass))) continue;
        for (int i = 0; i < kWideVector; ++i) sums_[r][i] += scores[pass][r] * value[i];
      }
    }
  }

  __device__ void Leave() const {
    const int part = warp_ * kGroups + lane_ / kLanes;
    for (int r = 0; r < kRows; ++r) {
      float* row = DynamicShared<float>() + (part * kRows + r) * kResultStride<kDepth>;
      StoreVector<kWideVector>(sums_[r], row + begin_);
      if (begin_ == 0) LeaveState<kDepth>(row, state_[r]);
    }
  }

  const AttendLaunch& args_;
  const AttendUnit unit_;
  const AttendPiece piece_;
  const int lane_;
  const int warp_;
  const int32_t begin_;  // this lane's first element of a head
  float q_[kRows][kWideVector];
  float sums_[kRows][kWideVector];
  KeyRange keys_[kRows];
  SoftmaxState state_[kRows];  // over the keys of this group of lanes
};

template <int kDepth, int kRows>
__global__ void __launch_bounds__(kAttendThreads,
                                  AttendResidentBlocks(AttendKernel::kVector, kDepth))
    AttendVectorKernel(const __grid_constant__ AttendLaunch args) {
  WaitForPrevious();
  LetNextStart();
  const AttendUnit unit = UnitOf(args);
  for (int32_t i = args.share_begin[blockIdx.y]; i < args.share_begin[blockIdx.y + 1]; ++i) {
    using Piece = VectorPiece<kDepth, kRows>;
    Piece(args, unit, args.pieces[i]).Run();
    Finish<kDepth, kMergedAtOnce<kDepth>>(args, args.pieces + i, unit, DynamicShared<float>(),
                                          Piece::kParts, kRows);
    __syncthreads();  // the next piece's keys overwrite shared memory
  }
}

}  // namespace

void LaunchAttendVector(const AttendArgs& args, const AttendPlanArrays& plan,
                        const AttendTiling& tiling, int32_t rows, uint32_t* arrived,
                        LaunchStream stream) {
  const AttendLaunch launch = AttendLaunchOf(args, plan, tiling, AttendKernel::kVector, arrived);
  const int64_t shared = AttendSharedBytes(AttendKernel::kVector, launch.head_dim);
  WithConstant<32, 64, 128, 256>(
      AttendDepth(AttendKernel::kVector, launch.head_dim), [&](auto depth) {
        WithConstant<1, 2>(rows, [&](auto tile_rows) {
          Launch(AttendVectorKernel<depth(), tile_rows()>, GridOf(tiling), {kAttendThreads}, shared,
                 stream, launch);
        });
      });
}

}  // namespace baram::cuda
