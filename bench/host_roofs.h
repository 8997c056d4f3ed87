// The host's roofs: reading memory, and multiplying from registers.
#ifndef BARAM_BENCH_HOST_ROOFS_H_
#define BARAM_BENCH_HOST_ROOFS_H_

#include <string>

#include "bench/roofs.h"

namespace baram::bench {

// Takes about a second and 1 GiB. `isa` limits the multiplications to those of a device's path:
// "amx", "avx512_bf16", "avx512" or "avx2"; anything else means avx2.
Roofs MeasureHostRoofs(int threads, const std::string& isa);

}  // namespace baram::bench

#endif  // BARAM_BENCH_HOST_ROOFS_H_
