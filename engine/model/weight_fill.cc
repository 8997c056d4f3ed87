// PlaceWeights allocates the device memory of the weights of a layout; FillWeights fills it from a
// source of tensors.
#include "engine/model/weight_fill.h"

#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <exception>
#include <mutex>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/model/rope.h"

namespace baram {
namespace {

// What a thread holds of a tensor at a time: large enough to read at full speed, small enough to
// still be in its cache when it is packed.
constexpr int64_t kSliceBytes = int64_t{2} << 20;
// Slices are whole tiles of any device's layout.
constexpr int64_t kSliceRows = 64;
constexpr int64_t kRopeRows = 1024;  // that a thread computes at a time
constexpr auto kProgressInterval = std::chrono::milliseconds(250);

constexpr int64_t kFloatBytes = sizeof(float);

absl::StatusOr<void*> Allocate(Device& device, int64_t bytes, Weights& weights) {
  Buffer buffer = device.Alloc(bytes);
  if (buffer.data() == nullptr) {
    return absl::ResourceExhaustedError(absl::StrCat("the device ", device.Info().name,
                                                     " has no memory for the weights: ", bytes,
                                                     " bytes were refused after ", weights.bytes));
  }
  void* data = buffer.data();
  weights.bytes += bytes;
  weights.buffers.push_back(std::move(buffer));
  return data;
}

// Additional threads that run `work`, which takes its share from a counter: if the system starts
// fewer than `most`, those and the caller do it all. The destructor joins them.
class LoadThreads {
 public:
  template <typename Work>
  LoadThreads(int32_t most, const Work& work) {
    try {
      for (int32_t i = 0; i < most; ++i) {
        threads_.emplace_back([&work] {
          pthread_setname_np(pthread_self(), "baram-load");
          work();
        });
      }
    } catch (const std::exception&) {
      // Continue with those that were started.
    }
  }
  ~LoadThreads() {
    for (std::thread& thread : threads_) thread.join();
  }
  LoadThreads(const LoadThreads&) = delete;

 private:
  std::vector<std::thread> threads_;
};

// Rows of one part of one matrix, read and packed by one thread.
struct Slice {
  const MatrixLayout* matrix;
  const WeightPart* part;
  int64_t part_begin;    // first row in the tensor
  int64_t packed_begin;  // and in the packed weight
  int64_t rows;
  int64_t bytes;
};

std::vector<Slice> CutSlices(const WeightLayout& layout, const WeightSource& source) {
  std::vector<Slice> slices;
  for (const MatrixLayout& matrix : layout.matrices) {
    int64_t packed_begin = 0;
    for (const WeightPart& part : matrix.parts) {
      const int64_t row_bytes = matrix.shape.k * DTypeBytes(source.type(part));
      int64_t most = std::max<int64_t>(1, kSliceBytes / row_bytes);
      if (most > kSliceRows) most = most / kSliceRows * kSliceRows;
      for (int64_t begin = 0; begin < part.rows; begin += most) {
        const int64_t rows = std::min(most, part.rows - begin);
        slices.push_back({&matrix, &part, begin, packed_begin + begin, rows, rows * row_bytes});
      }
      packed_begin += part.rows;
    }
  }
  return slices;
}

// Packs slices taken from a shared counter until none is left or one fails.
class SlicePacker {
 public:
  SlicePacker(std::vector<Slice> slices, const WeightSource& source, Device& device)
      : slices_(std::move(slices)), source_(source), device_(device) {
    for (const Slice& slice : slices_) {
      total_bytes_ += slice.bytes;
      largest_bytes_ = std::max(largest_bytes_, slice.bytes);
    }
  }

  absl::Status Run(int32_t threads, const LoadProgress& progress) {
    const auto work = [this] { Work([] {}); };
    if (progress) progress(0, total_bytes_);
    {
      const LoadThreads others(threads - 1, work);
      auto told = std::chrono::steady_clock::now();
      Work([&] {
        const auto now = std::chrono::steady_clock::now();
        if (!progress || now - told < kProgressInterval) return;
        told = now;
        progress(done_bytes_, total_bytes_);
      });
    }
    if (status_.ok() && progress) progress(total_bytes_, total_bytes_);
    return status_;
  }

 private:
  template <typename AfterSlice>
  void Work(const AfterSlice& after_slice) {
    const auto buffer = std::make_unique<std::byte[]>(largest_bytes_);
    for (size_t i = next_++; i < slices_.size() && !failed_; i = next_++) {
      const Slice& slice = slices_[i];
      const int64_t k = slice.matrix->shape.k;
      absl::Status status =
          source_.read_rows(*slice.part, k, slice.part_begin, slice.rows, buffer.get());
      if (!status.ok()) {
        const std::scoped_lock lock(mutex_);
        if (!failed_.exchange(true)) status_ = std::move(status);
        return;
      }
      const HostRows rows{buffer.get(), source_.type(*slice.part), slice.rows};
      // PlaceWeights allocated this memory; to the ops it is constant.
      device_.PackWeight(slice.matrix->shape, rows, slice.packed_begin,
                         const_cast<void*>(slice.matrix->target->data));
      done_bytes_ += slice.bytes;
      after_slice();
    }
  }

  const std::vector<Slice> slices_;
  const WeightSource& source_;
  Device& device_;
  int64_t total_bytes_ = 0;
  int64_t largest_bytes_ = 0;
  std::atomic<size_t> next_ = 0;
  std::atomic<int64_t> done_bytes_ = 0;
  std::atomic<bool> failed_ = false;
  std::mutex mutex_;
  absl::Status status_;
};

absl::Status FillVectors(const WeightLayout& layout, const WeightSource& source, Device& device) {
  std::vector<float> values;
  for (const VectorLayout& vector : layout.vectors) {
    values.resize(vector.Elements());
    float* out = values.data();
    for (const WeightPart& part : vector.parts) {
      if (absl::Status status = source.read_vector(vector.kind, part, out); !status.ok()) {
        return status;
      }
      out += part.rows;
    }
    if (vector.kind == VectorKind::kZeroCentredNorm) {
      for (float& value : values) value += 1.0f;
    }
    device.Upload(const_cast<float*>(*vector.target), values.data(),
                  static_cast<int64_t>(values.size()) * kFloatBytes);
  }
  return absl::OkStatus();
}

// One thread takes a third of a second for the tables of a long context, so all threads compute a
// part each; only the calling thread may upload.
void FillRopes(int32_t threads, Device& device, Weights& weights) {
  std::vector<float> rows;
  for (size_t i = 0; i < weights.ropes.size(); ++i) {
    const RopeTable& table = weights.ropes[i];
    for (int64_t begin = 0; begin < table.positions; begin += threads * kRopeRows) {
      const int64_t count = std::min(threads * kRopeRows, table.positions - begin);
      rows.resize(count * table.rotary_dim);
      std::atomic<int64_t> next = 0;
      const auto compute = [&] {
        for (int64_t from = next.fetch_add(kRopeRows); from < count;
             from = next.fetch_add(kRopeRows)) {
          FillRopeRows(weights.spec.ropes[i], begin + from, std::min(kRopeRows, count - from),
                       rows.data() + from * table.rotary_dim);
        }
      };
      {
        const LoadThreads others((count - 1) / kRopeRows, compute);
        compute();
      }
      device.Upload(const_cast<float*>(table.data) + begin * table.rotary_dim, rows.data(),
                    count * table.rotary_dim * kFloatBytes);
    }
  }
}

}  // namespace

absl::Status PlaceWeights(const WeightLayout& layout, int32_t positions, Device& device,
                          Weights& weights) {
  for (const MatrixLayout& matrix : layout.matrices) {
    const auto data = Allocate(device, device.PackedBytes(matrix.shape), weights);
    if (!data.ok()) return data.status();
    matrix.target->data = *data;
  }
  if (weights.spec.tied_lm_head) weights.lm_head = weights.embedding;

  const auto vectors = Allocate(device, VectorElements(layout) * kFloatBytes, weights);
  if (!vectors.ok()) return vectors.status();
  auto* next = static_cast<const float*>(*vectors);
  for (const VectorLayout& vector : layout.vectors) {
    *vector.target = next;
    next += vector.AlignedElements();
  }

  for (const RopeSpec& rope : weights.spec.ropes) {
    const auto data = Allocate(device, int64_t{positions} * rope.rotary_dim * kFloatBytes, weights);
    if (!data.ok()) return data.status();
    weights.ropes.push_back(
        {static_cast<const float*>(*data), positions, rope.rotary_dim, rope.layout});
  }
  return absl::OkStatus();
}

absl::Status FillWeights(const WeightLayout& layout, const WeightSource& source, int32_t threads,
                         const LoadProgress& progress, Device& device, Weights& weights) {
  if (absl::Status status = FillVectors(layout, source, device); !status.ok()) return status;
  FillRopes(threads, device, weights);
  return SlicePacker(CutSlices(layout, source), source, device).Run(threads, progress);
}

}  // namespace baram
