// A GPU kernel that reads memory and does nothing else: an upper bound on any kernel's read speed.
#ifndef BARAM_BENCH_READ_MEMORY_H_
#define BARAM_BENCH_READ_MEMORY_H_

#include <cstdint>

namespace baram::bench {

// Reads `bytes` (a multiple of 64 KiB) of GPU memory `times` times on its own stream of this
// thread's current GPU, waits, and returns the seconds taken in total. Negative if the GPU failed.
double SecondsToReadMemory(const void* memory, int64_t bytes, int times);

}  // namespace baram::bench

#endif  // BARAM_BENCH_READ_MEMORY_H_
