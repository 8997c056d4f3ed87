// Copies between pageable host memory and the GPU through pinned staging.
#include "kernels/cuda/transfers.h"

#include <algorithm>
#include <cstring>

#include "kernels/check.h"
#include "kernels/cuda/pack.h"

namespace baram::cuda {
namespace {

Error ReservePinned(PinnedMemory* memory, int64_t bytes) {
  return MakeOwned(memory, [bytes](void** made) { return AllocatePinned(bytes, made); });
}

}  // namespace

Error Downloads::Reserve() {
  under_way_.reserve(kMaxDownloads);
  return ReservePinned(&staging_, kStagingBytes);
}

// The staging is a ring buffer: downloads follow one another and wrap around to its start; the
// oldest is delivered first.
int64_t Downloads::Place(int64_t bytes) const {
  if (under_way_.empty()) return bytes <= kStagingBytes ? 0 : -1;
  const int64_t oldest = under_way_.front().offset;
  const int64_t end = under_way_.back().offset + under_way_.back().bytes;
  if (under_way_.back().offset < oldest) return end + bytes <= oldest ? end : -1;
  if (end + bytes <= kStagingBytes) return end;
  return bytes <= oldest ? 0 : -1;
}

Error Downloads::Add(void* host, const void* device, int64_t bytes, uint64_t mark, Stream stream) {
  const int64_t offset = under_way_.size() < kMaxDownloads ? Place(bytes) : -1;
  if (offset < 0) {
    if (Error error = CopyToHost(host, device, bytes, stream)) return error;
    return Synchronize(stream);
  }
  under_way_.push_back({host, offset, bytes, mark});
  return CopyToHost(static_cast<std::byte*>(staging_.get()) + offset, device, bytes, stream);
}

void Downloads::Deliver(uint64_t mark) {
  size_t count = 0;
  for (; count < under_way_.size() && under_way_[count].mark <= mark; ++count) {
    const Download& download = under_way_[count];
    std::memcpy(download.host, static_cast<std::byte*>(staging_.get()) + download.offset,
                download.bytes);
  }
  under_way_.erase(under_way_.begin(), under_way_.begin() + static_cast<std::ptrdiff_t>(count));
}

Error WeightStaging::Reserve() {
  if (Error error = MakeOwned(&stream_, CreateStream)) return error;
  for (int i = 0; i < kPieces; ++i) {
    if (Error error = ReservePinned(&pieces_[i].memory, kPieceBytes)) return error;
    if (Error error = MakeOwned(&pieces_[i].copied, CreateEvent)) return error;
    idle_.push_back(i);
  }
  return nullptr;
}

int WeightStaging::Acquire() {
  std::unique_lock lock(mutex_);
  released_.wait(lock, [this] { return !idle_.empty(); });
  const int piece = idle_.front();
  idle_.erase(idle_.begin());
  return piece;
}

void WeightStaging::Release(int piece) {
  {
    std::lock_guard lock(mutex_);
    idle_.push_back(piece);
  }
  released_.notify_one();
}

Error WeightStaging::Write(const WeightShape& shape, const HostRows& source, int64_t row_begin,
                           void* packed) {
  const int64_t row_bytes = PackedStride(shape) * static_cast<int64_t>(sizeof(uint16_t));
  Check(row_bytes <= kPieceBytes, "a row of a weight fits a piece of the staging");
  const int64_t rows_per_piece = kPieceBytes / row_bytes;
  Error error = nullptr;
  for (int64_t r = 0; r < source.rows && error == nullptr; r += rows_per_piece) {
    const int64_t rows = std::min(rows_per_piece, source.rows - r);
    const int index = Acquire();
    Piece& piece = pieces_[index];
    error = WaitEvent(piece.copied.get());  // another thread's copy from it may still be in flight
    if (error == nullptr) {
      ConvertRows(shape, source, r, rows, static_cast<uint16_t*>(piece.memory.get()));
      error = CopyToDevice(static_cast<std::byte*>(packed) + (row_begin + r) * row_bytes,
                           piece.memory.get(), rows * row_bytes, stream_.get());
    }
    if (error == nullptr) error = RecordEvent(piece.copied.get(), stream_.get());
    // Once the stream has reached the last copy it has reached all earlier ones. The piece is held
    // until then, so that no other thread records its event after copies of its own.
    const bool is_last = r + rows == source.rows;
    if (is_last && error == nullptr) error = WaitEvent(piece.copied.get());
    Release(index);
  }
  return error;
}

}  // namespace baram::cuda
