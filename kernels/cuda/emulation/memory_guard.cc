// The emulated GPU's allocations, poisoned and unpoisoned.
#include "kernels/cuda/emulation/memory_guard.h"

#include <algorithm>
#include <cstring>
#include <iterator>
#include <map>
#include <mutex>
#include <span>
#include <vector>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(address, bytes) (static_cast<void>(0))
#define ASAN_UNPOISON_MEMORY_REGION(address, bytes) (static_cast<void>(0))
#endif

#include "kernels/rounding.h"

namespace baram::cuda::emulation {
namespace {

constexpr std::ptrdiff_t kGranule = 8;  // the sanitizer's unit; allocations are aligned to it

struct Memory {
  std::mutex mutex;
  std::map<const std::byte*, size_t> bytes;  // by address
  // While guarded: what a test had poisoned before, to be poisoned again afterwards.
  std::vector<std::span<const std::byte>> sealed;
};
Memory& All() {
  static auto& memory = *new Memory;
  return memory;
}

// The parts of an allocation that are poisoned already.
void RememberSealed(const std::byte* memory, size_t bytes) {
#ifdef __SANITIZE_ADDRESS__
  const std::byte* const end = memory + bytes;
  for (const std::byte* at = memory; at < end;) {
    at = static_cast<const std::byte*>(
        __asan_region_is_poisoned(const_cast<std::byte*>(at), end - at));
    if (at == nullptr) return;
    const std::byte* begin = at;
    while (at < end && __asan_address_is_poisoned(at)) ++at;
    All().sealed.emplace_back(begin, at - begin);
  }
#else
  static_cast<void>(memory), static_cast<void>(bytes);
#endif
}

}  // namespace

void AddDeviceMemory(void* memory, size_t bytes) {
  std::lock_guard lock(All().mutex);
  All().bytes[static_cast<const std::byte*>(memory)] = bytes;
}

void RemoveDeviceMemory(void* memory) {
  std::lock_guard lock(All().mutex);
  const auto found = All().bytes.find(static_cast<const std::byte*>(memory));
  if (found == All().bytes.end()) return;
  ASAN_UNPOISON_MEMORY_REGION(found->first, found->second);
  All().bytes.erase(found);
}

void GuardDeviceMemory() {
  std::lock_guard lock(All().mutex);
  for (const auto& [memory, bytes] : All().bytes) {
    RememberSealed(memory, bytes);
    ASAN_POISON_MEMORY_REGION(memory, bytes);
  }
}

void ReleaseDeviceMemory() {
  std::lock_guard lock(All().mutex);
  for (const auto& [memory, bytes] : All().bytes) ASAN_UNPOISON_MEMORY_REGION(memory, bytes);
  for (const auto part : All().sealed) ASAN_POISON_MEMORY_REGION(part.data(), part.size());
  All().sealed.clear();
}

void ReadGuarded(void* to, const void* from, size_t bytes) {
  const auto* first = static_cast<const std::byte*>(from);
  std::lock_guard lock(All().mutex);
  const auto after = All().bytes.upper_bound(first);
  const std::byte* begin = nullptr;  // of the part that is unpoisoned for the copy
  const std::byte* end = nullptr;
  if (after != All().bytes.begin()) {
    const auto& [memory, size] = *std::prev(after);
    begin = std::min(first - (first - memory) % kGranule, memory + size);
    end = std::min(begin + RoundUp(first + bytes - begin, kGranule), memory + size);
  }
  ASAN_UNPOISON_MEMORY_REGION(begin, end - begin);
  std::memcpy(to, from, bytes);
  ASAN_POISON_MEMORY_REGION(begin, end - begin);
}

}  // namespace baram::cuda::emulation
