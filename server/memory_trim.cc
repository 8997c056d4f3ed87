// MemoryTrim: see the header.
#include "server/memory_trim.h"

#include <malloc.h>

#include <algorithm>

#include "server/process_metrics.h"

namespace baram::server {

void MemoryTrim::Look(SteadyTime now) {
  if (now < next_) return;
  next_ = now + kInterval;
  const int64_t bytes = ResidentBytes();
  least_bytes_ = std::min(least_bytes_, bytes);
  if (bytes - least_bytes_ < kWorthwhileBytes) return;
  // What is in use now may be free at the next look.
  if (static_cast<int64_t>(mallinfo2().fordblks) < kWorthwhileBytes) return;
  malloc_trim(0);
  least_bytes_ = ResidentBytes();
}

}  // namespace baram::server
