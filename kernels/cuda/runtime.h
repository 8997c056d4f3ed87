// The few calls of the CUDA runtime that the device needs, with plain C++ signatures. There are two
// bodies: runtime_cuda.cc, and emulation/runtime_host.cc for tests on machines without a GPU.
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
};

// Null: none. Otherwise the runtime's own words, which live forever. Errors of kernels come with
// whichever call finds them first, and stay.
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
  int64_t shared_bytes_per_block = 0;  // the most a kernel may ask for
};

// CUDA versions are 1000 * major + 10 * minor. The driver's is the newest it can serve; 0: there is
// no driver.
int DriverVersion();
int RuntimeVersion();
// The release of the installed driver, "580.65.06"; empty if it can't be found out.
std::string DriverRelease();

Error CountGpus(int* count);
Error ReadFacts(int ordinal, GpuFacts* facts);
// Makes a GPU the one that this thread's later calls mean. Cheap if it is already.
Error UseGpu(int ordinal);
Error FreeMemory(int64_t* free_bytes);

Error Allocate(int64_t bytes, void** device);
void Free(void* device);
// Memory of the host that the GPU copies from and to without a detour.
Error AllocatePinned(int64_t bytes, void** host);
void FreePinned(void* host);

Error CreateStream(Stream* stream);
void DestroyStream(Stream stream);
Error Synchronize(Stream stream);

// In the order of the stream. From memory that is not pinned, CopyToDevice has read it when it
// returns. Other copies happen when the stream gets there.
Error CopyToDevice(void* device, const void* host, int64_t bytes, Stream stream);
Error CopyToHost(void* host, const void* device, int64_t bytes, Stream stream);
Error Fill(void* device, uint8_t byte, int64_t bytes, Stream stream);

Error CreateEvent(Event* event);
// One that remembers when the stream got there.
Error CreateTimedEvent(Event* event);
void DestroyEvent(Event event);
Error RecordEvent(Event event, Stream stream);
// Blocks the thread without spinning. Returns at once for an event that was never recorded.
Error WaitEvent(Event event);
// The time between two timed events, both recorded and waited for.
Error SecondsBetween(Event from, Event to, double* seconds);

// What this thread puts on the stream from now on becomes a graph and is not carried out. Until
// EndCapture the thread must not wait, allocate or free memory; an error between the two is told by
// EndCapture, which leaves the stream as it was before BeginCapture.
Error BeginCapture(Stream stream);
Error EndCapture(Stream stream, Graph* graph);
// Carries out what was captured, arguments of kernels as they were then.
Error LaunchGraph(Graph graph, Stream stream);
void DestroyGraph(Graph graph);

// The error of the launches since the last call.
Error LastError();

// Whether an error means that what was asked for is not there: an argument that is invalid or not
// supported, or a call that no capture takes. What is called after that in a capture says only that
// it is spoilt, which counts as well.
bool IsUnsupported(Error error);

}  // namespace baram::cuda

#endif  // BARAM_KERNELS_CUDA_RUNTIME_H_
