// A device's roofs: the speed of reading its memory and of multiplying matrices. Benchmarks report
// shares of these, measured in the same run.
#ifndef BARAM_BENCH_ROOFS_H_
#define BARAM_BENCH_ROOFS_H_

#include <cstdint>
#include <string>

#include "kernels/device.h"

namespace baram::bench {

struct Roofs {
  double read_bytes_per_s = 0;  // from memory, all threads or multiprocessors together
  double flops_per_s = 0;       // all together
  // "amx-bf16", "avx512-bf16", "avx512-fma", "avx2-fma", "gemm 8192 x 8192 x 8192, cublaslt"
  std::string flops_unit;
};

// Sizes with which a GPU's roofs are measured.
struct GpuRoofSizes {
  int64_t read_bytes = int64_t{2} << 30;  // many times any L2; a multiple of 64 KiB
  int64_t gemm = 8192;                    // rows, columns and depth; a multiple of 64
};

// Measures one device, any number of times. On the host: reading DRAM and a loop in registers, on
// threads of its own. On a GPU: a kernel that only reads, and the device's own Gemm, which uses
// NVIDIA's library for such a product if available; the unit names the kernel.
class RoofMeter {
 public:
  // Allocates from `device`, which must not have run a step yet and must outlive the meter.
  explicit RoofMeter(Device& device, const GpuRoofSizes& sizes = {});

  // Takes about a second; the device must be idle. Of several results the larger is the better
  // roof.
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
