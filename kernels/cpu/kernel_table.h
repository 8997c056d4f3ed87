// KernelTable: the kernels of one instruction set. One table per isa_*.cc, chosen once at start-up.
#ifndef BARAM_KERNELS_CPU_KERNEL_TABLE_H_
#define BARAM_KERNELS_CPU_KERNEL_TABLE_H_

#include <cstdint>

#include "kernels/cpu/jobs.h"
#include "kernels/cpu/sample_passes.h"

namespace baram::cpu {

// Computes the units [begin, end) of a job; the job's comment defines its unit. Calls for different
// units run concurrently, in any order, on any worker: the bits of a unit depend on neither the
// order nor the worker.
template <typename Job>
using Kernel = void (*)(const Job& job, int64_t begin, int64_t end, const Worker& worker);

struct KernelTable {
  const char* isa;
  // Called by every thread before it runs a kernel: makes denormals zero as inputs and as results
  // (as AMX does) and configures AMX tiles. Repeated calls are cheap.
  void (*enter_thread)();

  GemmForm gemm_form;
  Kernel<GemmJob> pack_a;
  Kernel<GemmJob> gemm;
  Kernel<NormJob> norm;
  Kernel<AddNormJob> add_norm;
  Kernel<ActJob> act;
  Kernel<StoreKvJob> store_kv;
  Kernel<AttendJob> attend;
  Kernel<AttendJob> merge_attend;  // after attend, where runs are split
  SamplePasses sample;
};

extern const KernelTable kAvx2Kernels;
extern const KernelTable kAvx512Kernels;
extern const KernelTable kAvx512Bf16Kernels;
extern const KernelTable kAmxKernels;

}  // namespace baram::cpu

#endif  // BARAM_KERNELS_CPU_KERNEL_TABLE_H_
