// StepBlock: what a step uploads, on the host and in GPU memory.
#ifndef BARAM_KERNELS_CUDA_STEP_BLOCK_H_
#define BARAM_KERNELS_CUDA_STEP_BLOCK_H_

#include <array>
#include <cstddef>
#include <cstdint>

#include "kernels/cuda/device_memory.h"

namespace baram::cuda {

// Owned by the device, used by the executor thread. There is one block in GPU memory and two
// stagings in pinned memory, so that a step is packed while the previous one is copied. All three
// are addressed from a border inside them. What graphs must find at the same address in every step
// lies at the border, what varies in size around it, so that everything is contiguous and takes one
// copy.
class StepBlock {
 public:
  // `below`: bytes below the border, a multiple of 16; `above`: bytes from it on. Allocates their
  // sum in GPU memory.
  Error Reserve(int64_t below, int64_t above, Stream stream);

  // Switches to the other staging, waiting for its last copy if necessary.
  void Begin();
  // The border, in the staging and in GPU memory.
  std::byte* host() const { return static_cast<std::byte*>(stagings_[now_].memory.get()) + below_; }
  std::byte* device() const { return static_cast<std::byte*>(memory_.get()) + below_; }
  // Copies bytes [begin, end) of the staging, counted from the border. They must not change until
  // the Begin() after the next.
  void Copy(int64_t begin, int64_t end);
  // The first error since Reserve.
  Error error() const { return error_; }

 private:
  void Note(Error error) {
    if (error_ == nullptr) error_ = error;
  }

  Stream stream_ = nullptr;
  int64_t below_ = 0;
  int64_t above_ = 0;
  DeviceMemory memory_;
  struct Staging {
    PinnedMemory memory;
    OwnedEvent copied;
  };
  std::array<Staging, 2> stagings_;
  int now_ = 0;
  Error error_ = nullptr;
};

}  // namespace baram::cuda

#endif  // BARAM_KERNELS_CUDA_STEP_BLOCK_H_
