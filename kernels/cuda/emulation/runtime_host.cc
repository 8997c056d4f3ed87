// runtime.h on host memory. A stream carries out everything at once but copies to the host, which
// it keeps until somebody waits: code that reads a download too early reads what was there before.
#include <malloc.h>

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "kernels/cuda/runtime.h"

struct CUevent_st {
  CUstream_st* stream = nullptr;  // null: never recorded
};

struct CUstream_st {
  struct Copy {
    void* to;
    std::vector<std::byte> bytes;
  };
  std::vector<Copy> downloads;

  void CarryOut() {
    for (const Copy& copy : downloads) std::memcpy(copy.to, copy.bytes.data(), copy.bytes.size());
    downloads.clear();
  }
};

namespace baram::cuda {
namespace {

// As cudaMalloc aligns. Exact in size, so that the address sanitizer sees the first byte beyond.
Error AllocateHost(int64_t bytes, void** memory) {
  *memory = nullptr;
  return posix_memalign(memory, 256, bytes) == 0 ? nullptr : "out of memory";
}

constexpr int64_t kMemoryBytes = int64_t{4} << 30;
constexpr int64_t kMemoryPage = int64_t{2} << 20;  // what the driver hands out
std::atomic<int64_t> free_memory = kMemoryBytes;

// What an allocation takes of the GPU's memory.
int64_t PagesOf(void* memory) {
  const auto bytes = static_cast<int64_t>(malloc_usable_size(memory));
  return (bytes + kMemoryPage - 1) / kMemoryPage * kMemoryPage;
}

}  // namespace

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
            .l2_bytes = int64_t{1} << 20,
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
  if (error == nullptr) free_memory -= PagesOf(*device);
  return error;
}
void Free(void* device) {
  free_memory += PagesOf(device);
  std::free(device);
}
Error AllocatePinned(int64_t bytes, void** host) { return AllocateHost(bytes, host); }
void FreePinned(void* host) { std::free(host); }

Error CreateStream(Stream* stream) {
  *stream = new CUstream_st;
  return nullptr;
}
void DestroyStream(Stream stream) { delete stream; }
Error Synchronize(Stream stream) {
  stream->CarryOut();
  return nullptr;
}

Error CopyToDevice(void* device, const void* host, int64_t bytes, Stream) {
  std::memcpy(device, host, bytes);
  return nullptr;
}
Error CopyToHost(void* host, const void* device, int64_t bytes, Stream stream) {
  const auto* begin = static_cast<const std::byte*>(device);
  if (bytes > 0) stream->downloads.push_back({host, {begin, begin + bytes}});
  return nullptr;
}
Error Fill(void* device, uint8_t byte, int64_t bytes, Stream) {
  std::memset(device, byte, bytes);
  return nullptr;
}

Error CreateEvent(Event* event) {
  *event = new CUevent_st;
  return nullptr;
}
void DestroyEvent(Event event) { delete event; }
Error RecordEvent(Event event, Stream stream) {
  event->stream = stream;
  return nullptr;
}
Error WaitEvent(Event event) {
  if (event->stream != nullptr) event->stream->CarryOut();
  return nullptr;
}
Error StreamWaitEvent(Stream, Event) { return nullptr; }

Error LastError() { return nullptr; }

}  // namespace baram::cuda
