// Captures: records steps as graphs, and reports why a step can't be recorded.
#ifndef BARAM_KERNELS_CUDA_CAPTURES_H_
#define BARAM_KERNELS_CUDA_CAPTURES_H_

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "kernels/cuda/device_memory.h"
#include "kernels/cuda/runtime.h"
#include "kernels/warn.h"

namespace baram::cuda {

// Owned by the device, used by the executor thread. A failed capture costs speed, not the device;
// the reason is reported once. Overlap is blamed for a failure, and given up in captures, only if
// no graph was captured with it before and the error may stem from it: any error but running out
// of memory, since a driver may reject what it does not know with any error. It is cleared, for
// good, if the next capture fails without it.
class Captures {
 public:
  // `device`: its name, for reports. `overlap`: DeviceOptions::overlap_kernels. `warn` is not
  // empty.
  Captures(std::string device, bool overlap, Warn warn)
      : device_(std::move(device)), overlap_(overlap), warn_(std::move(warn)) {}

  // See Device. All launches between the two go to `stream`.
  [[nodiscard]] bool Begin(Stream stream);
  [[nodiscard]] uint64_t End(Stream stream);
  Error Replay(uint64_t graph, Stream stream);
  // During a capture: records why cuBLASLt rejected a product. End() reports it unless one of our
  // own calls failed earlier; the library has its own runtime, so LastError() does not see its
  // errors.
  void KeepRefusal(Error refusal);

  bool capturing() const { return capturing_; }
  // Whether kernels launched now should overlap.
  bool overlap() const { return overlap_ && !(capturing_ && of_overlap_ == OfOverlap::kRefused); }
  // See Device::GraphsOverlap.
  bool overlap_captured() const { return of_overlap_ == OfOverlap::kCaptured; }

 private:
  // The outcome of capturing kernels that overlap.
  enum class OfOverlap : uint8_t { kUntried, kCaptured, kRefused, kCleared };

  void NoteRefusal(Error error, bool overlapped);

  const std::string device_;
  const bool overlap_;
  const Warn warn_;
  bool capturing_ = false;
  OfOverlap of_overlap_ = OfOverlap::kUntried;
  bool captured_without_ = false;   // a graph whose kernels do not overlap
  Error refusal_ = nullptr;         // of the current capture, see KeepRefusal
  bool told_ = false;               // reported that steps can't be captured
  bool told_refusal_ = false;       // reported that a graph has a product which cuBLASLt refused
  std::vector<OwnedGraph> graphs_;  // graph n is graphs_[n - 1]
};

}  // namespace baram::cuda

#endif  // BARAM_KERNELS_CUDA_CAPTURES_H_
