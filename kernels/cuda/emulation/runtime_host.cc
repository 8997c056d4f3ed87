// runtime.h on host memory: facts and memory. Streams, events, copies and graphs are in streams.cc.
#include <malloc.h>

#include <atomic>
#include <cstdlib>
#include <iterator>
#include <map>
#include <mutex>
#include <utility>

#include "kernels/cuda/emulation/emulator.h"
#include "kernels/cuda/emulation/memory_guard.h"
#include "kernels/cuda/emulation/streams.h"
#include "kernels/cuda/runtime.h"
#include "kernels/rounding.h"

namespace baram::cuda {
namespace {

using emulation::AllowedNow;
using emulation::Failed;
using emulation::kCapturing;
using emulation::kNoMemory;

std::atomic<int> allocations_to_failure = 0;
thread_local Error first_error = nullptr;

// Aligned like cudaMalloc. Exact in size, so that the address sanitizer catches the first byte
// beyond.
Error AllocateHost(int64_t bytes, void** memory) {
  *memory = nullptr;
  if (!AllowedNow()) return Failed(kCapturing);
  if (allocations_to_failure > 0 && --allocations_to_failure == 0) return Failed(kNoMemory);
  return posix_memalign(memory, 256, bytes) == 0 ? nullptr : Failed(kNoMemory);
}

constexpr int64_t kMemoryBytes = int64_t{4} << 30;
constexpr int64_t kMemoryPage = int64_t{2} << 20;  // the driver's unit of allocation
std::atomic<int64_t> free_memory = kMemoryBytes;

// GPU memory that an allocation takes.
int64_t PagesOf(void* memory) {
  const auto bytes = static_cast<int64_t>(malloc_usable_size(memory));
  return RoundUp(bytes, kMemoryPage);
}

// Ends of what AllocatePinned returned, by beginning.
struct PinnedRanges {
  std::mutex mutex;
  std::map<const std::byte*, const std::byte*> ends;
};
PinnedRanges& Pinned() {
  static auto& ranges = *new PinnedRanges;
  return ranges;
}

}  // namespace

void emulation::FailAllocation(int n) { allocations_to_failure = n; }
bool emulation::AllocationFailed() { return allocations_to_failure == 0; }

Error emulation::Failed(Error error) {
  KeepError(error);
  return error;
}

bool emulation::IsPinned(const void* host) {
  PinnedRanges& pinned = Pinned();
  std::lock_guard lock(pinned.mutex);
  const auto* address = static_cast<const std::byte*>(host);
  const auto after = pinned.ends.upper_bound(address);
  return after != pinned.ends.begin() && address < std::prev(after)->second;
}

int DriverVersion() { return 13000; }
int RuntimeVersion() { return 13000; }
std::string DriverRelease() { return "580.0"; }

Error CountGpus(int* count) {
  *count = 1;
  return nullptr;
}

Error ReadFacts(int, GpuFacts* facts) {
  *facts = {.name = "emulated GPU",
            .uuid = "GPU-00000000-0000-0000-0000-000000000000",
            .major = 9,
            .minor = 0,
            .multiprocessors = 4,
            .memory_bytes = kMemoryBytes,
            .shared_bytes_per_block = 227 << 10};
  return nullptr;
}

Error UseGpu(int) { return nullptr; }
Error FreeMemory(int64_t* free_bytes) {
  *free_bytes = free_memory;
  return nullptr;
}

Error Allocate(int64_t bytes, void** device) {
  const Error error = AllocateHost(bytes, device);
  if (error != nullptr) return error;
  free_memory -= PagesOf(*device);
  emulation::AddDeviceMemory(*device, bytes);
  return nullptr;
}
void Free(void* device) {
  AllowedNow();
  emulation::CarryOutAll();
  free_memory += PagesOf(device);
  emulation::RemoveDeviceMemory(device);
  std::free(device);
}
Error AllocatePinned(int64_t bytes, void** host) {
  const Error error = AllocateHost(bytes, host);
  if (error != nullptr) return error;
  PinnedRanges& pinned = Pinned();
  std::lock_guard lock(pinned.mutex);
  const auto* begin = static_cast<const std::byte*>(*host);
  pinned.ends[begin] = begin + bytes;
  return nullptr;
}
void FreePinned(void* host) {
  AllowedNow();
  emulation::CarryOutAll();
  {
    PinnedRanges& pinned = Pinned();
    std::lock_guard lock(pinned.mutex);
    pinned.ends.erase(static_cast<const std::byte*>(host));
  }
  std::free(host);
}

void KeepError(Error error) {
  if (first_error == nullptr) first_error = error;
}
Error LastError() { return std::exchange(first_error, nullptr); }

}  // namespace baram::cuda
