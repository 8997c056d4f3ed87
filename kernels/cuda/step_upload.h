// StepUpload: a step's deltas on their way to the GPU, in one packed copy.
#ifndef BARAM_KERNELS_CUDA_STEP_UPLOAD_H_
#define BARAM_KERNELS_CUDA_STEP_UPLOAD_H_

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "kernels/cuda/device_memory.h"
#include "kernels/cuda/slot_arrays.h"
#include "kernels/step.h"

namespace baram::cuda {

// Owned by the device, used by the executor thread. There is one input block in GPU memory and two
// in pinned memory, so that a step is packed while the one before it is copied. A step that brings
// more than a block holds, long histories of new requests, takes several copies.
class StepUpload {
 public:
  // The GPU memory that Reserve takes.
  static int64_t DeviceBytes(const SlotShape& shape) { return StepUpload().Lay(shape, nullptr); }
  Error Reserve(const SlotShape& shape, Stream stream);

  // See Device::BeginStep. Nothing is allocated.
  StepView BeginStep(const StepInput& input);
  // The first error since Reserve.
  Error error() const { return error_; }

  const SlotArrays& slots() const { return slots_; }
  // Tokens with KV, those of the current step included: what planning of attention needs.
  int32_t Length(int32_t slot) const { return lengths_[slot]; }
  // The current step's rows, on the host.
  std::span<const StepRow> rows() const { return rows_; }

 private:
  // Lays the arrays out from `base` on and returns their bytes; with a null base it only adds up.
  int64_t Lay(const SlotShape& shape, std::byte* base);
  void Bind(const SlotInit& init);
  void AddPage(const PageDelta& delta);
  StepView AddRows(const StepInput& input);
  // Copies the block and applies it.
  void Flush(int32_t padded_rows = 0);
  int64_t PackedBytes() const;
  // Whether the block takes `bytes` more.
  bool HasRoom(int64_t bytes) const { return PackedBytes() + bytes <= block_bytes_; }
  void Note(Error error) {
    if (error_ == nullptr) error_ = error;
  }

  SlotShape shape_;
  Stream stream_ = nullptr;
  SlotArrays slots_;
  StepArrays step_;
  DeviceMemory memory_;  // behind slots_, step_ and the input block
  std::byte* block_ = nullptr;
  int64_t block_bytes_ = 0;
  struct Staging {
    PinnedMemory memory;
    OwnedEvent copied;
  };
  std::array<Staging, 2> stagings_;
  int next_staging_ = 0;
  std::vector<int32_t> lengths_;  // [slots]

  // The sections of the block that is being packed. Capacities are reserved.
  std::vector<SlotBinding> bindings_;
  std::vector<TokenBias> bias_;
  std::vector<int32_t> stop_ids_;
  std::vector<int32_t> history_;
  std::vector<PageEntry> pages_;
  std::vector<StepRow> rows_;
  std::vector<int32_t> tokens_;
  std::vector<OutputEntry> outputs_;

  Error error_ = nullptr;
};

}  // namespace baram::cuda

#endif  // BARAM_KERNELS_CUDA_STEP_UPLOAD_H_
