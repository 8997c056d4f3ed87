// This process's peak memory, for tests of memory bounds.
#ifndef BARAM_TESTS_SERVER_PEAK_MEMORY_H_
#define BARAM_TESTS_SERVER_PEAK_MEMORY_H_

#include <gtest/gtest.h>

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

}  // namespace baram

#endif  // BARAM_TESTS_SERVER_PEAK_MEMORY_H_
