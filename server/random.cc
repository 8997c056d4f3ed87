// Random bits: SplitMix64, seeded by the system.
#include "server/random.h"

#include <atomic>
#include <random>

namespace baram::server {

uint64_t RandomBits() {
  static std::atomic<uint64_t> state{(uint64_t{std::random_device{}()} << 32) |
                                     std::random_device{}()};
  uint64_t z = state.fetch_add(0x9E3779B97F4A7C15u, std::memory_order_relaxed);
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return z ^ (z >> 31);
}

}  // namespace baram::server
