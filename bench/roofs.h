// What this machine can do at best: reading memory, and multiplying from registers.
#ifndef BARAM_BENCH_ROOFS_H_
#define BARAM_BENCH_ROOFS_H_

#include <string>

namespace baram::bench {

struct Roofs {
  double read_bytes_per_s = 0;  // DRAM, all threads together
  double flops_per_s = 0;       // all threads together, no memory touched
  std::string flops_unit;       // "amx-bf16", "avx512-fma", "avx2-fma"
};

// Takes about a second and 1 GiB. `isa` limits the multiplications to those of a device's path:
// "amx", "avx512" or "avx2"; anything else means avx2. The larger of two calls is the better roof.
Roofs MeasureRoofs(int threads, const std::string& isa);

}  // namespace baram::bench

#endif  // BARAM_BENCH_ROOFS_H_
