// This process's memory, for tests of memory bounds.
#ifndef BARAM_TESTS_SERVER_PEAK_MEMORY_H_
#define BARAM_TESTS_SERVER_PEAK_MEMORY_H_

#include <gtest/gtest.h>
#include <malloc.h>

#include <cstdint>
#include <fstream>
#include <string>

namespace baram {

// Resets the peak to what this process holds now. False if the kernel does not support that.
inline bool ForgetPeak() {
  std::ofstream forget("/proc/self/clear_refs");
  return static_cast<bool>(forget << "5" << std::flush);
}

inline int64_t PeakBytes() {
  std::ifstream status("/proc/self/status");
  for (std::string word; status >> word;) {
    int64_t kib = 0;
    if (word == "VmHWM:" && status >> kib) return kib << 10;
  }
  ADD_FAILURE() << "no VmHWM in /proc/self/status";
  return 0;
}

// Of the heap; what was freed does not count, whether or not the system has it back.
inline int64_t LiveBytes() {
  const struct mallinfo2 heap = mallinfo2();
  return static_cast<int64_t>(heap.uordblks + heap.hblkhd);
}

}  // namespace baram

#endif  // BARAM_TESTS_SERVER_PEAK_MEMORY_H_
