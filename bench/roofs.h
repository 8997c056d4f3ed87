// What a device can do at best: reading its memory, and multiplying matrices. Shares are of these,
// measured in the same run.
#ifndef BARAM_BENCH_ROOFS_H_
#define BARAM_BENCH_ROOFS_H_

#include <cstdint>
#include <string>

#include "kernels/device.h"

namespace baram::bench {

struct Roofs {
  double read_bytes_per_s = 0;  // of memory, all threads or multiprocessors together
  double flops_per_s = 0;       // all together
  // "amx-bf16", "avx512-bf16", "avx512-fma", "avx2-fma", "gemm 8192 x 8192 x 8192, cublaslt"
  std::string flops_unit;
};

// How much a GPU's roofs are measured with.
struct GpuRoofSizes {
  int64_t read_bytes = int64_t{2} << 30;  // many times any L2; a multiple of 64 KiB
  int64_t gemm = 8192;                    // rows, columns and depth; a multiple of 64
};

// Measures one device, any number of times. On the host: reading DRAM and a loop in registers, on
// threads of its own. On a GPU: a kernel that does nothing but read, and the device's own Gemm,
// which uses NVIDIA's library for such a product where there is one; the unit names the kernel.
class RoofMeter {
 public:
  // Takes its memory from a device that has not run a step; `device` must outlive the meter.
  explicit RoofMeter(Device& device, const GpuRoofSizes& sizes = {});

  // Takes about a second; the device must have nothing else to do. The larger of what two calls
  // found is the better roof.
  Roofs Measure();

 private:
  double ReadBytesPerSecond();
  double GemmFlopsPerSecond();
  GemmArgs Product() const;

  Device& device_;
  GpuRoofSizes sizes_;
  bool is_gpu_;
  Buffer read_, a_, weight_, out_;  // for a GPU
};

Roofs Larger(const Roofs& a, const Roofs& b);

}  // namespace baram::bench

#endif  // BARAM_BENCH_ROOFS_H_
