// MemoryTrim: returns memory that calls have freed to the system.
#ifndef BARAM_SERVER_MEMORY_TRIM_H_
#define BARAM_SERVER_MEMORY_TRIM_H_

#include <chrono>
#include <cstdint>

#include "engine/steady_time.h"

namespace baram::server {

// The C library keeps freed memory between blocks that are still in use: after a flood of small
// calls, more than a gigabyte, for which a container's limit may end the process much later. One
// thread.
class MemoryTrim {
 public:
  // Trimming takes milliseconds per gigabyte, during which allocations may wait.
  static constexpr auto kInterval = std::chrono::minutes(1);
  static constexpr int64_t kWorthwhileBytes = int64_t{64} << 20;

  // Call often. Trims at most once every kInterval, and only if the process has grown by
  // kWorthwhileBytes since the last time, with as much of it free.
  void Look(SteadyTime now);

 private:
  SteadyTime next_{};
  int64_t least_bytes_ = 0;  // resident since the last time
};

}  // namespace baram::server

#endif  // BARAM_SERVER_MEMORY_TRIM_H_
