// runtime.h on the CUDA runtime, which is linked statically and starts without a driver.
#include <cuda_runtime_api.h>

#include <cstdio>
#include <cstring>
#include <fstream>
#include <utility>

#include "kernels/cuda/runtime.h"

namespace baram::cuda {
namespace {

// The runtime itself remembers the last error, which in a capture is only that it is spoilt.
thread_local Error first_error = nullptr;

Error Words(cudaError_t error) {
  const Error words = error == cudaSuccess ? nullptr : cudaGetErrorString(error);
  KeepError(words);
  return words;
}

// The runtime reports a MIG slice's UUID like that of a whole GPU; only the slice's name shows what
// it is: "NVIDIA H100 80GB HBM3 MIG 1g.10gb".
std::string UuidText(const cudaUUID_t& uuid, const std::string& name) {
  std::string text = name.find(" MIG ") != std::string::npos ? "MIG" : "GPU";
  for (int i = 0; i < 16; ++i) {
    if (i == 0 || i == 4 || i == 6 || i == 8 || i == 10) text += '-';
    char digits[3];
    std::snprintf(digits, sizeof(digits), "%02x", static_cast<unsigned char>(uuid.bytes[i]));
    text += digits;
  }
  return text;
}

}  // namespace

int DriverVersion() {
  int version = 0;
  return cudaDriverGetVersion(&version) == cudaSuccess ? version : 0;
}

int RuntimeVersion() { return CUDART_VERSION; }

// The line is "NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.65.06  <date>", or with other
// words before the number: the first word of digits and dots is the release.
std::string DriverRelease() {
  std::ifstream in("/proc/driver/nvidia/version");
  for (std::string word; in >> word;) {
    const size_t dot = word.find('.');
    if (dot == std::string::npos || dot == 0) continue;
    if (word.find_first_not_of("0123456789.") == std::string::npos) return word;
  }
  return "";
}

Error CountGpus(int* count) { return Words(cudaGetDeviceCount(count)); }

Error ReadFacts(int ordinal, GpuFacts* facts) {
  cudaDeviceProp properties;
  if (Error error = Words(cudaGetDeviceProperties(&properties, ordinal))) return error;
  facts->name = properties.name;
  facts->uuid = UuidText(properties.uuid, facts->name);
  facts->major = properties.major;
  facts->minor = properties.minor;
  facts->multiprocessors = properties.multiProcessorCount;
  facts->memory_bytes = static_cast<int64_t>(properties.totalGlobalMem);
  facts->shared_bytes_per_block = static_cast<int64_t>(properties.sharedMemPerBlockOptin);
  return nullptr;
}

Error UseGpu(int ordinal) {
  thread_local int used = -1;
  if (used == ordinal) return nullptr;
  const Error error = Words(cudaSetDevice(ordinal));
  if (error == nullptr) used = ordinal;
  return error;
}

Error FreeMemory(int64_t* free_bytes) {
  size_t free = 0;
  size_t total = 0;
  const Error error = Words(cudaMemGetInfo(&free, &total));
  *free_bytes = static_cast<int64_t>(free);
  return error;
}

Error Allocate(int64_t bytes, void** device) { return Words(cudaMalloc(device, bytes)); }
void Free(void* device) { cudaFree(device); }
Error AllocatePinned(int64_t bytes, void** host) {
  return Words(cudaHostAlloc(host, bytes, cudaHostAllocPortable));
}
void FreePinned(void* host) { cudaFreeHost(host); }

// Nonblocking: does not synchronize with the legacy default stream.
Error CreateStream(Stream* stream) {
  return Words(cudaStreamCreateWithFlags(stream, cudaStreamNonBlocking));
}
void DestroyStream(Stream stream) { cudaStreamDestroy(stream); }
Error Synchronize(Stream stream) { return Words(cudaStreamSynchronize(stream)); }

Error CopyToDevice(void* device, const void* host, int64_t bytes, Stream stream) {
  return Words(cudaMemcpyAsync(device, host, bytes, cudaMemcpyHostToDevice, stream));
}
Error CopyToHost(void* host, const void* device, int64_t bytes, Stream stream) {
  return Words(cudaMemcpyAsync(host, device, bytes, cudaMemcpyDeviceToHost, stream));
}
Error Fill(void* device, uint8_t byte, int64_t bytes, Stream stream) {
  return Words(cudaMemsetAsync(device, byte, bytes, stream));
}

// Waiting threads sleep. Spinning would return some microseconds earlier, which two steps in flight
// hide, but occupy a processor for the length of every step, which front-end threads then lack
// under a small cgroup quota. Neither has been measured.
Error CreateEvent(Event* event) {
  return Words(cudaEventCreateWithFlags(event, cudaEventDisableTiming | cudaEventBlockingSync));
}
Error CreateTimedEvent(Event* event) {
  return Words(cudaEventCreateWithFlags(event, cudaEventBlockingSync));
}
void DestroyEvent(Event event) { cudaEventDestroy(event); }
Error RecordEvent(Event event, Stream stream) { return Words(cudaEventRecord(event, stream)); }
Error WaitEvent(Event event) { return Words(cudaEventSynchronize(event)); }
Error SecondsBetween(Event from, Event to, double* seconds) {
  float ms = 0;
  const Error error = Words(cudaEventElapsedTime(&ms, from, to));
  *seconds = double{ms} * 1e-3;
  return error;
}

// Thread-local mode: another thread's allocations do not invalidate the capture.
Error BeginCapture(Stream stream) {
  return Words(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
}
Error EndCapture(Stream stream, Graph* graph) {
  cudaGraph_t captured = nullptr;
  cudaError_t error = cudaStreamEndCapture(stream, &captured);
  if (error != cudaSuccess) return Words(error);
  error = cudaGraphInstantiate(graph, captured, 0);
  cudaGraphDestroy(captured);
  if (error != cudaSuccess) return Words(error);
  error = cudaGraphUpload(*graph, stream);
  if (error != cudaSuccess) cudaGraphExecDestroy(*graph);
  return Words(error);
}
Error LaunchGraph(Graph graph, Stream stream) { return Words(cudaGraphLaunch(graph, stream)); }
void DestroyGraph(Graph graph) { cudaGraphExecDestroy(graph); }

void KeepError(Error error) {
  if (first_error == nullptr) first_error = error;
}
Error LastError() {
  Words(cudaGetLastError());  // and the runtime forgets its own
  return std::exchange(first_error, nullptr);
}

bool IsLackOfMemory(Error error) {
  return error != nullptr && std::strcmp(error, cudaGetErrorString(cudaErrorMemoryAllocation)) == 0;
}

}  // namespace baram::cuda
