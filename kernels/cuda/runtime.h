// The few calls of the CUDA runtime that the device needs, with plain C++ signatures. There are two
// implementations: runtime_cuda.cc, and emulation/ (runtime_host.cc and streams.cc) for tests on
// machines without a GPU.
#ifndef BARAM_KERNELS_CUDA_RUNTIME_H_
#define BARAM_KERNELS_CUDA_RUNTIME_H_

#include <cstddef>
#include <cstdint>
#include <string>

// The runtime's own opaque types.
struct CUstream_st;
struct CUevent_st;
struct CUgraphExec_st;

namespace baram::cuda {

using Stream = CUstream_st*;
using Event = CUevent_st*;
using Graph = CUgraphExec_st*;  // captured and ready to run

// Where kernels are launched, and whether they overlap there: see Launch in portability.h.
struct LaunchStream {
  Stream stream = nullptr;
  bool overlap = true;
  bool carveout = true;  // with overlap
};

// Null: none. Otherwise the runtime's own message, which is never freed. Errors of kernels are
// returned by whichever call detects them first, and are sticky.
using Error = const char*;

struct Dim3 {
  uint32_t x = 1, y = 1, z = 1;
};

struct GpuFacts {
  std::string name;  // "NVIDIA H200"
  std::string uuid;  // "GPU-0f2b..." or "MIG-0f2b...", as nvidia-smi -L prints it
  int major = 0;     // compute capability
  int minor = 0;
  int32_t multiprocessors = 0;
  int64_t memory_bytes = 0;
  int64_t shared_bytes_per_block = 0;  // the most a kernel may request
};

// CUDA versions are 1000 * major + 10 * minor. The driver's is the newest it supports; 0: there is
// no driver.
int DriverVersion();
int RuntimeVersion();
// The release of the installed driver, "580.65.06"; empty if unknown.
std::string DriverRelease();

Error CountGpus(int* count);
Error ReadFacts(int ordinal, GpuFacts* facts);
// Makes a GPU the current one of this thread's later calls. Cheap if it already is.
Error UseGpu(int ordinal);
Error FreeMemory(int64_t* free_bytes);

Error Allocate(int64_t bytes, void** device);
void Free(void* device);
// Page-locked host memory, which the GPU copies from and to directly.
Error AllocatePinned(int64_t bytes, void** host);
void FreePinned(void* host);

Error CreateStream(Stream* stream);
void DestroyStream(Stream stream);
Error Synchronize(Stream stream);

// In stream order. From memory that is not pinned, CopyToDevice has read it when it returns. Other
// copies happen when the stream reaches them.
Error CopyToDevice(void* device, const void* host, int64_t bytes, Stream stream);
Error CopyToHost(void* host, const void* device, int64_t bytes, Stream stream);
Error Fill(void* device, uint8_t byte, int64_t bytes, Stream stream);

Error CreateEvent(Event* event);
// An event that records when the stream reached it.
Error CreateTimedEvent(Event* event);
void DestroyEvent(Event event);
Error RecordEvent(Event event, Stream stream);
// Blocks the thread without spinning. Returns at once for an event that was never recorded.
Error WaitEvent(Event event);
// The time between two timed events, both recorded and waited for.
Error SecondsBetween(Event from, Event to, double* seconds);

// What this thread puts on the stream from now on becomes a graph and is not executed. Until
// EndCapture the thread must not wait, allocate or free memory; an error between the two is
// returned by EndCapture, which leaves the stream as it was before BeginCapture.
Error BeginCapture(Stream stream);
Error EndCapture(Stream stream, Graph* graph);
// Executes the captured work, with the kernel arguments of the capture.
Error LaunchGraph(Graph graph, Stream stream);
void DestroyGraph(Graph graph);

// The first error of this thread's calls and launches since the last call, which is cleared: the
// first failure in a capture is the reason for all later ones.
Error LastError();
// Remembers an error for LastError(), unless there is one. For launches, which return none.
void KeepError(Error error);

// Whether a runtime error means that memory ran out.
bool IsLackOfMemory(Error error);

}  // namespace baram::cuda

#endif  // BARAM_KERNELS_CUDA_RUNTIME_H_
