// A GPU kernel that reads memory and does nothing else: what no kernel that must read can beat.
#ifndef BARAM_BENCH_READ_MEMORY_H_
#define BARAM_BENCH_READ_MEMORY_H_

#include <cstdint>

namespace baram::bench {

// Reads `bytes` (a multiple of 64 KiB) of GPU memory `times` times on a stream of its own of the
// GPU that this thread uses, waits, and returns the seconds taken in all. Negative: the GPU failed.
double SecondsToReadMemory(const void* memory, int64_t bytes, int times);

}  // namespace baram::bench

#endif  // BARAM_BENCH_READ_MEMORY_H_
