// The kernels for AMX-BF16 together with AVX-512 and AVX512_BF16.
#include <immintrin.h>

#include "kernels/cpu/kernel_table.h"

#define BARAM_VECTOR_BITS 512

namespace baram::cpu {
namespace {

// Each may use those before it.
// clang-format off
#include "kernels/cpu/thread.inc"
#include "kernels/cpu/vec.inc"
#include "kernels/cpu/gemm_epilogue.inc"
#include "kernels/cpu/gemm_amx.inc"
#include "kernels/cpu/norm.inc"
#include "kernels/cpu/act.inc"
#include "kernels/cpu/store_kv.inc"
#include "kernels/cpu/attend.inc"
#include "kernels/cpu/attend_amx.inc"
#include "kernels/cpu/sample.inc"
// clang-format on

}  // namespace

const KernelTable kAmxKernels = {
    .isa = "amx",
    .enter_thread = EnterAmxThread,
    .gemm_form = {.tiles = true, .element_bytes = 2},
    .pack_a = PackTiles,
    .gemm = GemmTiles,
    .norm = Norm,
    .add_norm = AddNorm,
    .act = Act,
    .store_kv = StoreKv,
    .attend = AttendAmx,
    .merge_attend = MergeAttendAmx,
    .sample = kSamplePasses,
};

}  // namespace baram::cpu
