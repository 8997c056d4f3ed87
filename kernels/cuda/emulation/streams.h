// Streams of the emulation: queues of work that is carried out as late as it may be. The bodies of
// runtime.h's streams, events and graphs are in streams.cc.
#ifndef BARAM_KERNELS_CUDA_EMULATION_STREAMS_H_
#define BARAM_KERNELS_CUDA_EMULATION_STREAMS_H_

#include <functional>

#include "kernels/cuda/runtime.h"

namespace baram::cuda::emulation {

// Puts work on a stream, or into the graph that is captured from it. It is carried out when
// somebody waits for the stream or for an event recorded later, or frees memory: as late as a GPU
// may be, so that whatever it reads must still be there. A null stream carries it out at once: for
// tests of kernels alone. Any thread; work of all streams is carried out one at a time.
void Enqueue(Stream stream, std::function<void()> work);
// The same for a kernel.
void EnqueueLaunch(LaunchStream stream, std::function<void()> work);

// Everything that waits on any stream.
void CarryOutAll();

// What a failing call of the runtime returns: LastError() tells it once more.
Error Failed(Error error);

// If this thread is capturing: false, and the capture is lost. For calls that CUDA forbids then,
// and for marks and graphs in graphs, which nobody needs.
bool AllowedNow();
// What such a call returns, and what the lost capture does.
inline constexpr Error kCapturing = "operation not permitted when stream is capturing";
inline constexpr Error kLostCapture = "operation failed due to a previous error during capture";
inline constexpr Error kInvalid = "invalid argument";
inline constexpr Error kNotSupported = "operation not supported";

// Whether AllocatePinned returned this memory: copies read it when the stream gets there.
bool IsPinned(const void* host);

}  // namespace baram::cuda::emulation

#endif  // BARAM_KERNELS_CUDA_EMULATION_STREAMS_H_
