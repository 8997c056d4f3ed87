// The kernels for AVX2 and FMA.
#include <immintrin.h>

#include "kernels/cpu/kernel_table.h"

#define BARAM_VECTOR_BITS 256

namespace baram::cpu {
namespace {

// Each builds on those before it.
// clang-format off
#include "kernels/cpu/thread.inc"
#include "kernels/cpu/vec.inc"
#include "kernels/cpu/chains_fma.inc"
#include "kernels/cpu/gemm_result.inc"
#include "kernels/cpu/gemm_lanes.inc"
#include "kernels/cpu/norm.inc"
#include "kernels/cpu/act.inc"
#include "kernels/cpu/store_kv.inc"
#include "kernels/cpu/attend.inc"
#include "kernels/cpu/attend_lanes.inc"
#include "kernels/cpu/sample.inc"
// clang-format on

}  // namespace

const KernelTable kAvx2Kernels = {
    .isa = "avx2",
    .enter_thread = EnterThread,
    .gemm_form = {.tiles = false, .element_bytes = sizeof(Factor) / kFactorElements},
    .pack_a = PackFactors,
    .gemm = GemmLanes,
    .norm = Norm,
    .add_norm = AddNorm,
    .act = Act,
    .store_kv = StoreKv,
    .attend = AttendLanes,
    .sample = kSamplePasses,
};

}  // namespace baram::cpu
