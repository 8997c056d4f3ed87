// Owners of what runtime.h hands out.
#ifndef BARAM_KERNELS_CUDA_DEVICE_MEMORY_H_
#define BARAM_KERNELS_CUDA_DEVICE_MEMORY_H_

#include <cstdint>
#include <memory>

#include "kernels/cuda/runtime.h"

namespace baram::cuda {

struct FreeDevice {
  void operator()(void* memory) const { Free(memory); }
};
struct FreePinnedHost {
  void operator()(void* memory) const { FreePinned(memory); }
};
struct DestroyOwnedStream {
  void operator()(Stream stream) const { DestroyStream(stream); }
};
struct DestroyOwnedEvent {
  void operator()(Event event) const { DestroyEvent(event); }
};
struct DestroyOwnedGraph {
  void operator()(Graph graph) const { DestroyGraph(graph); }
};

using DeviceMemory = std::unique_ptr<void, FreeDevice>;
using PinnedMemory = std::unique_ptr<void, FreePinnedHost>;
using OwnedStream = std::unique_ptr<CUstream_st, DestroyOwnedStream>;
using OwnedEvent = std::unique_ptr<CUevent_st, DestroyOwnedEvent>;
using OwnedGraph = std::unique_ptr<CUgraphExec_st, DestroyOwnedGraph>;

// An owner filled by one of runtime.h's functions; stays empty on an error.
template <typename Owner, typename Make>
Error MakeOwned(Owner* owner, const Make& make) {
  typename Owner::pointer made = nullptr;
  const Error error = make(&made);
  if (error == nullptr) owner->reset(made);
  return error;
}

}  // namespace baram::cuda

#endif  // BARAM_KERNELS_CUDA_DEVICE_MEMORY_H_
