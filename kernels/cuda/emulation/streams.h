// Streams of the emulation: queues of work that runs as late as allowed. streams.cc implements
// runtime.h's streams, events and graphs.
#ifndef BARAM_KERNELS_CUDA_EMULATION_STREAMS_H_
#define BARAM_KERNELS_CUDA_EMULATION_STREAMS_H_

#include <functional>

#include "kernels/cuda/runtime.h"

namespace baram::cuda::emulation {

// Puts work on a stream, or into the graph being captured from it. The work runs when a thread
// waits for the stream or for an event recorded later, or frees memory: as late as a GPU may run
// it, so whatever it reads must still be there. On a null stream it runs at once, for tests of
// kernels alone. Any thread; work of all streams runs one item at a time. Fails in a capture that
// is lost.
Error Enqueue(Stream stream, std::function<void()> work);
// The same for a kernel, whose error LastError() returns.
void EnqueueLaunch(LaunchStream stream, std::function<void()> work);

// What this thread's last launch requested.
LaunchStream LastLaunch();

// Runs everything queued on any stream.
void CarryOutAll();

// What a failing runtime call returns: LastError() returns it once more.
Error Failed(Error error);

// If this thread is capturing: returns false, and the capture is lost. For calls that CUDA forbids
// then, and for event records and graph launches in captures, which are never needed.
bool AllowedNow();
// The error of such a call, and that of the lost capture.
inline constexpr Error kCapturing = "operation not permitted when stream is capturing";
inline constexpr Error kLostCapture = "operation failed due to a previous error during capture";
inline constexpr Error kInvalid = "invalid argument";
inline constexpr Error kNoMemory = "out of memory";
inline constexpr Error kNotSupported = "operation not supported";

// Whether AllocatePinned returned this memory: copies read it when the stream gets there.
bool IsPinned(const void* host);

}  // namespace baram::cuda::emulation

#endif  // BARAM_KERNELS_CUDA_EMULATION_STREAMS_H_
