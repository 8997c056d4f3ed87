// One wrapper per instruction, with two implementations: nvcc's, often inline PTX, and the
// emulation's.
#ifndef BARAM_KERNELS_CUDA_INSTRUCTIONS_H_
#define BARAM_KERNELS_CUDA_INSTRUCTIONS_H_

#include "kernels/cuda/portability.h"

#ifndef __CUDACC__
#include "kernels/cuda/emulation/collectives.h"
#endif

namespace baram::cuda {

// --- the previous and the next kernel, see Launch

// Waits until all previous kernels have ended and their writes are visible.
__device__ __forceinline__ void WaitForPrevious() {
#ifdef __CUDACC__
  asm volatile("griddepcontrol.wait;" ::: "memory");
#else
  emulation::WaitForPrevious();
#endif
}
// The next kernel may become resident once every block has had a thread call this, or has ended.
// Orders no memory accesses.
__device__ __forceinline__ void LetNextStart() {
#ifdef __CUDACC__
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

// --- conversions

__device__ __forceinline__ float ToFloat(float value) { return value; }
__device__ __forceinline__ float ToFloat(Bf16 value) {
#ifdef __CUDACC__
  return __uint_as_float(static_cast<uint32_t>(value.bits) << 16);
#else
  return F32FromBF16(value.bits);
#endif
}

// Two values rounded to nearest even; `low` is the one at the lower address.
__device__ __forceinline__ uint32_t PackBf16(float low, float high) {
#ifdef __CUDACC__
  uint32_t packed;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
  return packed;
#else
  return BF16FromF32(low) | uint32_t{BF16FromF32(high)} << 16;
#endif
}
__device__ __forceinline__ float LowBf16(uint32_t packed) {
  return ToFloat(Bf16{static_cast<uint16_t>(packed)});
}
__device__ __forceinline__ float HighBf16(uint32_t packed) {
  return ToFloat(Bf16{static_cast<uint16_t>(packed >> 16)});
}

template <typename T>
__device__ __forceinline__ T FromFloat(float value);
template <>
__device__ __forceinline__ float FromFloat<float>(float value) {
  return value;
}
template <>
__device__ __forceinline__ Bf16 FromFloat<Bf16>(float value) {
  return {static_cast<uint16_t>(PackBf16(value, 0.0f))};
}

__device__ __forceinline__ uint32_t BitsOf(float value) {
#ifdef __CUDACC__
  return __float_as_uint(value);
#else
  return std::bit_cast<uint32_t>(value);
#endif
}
__device__ __forceinline__ float FloatOf(uint32_t bits) {
#ifdef __CUDACC__
  return __uint_as_float(bits);
#else
  return std::bit_cast<float>(bits);
#endif
}

// --- functions of one value

// Within 2 units in the last place.
__device__ __forceinline__ float ReciprocalSqrt(float x) {
#ifdef __CUDACC__
  return rsqrtf(x);
#else
  return 1.0f / std::sqrt(x);
#endif
}
// 2^x, within 2^-22 relative; denormal results are zero on a GPU.
__device__ __forceinline__ float Exp2(float x) {
#ifdef __CUDACC__
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
#else
  return std::exp2(x);
#endif
}

// --- lanes of a warp. All lanes of `mask` call these together.

__device__ __forceinline__ void SyncWarp(uint32_t mask = kAllLanes BARAM_WHERE) {
#ifdef __CUDACC__
  __syncwarp(mask);
#else
  emulation::SyncWarp(mask, where);
#endif
}

// T has 4 or 8 bytes.
template <typename T>
__device__ __forceinline__ T ShuffleXor(T value, int lane_bits,
                                        uint32_t mask = kAllLanes BARAM_WHERE) {
#ifdef __CUDACC__
  return __shfl_xor_sync(mask, value, lane_bits);
#else
  return emulation::Shuffle(mask, value, emulation::LaneIndex() ^ lane_bits, where);
#endif
}
template <typename T>
__device__ __forceinline__ T ShuffleFrom(T value, int lane, uint32_t mask = kAllLanes BARAM_WHERE) {
#ifdef __CUDACC__
  return __shfl_sync(mask, value, lane);
#else
  return emulation::Shuffle(mask, value, lane % kWarpThreads, where);
#endif
}
// One bit per lane.
__device__ __forceinline__ uint32_t Ballot(bool holds, uint32_t mask = kAllLanes BARAM_WHERE) {
#ifdef __CUDACC__
  return __ballot_sync(mask, holds);
#else
  return emulation::Ballot(mask, holds, where);
#endif
}

// --- tensor cores: bf16 in, fp32 sums

// d += a b for a [16, 16], b [16, 8], d [16, 8]. With g = lane / 4 and t = lane % 4 a lane holds
//   a[0..3]  rows g, g + 8, g, g + 8; columns 2t and 2t + 1 (first two), 2t + 8 and 2t + 9
//   b[0..1]  rows 2t and 2t + 1, then 2t + 8 and 2t + 9; column g
//   d[0..3]  row g: columns 2t, 2t + 1; row g + 8: the same columns
__device__ __forceinline__ void MmaBf16(float (&d)[4], const uint32_t (&a)[4],
                                        const uint32_t (&b)[2],
                                        uint32_t mask = kAllLanes BARAM_WHERE) {
#ifdef __CUDACC__
  static_cast<void>(mask);
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
  emulation::MmaBf16(mask, d, a, b, where);
#endif
}

// Four matrices of 8 rows of 8 two-byte elements from shared memory: lanes 8i .. 8i + 7 supply the
// addresses of the rows of matrix i, aligned to 16 bytes. Lane l gets element 2 (l % 4) and the
// next of row l / 4 of every matrix; transposed: of column l / 4.
template <bool kTransposed>
__device__ __forceinline__ void LoadMatrices(uint32_t (&out)[4], const void* shared_row,
                                             uint32_t mask = kAllLanes BARAM_WHERE) {
#ifdef __CUDACC__
  static_cast<void>(mask);
  const auto address = static_cast<uint32_t>(__cvta_generic_to_shared(shared_row));
  if constexpr (kTransposed) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
                 : "r"(address)
                 : "memory");
  } else {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
                 : "r"(address)
                 : "memory");
  }
#else
  emulation::LoadMatrices(mask, out, shared_row, kTransposed, where);
#endif
}

// --- asynchronous copies from global to shared memory

// 16 bytes, both sides aligned to 16. The bytes after the first `valid_bytes` are not read but
// become zero.
__device__ __forceinline__ void CopyAsync16(void* shared, const void* global,
                                            int valid_bytes = 16) {
#ifdef __CUDACC__
  const auto address = static_cast<uint32_t>(__cvta_generic_to_shared(shared));
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
               :
               : "r"(address), "l"(global), "r"(valid_bytes)
               : "memory");
#else
  emulation::CheckAligned(shared, 16);
  if (valid_bytes > 0) emulation::CheckAligned(global, 16);
  emulation::CopyLater(shared, global, 16, valid_bytes);
#endif
}
// The same from constant memory, see LoadConstant: allowed before WaitForPrevious().
__device__ __forceinline__ void CopyConstantAsync16(void* shared, const void* global,
                                                    int valid_bytes = 16) {
#ifdef __CUDACC__
  CopyAsync16(shared, global, valid_bytes);
#else
  emulation::CheckAligned(shared, 16);
  if (valid_bytes > 0) emulation::CheckAligned(global, 16);
  emulation::CopyConstantLater(shared, global, 16, valid_bytes);
#endif
}
// Ends a group of copies. A thread must wait for all its copies before it ends.
__device__ __forceinline__ void CopyAsyncCommit() {
#ifdef __CUDACC__
  asm volatile("cp.async.commit_group;" ::: "memory");
#else
  emulation::CommitCopies();
#endif
}
// Waits until at most kGroupsLeft of this thread's groups are in flight. Other threads see the
// bytes after a barrier.
template <int kGroupsLeft>
__device__ __forceinline__ void CopyAsyncWait() {
#ifdef __CUDACC__
  asm volatile("cp.async.wait_group %0;" ::"n"(kGroupsLeft) : "memory");
#else
  emulation::WaitCopies(kGroupsLeft);
#endif
}

// --- global memory

// Constant memory here means global memory that nothing writes while steps run: weights, norms and
// biases of the model, which have arrived before the first step begins (Device::PackWeight and
// Upload do not return earlier). Only it may be accessed before WaitForPrevious(), and
// only with LoadConstant, PrefetchConstant and CopyConstantAsync16. The emulation checks that, but
// not that the memory is constant.

// Loads 16 bytes of constant memory that this kernel reads once: they are not kept in L1. Not
// through the read-only path (.nc): assemblers move such loads past WaitForPrevious(), since no
// other thread's writes concern them.
__device__ __forceinline__ uint4 LoadConstant(const void* global) {
#ifdef __CUDACC__
  uint4 value;
  asm volatile("ld.global.L1::no_allocate.L2::256B.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(value.x), "=r"(value.y), "=r"(value.z), "=r"(value.w)
               : "l"(global));
  return value;
#else
  emulation::CheckAligned(global, sizeof(uint4));
  uint4 value;
  emulation::ReadConstant(&value, global, sizeof(value));
  return value;
#endif
}

// Prefetches the line of constant memory that holds this address into L2.
__device__ __forceinline__ void PrefetchConstant(const void* global) {
#ifdef __CUDACC__
  asm volatile("prefetch.global.L2 [%0];" ::"l"(global));
#else
  uint8_t byte;
  emulation::ReadConstant(&byte, global, sizeof(byte));
#endif
}

// A thread that sees a write this thread makes after the fence also sees all it wrote before.
__device__ __forceinline__ void MemoryFence() {
#ifdef __CUDACC__
  __threadfence();
#endif
}

// These return the previous value. T: int32_t, uint32_t; Add also float.
template <typename T>
__device__ __forceinline__ T AtomicAdd(T* address, T value) {
#ifdef __CUDACC__
  return atomicAdd(address, value);
#else
  const T before = *address;
  *address = before + value;
  return before;
#endif
}
__device__ __forceinline__ uint32_t AtomicMax(uint32_t* address, uint32_t value) {
#ifdef __CUDACC__
  return atomicMax(address, value);
#else
  const uint32_t before = *address;
  *address = before > value ? before : value;
  return before;
#endif
}
__device__ __forceinline__ uint32_t AtomicCompareSwap(uint32_t* address, uint32_t expected,
                                                      uint32_t value) {
#ifdef __CUDACC__
  return atomicCAS(address, expected, value);
#else
  const uint32_t before = *address;
  if (before == expected) *address = value;
  return before;
#endif
}

}  // namespace baram::cuda

#endif  // BARAM_KERNELS_CUDA_INSTRUCTIONS_H_
