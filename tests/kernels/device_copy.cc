// DeviceCopy, through the op that every device has for it: GatherRows with rows in their original
// order.
#include "tests/kernels/device_copy.h"

#include <algorithm>
#include <numeric>
#include <vector>

#include "kernels/check.h"

namespace baram::testing {
namespace {

constexpr int64_t kUnitBytes = sizeof(float);
constexpr int64_t kRowBytes = 64 << 10;  // a GPU thread block copies one row
constexpr int64_t kMaxRows = 8192;       // per op

}  // namespace

DeviceCopy::DeviceCopy(Device& device) : device_(device) {
  std::vector<int32_t> index(kMaxRows);
  std::iota(index.begin(), index.end(), 0);
  const int64_t bytes = kMaxRows * static_cast<int64_t>(sizeof(int32_t));
  index_ = device.Alloc(bytes);
  Check(index_.data() != nullptr, "there is memory for the index of copies");
  device.Upload(index_.data(), index.data(), bytes);
}

void DeviceCopy::Copy(void* to, const void* from, int64_t bytes) {
  Check(bytes % kUnitBytes == 0, "what is copied is a multiple of 4 bytes");
  for (int64_t at = 0; at < bytes;) {
    const int64_t row_bytes = std::min(bytes - at, kRowBytes);
    const int64_t rows = std::min((bytes - at) / row_bytes, kMaxRows);
    const int64_t columns = row_bytes / kUnitBytes;
    // The op does not write to x, but a tensor's data is not const.
    auto* x = const_cast<std::byte*>(static_cast<const std::byte*>(from) + at);
    auto* out = static_cast<std::byte*>(to) + at;
    device_.GatherRows({.x = DenseTensor(x, DType::kF32, rows, columns),
                        .index = static_cast<const int32_t*>(index_.data()),
                        .out = DenseTensor(out, DType::kF32, rows, columns)});
    at += rows * row_bytes;
  }
}

void DeviceCopy::Repeat(void* data, int64_t period, int64_t bytes) {
  auto* base = static_cast<std::byte*>(data);
  for (int64_t done = period; done < bytes;) {
    const int64_t count = std::min(done, bytes - done);
    Copy(base + done, base, count);
    done += count;
  }
}

}  // namespace baram::testing
