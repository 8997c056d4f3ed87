// Copies between pageable host memory and the GPU through pinned staging: downloads, delivered when
// their mark is waited for, and weights.
#ifndef BARAM_KERNELS_CUDA_TRANSFERS_H_
#define BARAM_KERNELS_CUDA_TRANSFERS_H_

#include <array>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <vector>

#include "kernels/cuda/device_memory.h"
#include "kernels/device.h"

namespace baram::cuda {

// Downloads in flight, oldest first. Owned by the device, used by the executor thread.
class Downloads {
 public:
  Error Reserve();

  // Starts a copy that Deliver(mark) finishes. A copy that does not fit into the staging is made
  // synchronously.
  Error Add(void* host, const void* device, int64_t bytes, uint64_t mark, Stream stream);
  // To be called once the stream has passed `mark`: delivers the downloads up to that mark.
  void Deliver(uint64_t mark);

 private:
  struct Download {
    void* host;
    int64_t offset;  // in the staging
    int64_t bytes;
    uint64_t mark;
  };
  // Where `bytes` fit after the newest download, or -1.
  int64_t Place(int64_t bytes) const;

  static constexpr int64_t kStagingBytes = int64_t{1} << 20;  // a step's results take 47 KiB
  static constexpr size_t kMaxDownloads = 64;

  PinnedMemory staging_;
  std::vector<Download> under_way_;  // capacity kMaxDownloads
};

// Writes weights to the GPU. Any number of threads may call Write: each converts into one piece of
// pinned memory at a time while others are being copied. Uses kPieces * kPieceBytes of pinned
// memory, 32 MiB.
class WeightStaging {
 public:
  // As many pieces as loading threads, because a thread waits for its own copy while others read,
  // convert and copy. A piece has the size of the engine's slices of a weight. An estimate.
  static constexpr int kPieces = 16;
  static constexpr int64_t kPieceBytes = int64_t{2} << 20;

  Error Reserve();
  // See Device::PackWeight. The rows have arrived when it returns.
  Error Write(const WeightShape& shape, const HostRows& source, int64_t row_begin, void* packed);

 private:
  struct Piece {
    PinnedMemory memory;
    OwnedEvent copied;
  };
  int Acquire();
  void Release(int piece);

  OwnedStream stream_;
  std::array<Piece, kPieces> pieces_;
  std::mutex mutex_;
  std::condition_variable released_;
  std::vector<int> idle_;  // guarded by mutex_; longest idle first
};

}  // namespace baram::cuda

#endif  // BARAM_KERNELS_CUDA_TRANSFERS_H_
