// OpBed: a device with memory in which one op case at a time is laid out, run and read back. Used
// by the op tests and by op_bench.
#ifndef BARAM_TESTS_KERNELS_OP_BED_H_
#define BARAM_TESTS_KERNELS_OP_BED_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "kernels/device.h"
#include "tests/kernels/device_copy.h"
#include "tests/kernels/op_cases.h"

namespace baram::testing {

// The types a device computes with. Inputs are rounded to the types of the device under test and
// given to ref as the same values, so that only the op's own rounding differs.
struct ElementTypes {
  DType activation = DType::kF32;
  DType residual = DType::kF32;
  DType weight = DType::kF32;
};
ElementTypes TypesOf(const DeviceInfo& info);
DType TypeOf(const ElementTypes& types, Role role);

// The magnitude of the values with which keys are read back: a sequence's values alternate between
// it and its negative, so the mean of two neighbours reveals their weights.
inline constexpr float kProbeValue = 8;

// A range of a case's rows; end -1: all.
struct RowRange {
  int64_t begin = 0;
  int64_t end = -1;
};

// An op's output, as fp32: a bf16 or f16 value has one fp32 value, so equal bits stay equal.
struct Output {
  std::string name;
  Role role = Role::kActivation;
  int64_t first_row = 0;  // in the case's numbering
  int64_t rows = 0;
  int64_t cols = 0;
  std::vector<float> values;
  const float* Row(int64_t r) const { return values.data() + r * cols; }
};

struct Outcome {
  std::vector<Output> outputs;
  std::vector<std::vector<TokenResult>> results;  // [rounds][rows]
  std::string broken;                             // not empty: what was overwritten illegally
};

// An op laid out in device memory, ready to run any number of times.
struct PreparedOp {
  OpArgs args;
  double context_tokens = 0;      // see CostOf
  std::function<void()> restore;  // restores inputs that the op overwrites; may be empty
};

// Calls the op; on an asynchronous device it may still be running.
void IssueOp(Device& device, const OpArgs& args);
// Also waits for it.
void RunOp(Device& device, const OpArgs& args);

class OpBed {
 public:
  struct Limits {
    int64_t memory_bytes = int64_t{48} << 20;
    int32_t slots = 1040;
    int32_t max_pages_per_slot = 64;
    int32_t vocab_size = 50016;
    int32_t max_step_tokens = 1040;
    int32_t max_step_outputs = 1040;
    int64_t gap_elements = 5;  // between the rows of a tensor; 8 keeps rows aligned
    // Lays out cases of gigabytes in milliseconds: values repeat and are copied on the device,
    // weights and caches are filled as a whole, and outputs and the gaps between rows are left as
    // they were. Only for Prepare() of all rows.
    bool for_timing = false;
  };

  // `device` must outlive the bed and be unused. Inputs are rounded to `rounding`.
  OpBed(Device& device, const ElementTypes& rounding, const Limits& limits);
  OpBed(Device& device, const ElementTypes& rounding) : OpBed(device, rounding, Limits()) {}

  // Lays out, runs once and reads back. `magnitudes` replaces the factors of sums by their absolute
  // values (Gemm: all, Attend: the values, Act: gate and up), which bounds rounding errors.
  Outcome Run(const OpCase& op_case, RowRange rows = {}, bool magnitudes = false);

  // Lays out only.
  PreparedOp Prepare(const OpCase& op_case, RowRange rows = {}, bool magnitudes = false);

 private:
  struct Block {
    int64_t offset;
    int64_t bytes;
  };
  struct Watched {
    std::string name;
    Role role;
    Tensor tensor;
    int64_t first_row;
  };

  // --- memory
  void* Take(int64_t bytes, uint8_t fill);
  // Runs an op to completion. Under the address sanitizer reading a guard zone is an error too.
  void RunSealed(const OpArgs& args);
  std::string BrokenGuards();
  // Downloads and waits.
  void Fetch(void* host, const void* device, int64_t bytes);
  std::vector<uint8_t> Read(const void* device, int64_t bytes);
  std::vector<int32_t> ReadInts(const int32_t* device, int64_t count);
  template <typename T>
  T* Put(const std::vector<T>& values) {
    const int64_t bytes = static_cast<int64_t>(values.size() * sizeof(T));
    void* memory = Take(bytes, 0);
    if (bytes > 0) device_.Upload(memory, values.data(), bytes);
    return static_cast<T*>(memory);
  }

  // --- values: functions of (case, what, row, column), the same on every device. For timing, fewer
  // than requested and the same for all cases: Fill and Weight repeat them.
  std::vector<float> Random(const char* what, int64_t rows, int64_t cols, float deviation,
                            DType rounding) const;
  DType Rounding(Role role) const { return TypeOf(rounding_, role); }
  // The values of some rows; for timing, all there are.
  std::vector<float> Part(const std::vector<float>& values, int64_t cols, RowRange rows) const;

  // --- tensors
  // A tensor of NaN, with NaN between its rows that must be neither read nor written.
  Tensor Layout(Role role, int64_t rows, int64_t cols);
  Tensor Input(Role role, const std::vector<float>& values, int64_t cols, RowRange rows);
  void Fill(const Tensor& tensor, const std::vector<float>& values);
  // For timing: fills `bytes` bytes with elements, repeating the values.
  void FillRepeating(void* data, int64_t bytes, DType type, const std::vector<float>& values);
  std::vector<float> Values(const Tensor& tensor);
  Tensor Watch(const char* name, Role role, const Tensor& tensor, int64_t first_row);
  PackedWeight Weight(const std::vector<float>& values, int64_t n, int64_t k);
  const float* NormWeight(const char* what, int64_t d);
  RopeTable Rope(int32_t positions, int32_t rotary_dim, RopeLayout layout);
  KvPool Pool(const KvShape& shape, int32_t pages);
  void* Scratch(const KvShape& shape);

  // --- steps
  // Binds slot i to a sequence of lengths[i] tokens, with pages for all of chunks[i]. Entries
  // entirely before first_needed[i] name page 0, which holds NaN.
  void BindSlots(const std::vector<Chunk>& chunks, int32_t page_tokens,
                 const std::vector<int32_t>& lengths, const std::vector<int32_t>& first_needed);
  // The part of each chunk inside the range of tokens.
  static std::vector<Chunk> Cut(const std::vector<Chunk>& chunks, RowRange rows);
  StepView Step(const std::vector<Chunk>& chunks, const std::vector<int32_t>& tokens);
  StepView SampleStep(const SampleCase& c, const std::vector<SlotInit>& inits,
                      const std::vector<int32_t>& slots, const std::vector<int32_t>& tokens);
  const uint32_t* const* Masks(const SampleCase& c, RowRange rows);
  // What rows for StoreKv have for values: kProbe: kProbeValue, negative at odd positions.
  enum class StoredValues { kRandom, kProbe };
  // Rows for StoreKv of the tokens of all chunks: [tokens, (heads + 2 * kv_heads) * head_dim].
  std::vector<float> StoreKvRows(const StoreKvCase& c, const char* what,
                                 const std::vector<Chunk>& chunks, StoredValues kind) const;
  void WriteContext(const AttendCase& c, const KvPool& pool, bool magnitudes);
  void FillPool(const KvPool& pool);

  PreparedOp Lay(const GemmCase& c, RowRange rows, bool magnitudes);
  PreparedOp Lay(const NormCase& c, RowRange rows, bool magnitudes);
  PreparedOp Lay(const AddNormCase& c, RowRange rows, bool magnitudes);
  PreparedOp Lay(const ActCase& c, RowRange rows, bool magnitudes);
  PreparedOp Lay(const EmbedCase& c, RowRange rows, bool magnitudes);
  PreparedOp Lay(const GatherRowsCase& c, RowRange rows, bool magnitudes);
  PreparedOp Lay(const StoreKvCase& c, RowRange rows, bool magnitudes);
  PreparedOp Lay(const AttendCase& c, RowRange rows, bool magnitudes);
  PreparedOp Lay(const SampleCase& c, RowRange rows, bool magnitudes);

  // Reads keys and values back through Attend: only the device knows the cache's layout.
  void ReadBack(const StoreKvCase& c, RowRange rows, const StoreKvArgs& args, Outcome& outcome);
  // Reports a write to a page that no sequence owns, or that the op only reads.
  std::string BrokenPages(const KvPool& pool);
  // Checks that the slots reflect what was drawn. Leaves them one token longer.
  std::string BrokenSlots(const SampleArgs& args, const std::vector<TokenResult>& results);
  // The step after one that drew.
  void NextRound(const SampleCase& c, const std::vector<TokenResult>& results, SampleArgs& args);

  Device& device_;
  ElementTypes own_;
  ElementTypes rounding_;
  Limits limits_;
  Buffer memory_;
  std::optional<DeviceCopy> copy_;  // for timing
  int64_t used_ = 0;
  std::vector<Block> blocks_;
  std::vector<Tensor> tensors_;  // all that Layout made
  std::vector<Watched> watched_;
  std::string case_name_;
  std::vector<uint8_t> pool_before_;  // of an op that must not write to it
};

}  // namespace baram::testing

#endif  // BARAM_TESTS_KERNELS_OP_BED_H_
