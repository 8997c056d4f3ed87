// OpBed: memory with guard zones, tensors, steps, running and reading back.
#include "tests/kernels/op_bed.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <numbers>
#include <string_view>

#include "kernels/check.h"
#include "kernels/float_types.h"

// The address sanitizer's functions if the program has it, however this file was compiled: the
// emulated GPU's kernels are checked in every build.
extern "C" {
[[gnu::weak]] void __asan_poison_memory_region(const volatile void* begin, size_t bytes);
[[gnu::weak]] void __asan_unpoison_memory_region(const volatile void* begin, size_t bytes);
}

namespace baram::testing {
namespace {

constexpr int64_t kGuardBytes = 64;  // also keeps blocks aligned
constexpr uint8_t kGuardByte = 0xA5;
constexpr uint8_t kNaNByte = 0xFF;        // a NaN in every element type
constexpr size_t kTimedValues = 1 << 18;  // before repeating, for timing

uint64_t Mix(uint64_t x) {  // the finalizer of splitmix64
  x += 0x9E3779B97F4A7C15ull;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ull;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBull;
  return x ^ (x >> 31);
}

uint64_t Hash(std::string_view text) {
  uint64_t hash = 0;
  for (char c : text) hash = Mix(hash ^ static_cast<uint8_t>(c));
  return hash;
}

float RoundTo(DType type, float value) {
  float stored[1];
  StoreElement(stored, type, 0, value);
  return LoadElement(stored, type, 0);
}

SlotShape SlotsOf(const OpBed::Limits& limits) {
  return {.slots = limits.slots,
          .groups = 2,
          .max_pages_per_slot = limits.max_pages_per_slot,
          .vocab_size = limits.vocab_size,
          .max_step_tokens = limits.max_step_tokens,
          .max_step_outputs = limits.max_step_outputs};
}

}  // namespace

ElementTypes TypesOf(const DeviceInfo& info) {
  return {info.activation, info.residual, info.weights.dtype};
}

DType TypeOf(const ElementTypes& types, Role role) {
  switch (role) {
    case Role::kActivation:
      return types.activation;
    case Role::kResidual:
      return types.residual;
    case Role::kF32:
      return DType::kF32;
  }
  return DType::kF32;
}

void IssueOp(Device& device, const OpArgs& args) {
  struct Runner {
    Device& device;
    void operator()(const EmbedArgs& a) const { device.Embed(a); }
    void operator()(const NormArgs& a) const { device.Norm(a); }
    void operator()(const AddNormArgs& a) const { device.AddNorm(a); }
    void operator()(const GemmArgs& a) const { device.Gemm(a); }
    void operator()(const StoreKvArgs& a) const { device.StoreKv(a); }
    void operator()(const AttendArgs& a) const { device.Attend(a); }
    void operator()(const ActArgs& a) const { device.Act(a); }
    void operator()(const GatherRowsArgs& a) const { device.GatherRows(a); }
    void operator()(const SampleArgs& a) const { device.Sample(a); }
  };
  std::visit(Runner{device}, args);
}

void RunOp(Device& device, const OpArgs& args) {
  IssueOp(device, args);
  Check(device.Wait(device.Record()), "the device survives an op");
}

OpBed::OpBed(Device& device, const ElementTypes& rounding, const Limits& limits)
    : device_(device), own_(TypesOf(device.Info())), rounding_(rounding), limits_(limits) {
  memory_ = device.Alloc(limits.memory_bytes);
  Check(memory_.data() != nullptr, "there is memory for the op cases");
  if (limits.for_timing) copy_.emplace(device);
  Check(device.ReserveSlots(SlotsOf(limits)), "there is memory for the slots");
}

void* OpBed::Take(int64_t bytes, uint8_t fill) {
  const int64_t offset = used_ + kGuardBytes;
  used_ = (offset + bytes + kGuardBytes + kGuardBytes - 1) / kGuardBytes * kGuardBytes;
  Check(used_ <= memory_.bytes(), "an op case fits the bed's memory");
  std::byte* base = static_cast<std::byte*>(memory_.data()) + offset;
  if (limits_.for_timing) return base;
  std::vector<uint8_t> image(kGuardBytes + bytes + kGuardBytes, kGuardByte);
  std::fill_n(image.begin() + kGuardBytes, bytes, fill);
  device_.Upload(base - kGuardBytes, image.data(), static_cast<int64_t>(image.size()));
  blocks_.push_back({offset, bytes});
  return base;
}

void OpBed::Fetch(void* host, const void* device, int64_t bytes) {
  device_.Download(host, device, bytes);
  Check(device_.Wait(device_.Record()), "the device survives a download");
}

std::vector<uint8_t> OpBed::Read(const void* device, int64_t bytes) {
  std::vector<uint8_t> host(bytes);
  Fetch(host.data(), device, bytes);
  return host;
}

std::vector<int32_t> OpBed::ReadInts(const int32_t* device, int64_t count) {
  std::vector<int32_t> host(count);
  Fetch(host.data(), device, count * static_cast<int64_t>(sizeof(int32_t)));
  return host;
}

void OpBed::RunSealed(const OpArgs& args) {
  const auto for_guards = [&](const auto& visit) {
    for (const Block& block : blocks_) {
      const std::byte* base = static_cast<std::byte*>(memory_.data()) + block.offset;
      visit(base - kGuardBytes);
      visit(base + block.bytes);
    }
  };
  const bool watched = __asan_poison_memory_region != nullptr;
  if (watched) for_guards([](auto* zone) { __asan_poison_memory_region(zone, kGuardBytes); });
  RunOp(device_, args);
  Check(device_.Wait(device_.Record()), "the device survives an op");
  if (watched) for_guards([](auto* zone) { __asan_unpoison_memory_region(zone, kGuardBytes); });
}

std::string OpBed::BrokenGuards() {
  for (size_t i = 0; i < blocks_.size(); ++i) {
    const std::byte* base = static_cast<std::byte*>(memory_.data()) + blocks_[i].offset;
    for (const std::byte* zone : {base - kGuardBytes, base + blocks_[i].bytes}) {
      for (uint8_t byte : Read(zone, kGuardBytes)) {
        if (byte == kGuardByte) continue;
        return std::string("the guard zone ") + (zone < base ? "before" : "after") + " block " +
               std::to_string(i) + " was overwritten";
      }
    }
  }
  for (const Tensor& tensor : tensors_) {
    const int64_t row_bytes = tensor.stride * DTypeBytes(tensor.dtype);
    const auto bytes = Read(tensor.data, tensor.rows * row_bytes);
    for (int64_t r = 0; r < tensor.rows; ++r) {
      const auto row = bytes.begin() + r * row_bytes;
      if (std::any_of(row + tensor.cols * DTypeBytes(tensor.dtype), row + row_bytes,
                      [](uint8_t byte) { return byte != kNaNByte; })) {
        return "the gap after row " + std::to_string(r) + " of a tensor of " +
               std::to_string(tensor.cols) + " columns was overwritten";
      }
    }
  }
  return "";
}

std::vector<float> OpBed::Random(const char* what, int64_t rows, int64_t cols, float deviation,
                                 DType rounding) const {
  const size_t asked = rows * cols;
  const size_t count = limits_.for_timing ? std::min(asked, kTimedValues) : asked;
  const std::string of_case = limits_.for_timing ? "" : case_name_;
  // Every device and every cut of a case requests the same values.
  static std::string cached_case;
  static std::map<std::string, std::vector<float>> cache;
  if (cached_case != of_case) cache.clear();
  cached_case = of_case;
  std::vector<float>& values = cache[std::string(what) + DTypeName(rounding) +
                                     std::to_string(count) + "*" + std::to_string(deviation)];
  if (!values.empty()) return values;
  values.resize(count);
  const uint64_t seed = Hash(of_case) ^ Hash(what);
  for (size_t i = 0; i < count; i += 2) {  // Box-Muller
    const uint64_t bits = Mix(seed + i);
    const double radius =
        deviation * std::sqrt(-2 * std::log((static_cast<double>(bits >> 32) + 0.5) * 0x1p-32));
    const double angle = 2 * std::numbers::pi * static_cast<double>(bits & 0xffffffffu) * 0x1p-32;
    values[i] = RoundTo(rounding, static_cast<float>(radius * std::cos(angle)));
    if (i + 1 < count) {
      values[i + 1] = RoundTo(rounding, static_cast<float>(radius * std::sin(angle)));
    }
  }
  return values;
}

std::vector<float> OpBed::Part(const std::vector<float>& values, int64_t cols,
                               RowRange rows) const {
  if (limits_.for_timing) return values;
  return {values.begin() + rows.begin * cols, values.begin() + rows.end * cols};
}

Tensor OpBed::Layout(Role role, int64_t rows, int64_t cols) {
  Tensor tensor{nullptr, TypeOf(own_, role), rows, cols, cols + limits_.gap_elements};
  tensor.data = Take(rows * tensor.stride * DTypeBytes(tensor.dtype), kNaNByte);
  tensors_.push_back(tensor);
  return tensor;
}

void OpBed::FillRepeating(void* data, int64_t bytes, DType type, const std::vector<float>& values) {
  const int64_t count = std::min<int64_t>(std::ssize(values), bytes / DTypeBytes(type));
  std::vector<uint8_t> image(count * DTypeBytes(type));
  for (int64_t i = 0; i < count; ++i) StoreElement(image.data(), type, i, values[i]);
  device_.Upload(data, image.data(), std::ssize(image));
  if (count > 0) copy_->Repeat(data, std::ssize(image), bytes);
}

void OpBed::Fill(const Tensor& tensor, const std::vector<float>& values) {
  const int64_t bytes = tensor.rows * tensor.stride * DTypeBytes(tensor.dtype);
  if (limits_.for_timing) return FillRepeating(tensor.data, bytes, tensor.dtype, values);
  std::vector<uint8_t> image(bytes, kNaNByte);
  for (int64_t r = 0; r < tensor.rows; ++r) {
    for (int64_t c = 0; c < tensor.cols; ++c) {
      StoreElement(image.data(), tensor.dtype, r * tensor.stride + c, values[r * tensor.cols + c]);
    }
  }
  device_.Upload(tensor.data, image.data(), static_cast<int64_t>(image.size()));
}

Tensor OpBed::Input(Role role, const std::vector<float>& values, int64_t cols, RowRange rows) {
  const Tensor tensor = Layout(role, rows.end - rows.begin, cols);
  Fill(tensor, Part(values, cols, rows));
  return tensor;
}

std::vector<float> OpBed::Values(const Tensor& tensor) {
  const auto bytes = Read(
      tensor.data, ((tensor.rows - 1) * tensor.stride + tensor.cols) * DTypeBytes(tensor.dtype));
  std::vector<float> values(tensor.rows * tensor.cols);
  for (int64_t r = 0; r < tensor.rows; ++r) {
    for (int64_t c = 0; c < tensor.cols; ++c) {
      values[r * tensor.cols + c] = LoadElement(bytes.data(), tensor.dtype, r * tensor.stride + c);
    }
  }
  return values;
}

Tensor OpBed::Watch(const char* name, Role role, const Tensor& tensor, int64_t first_row) {
  watched_.push_back({name, role, tensor, first_row});
  return tensor;
}

PackedWeight OpBed::Weight(const std::vector<float>& values, int64_t n, int64_t k) {
  PackedWeight weight;
  weight.shape = {n, k, device_.Info().weights};
  const int64_t bytes = device_.PackedBytes(weight.shape);
  void* packed = Take(bytes, 0);
  weight.data = packed;
  if (limits_.for_timing) {  // in whatever order the device stores the elements
    FillRepeating(packed, bytes, weight.shape.format.dtype, values);
    return weight;
  }
  // In two parts, as a fused projection is packed.
  const int64_t split = n / 2;
  if (split > 0) {
    device_.PackWeight(weight.shape, {values.data(), DType::kF32, split}, 0, packed);
  }
  device_.PackWeight(weight.shape, {values.data() + split * k, DType::kF32, n - split}, split,
                     packed);
  return weight;
}

const float* OpBed::NormWeight(const char* what, int64_t d) {
  std::vector<float> values = Random(what, 1, d, 0.3f, DType::kF32);
  for (float& value : values) value += 1.0f;
  return Put(values);
}

RopeTable OpBed::Rope(int32_t positions, int32_t rotary_dim, RopeLayout layout) {
  if (rotary_dim == 0) return {};
  std::vector<float> table(int64_t{positions} * rotary_dim);
  for (int32_t p = 0; p < positions; ++p) {
    for (int32_t i = 0; i < rotary_dim / 2; ++i) {
      const double angle = p * std::pow(10000.0, -2.0 * i / rotary_dim);
      float* row = table.data() + int64_t{p} * rotary_dim;
      row[i] = static_cast<float>(std::cos(angle));
      row[i + rotary_dim / 2] = static_cast<float>(std::sin(angle));
    }
  }
  return {Put(table), positions, rotary_dim, layout};
}

KvPool OpBed::Pool(const KvShape& shape, int32_t pages) {
  KvPool pool{nullptr, shape, device_.KvBytesPerPage(shape), pages};
  pool.data = Take(pool.page_bytes * pages, kNaNByte);
  return pool;
}

void* OpBed::Scratch(const KvShape& shape) {
  return Take(device_.AttendScratchBytes(shape, SlotsOf(limits_)), kNaNByte);
}

void OpBed::BindSlots(const std::vector<Chunk>& chunks, int32_t page_tokens,
                      const std::vector<int32_t>& lengths,
                      const std::vector<int32_t>& first_needed) {
  std::vector<SlotInit> inits;
  int32_t most_pages = 0;
  int32_t page = 0;
  const auto pages_of = [&](const Chunk& chunk) {
    return (chunk.context + chunk.count + page_tokens - 1) / page_tokens;
  };
  for (size_t i = 0; i < chunks.size(); ++i) {
    inits.push_back({.slot = static_cast<int32_t>(i),
                     .length = lengths[i],
                     .sampling = {},
                     .tokens = {},
                     .bias = {},
                     .stop_ids = {}});
    most_pages = std::max(most_pages, pages_of(chunks[i]));
    page += pages_of(chunks[i]);
  }
  // A sequence's pages are neither adjacent nor ascending.
  std::vector<PageDelta> deltas;
  for (int32_t index = 0; index < most_pages; ++index) {
    for (size_t i = 0; i < chunks.size(); ++i) {
      if (index >= pages_of(chunks[i])) continue;
      const bool freed = (index + 1) * page_tokens <= first_needed[i];
      deltas.push_back({static_cast<int32_t>(i), 1, index, freed ? 0 : page});
      --page;
    }
  }
  device_.BeginStep(
      {.inits = inits, .page_deltas = deltas, .rows = {}, .tokens = {}, .targets = {}});
}

std::vector<Chunk> OpBed::Cut(const std::vector<Chunk>& chunks, RowRange rows) {
  std::vector<Chunk> cut;
  int64_t begin = 0;
  for (const Chunk& chunk : chunks) {
    const int64_t end = begin + chunk.count;
    const int64_t low = std::clamp(rows.begin, begin, end);
    const int64_t high = std::clamp(rows.end, low, end);
    cut.push_back(
        {chunk.context + static_cast<int32_t>(low - begin), static_cast<int32_t>(high - low)});
    begin = end;
  }
  return cut;
}

StepView OpBed::Step(const std::vector<Chunk>& chunks, const std::vector<int32_t>& tokens) {
  std::vector<Row> rows;
  for (size_t i = 0; i < chunks.size(); ++i) {
    if (chunks[i].count == 0) continue;
    rows.push_back({.slot = static_cast<int32_t>(i), .count = chunks[i].count});
  }
  return device_.BeginStep(
      {.inits = {}, .page_deltas = {}, .rows = rows, .tokens = tokens, .targets = {}});
}

PreparedOp OpBed::Prepare(const OpCase& op_case, RowRange rows, bool magnitudes) {
  case_name_ = op_case.name;
  used_ = 0;
  blocks_.clear();
  tensors_.clear();
  watched_.clear();
  pool_before_.clear();
  if (rows.end < 0) rows.end = CaseRows(op_case);
  return std::visit([&](const auto& c) { return Lay(c, rows, magnitudes); }, op_case.spec);
}

std::string OpBed::BrokenPages(const KvPool& pool) {
  for (int32_t page : {0, pool.pages - 1}) {
    for (uint8_t byte :
         Read(static_cast<std::byte*>(pool.data) + page * pool.page_bytes, pool.page_bytes)) {
      if (byte != kNaNByte) return "page " + std::to_string(page) + ", nobody's, was written";
    }
  }
  const bool changed =
      !pool_before_.empty() && Read(pool.data, pool.page_bytes * pool.pages) != pool_before_;
  return changed ? "the page pool was written" : "";
}

Outcome OpBed::Run(const OpCase& op_case, RowRange rows, bool magnitudes) {
  PreparedOp op = Prepare(op_case, rows, magnitudes);
  Outcome outcome;
  const auto* sample_case = std::get_if<SampleCase>(&op_case.spec);
  const int rounds = sample_case != nullptr ? sample_case->rounds : 1;
  for (int round = 0; round < rounds; ++round) {
    RunSealed(op.args);
    auto* sample = std::get_if<SampleArgs>(&op.args);
    if (sample == nullptr) break;
    std::vector<TokenResult> results(sample->step.outputs);
    Fetch(results.data(), sample->results,
          static_cast<int64_t>(results.size() * sizeof(TokenResult)));
    outcome.broken = BrokenGuards();
    if (outcome.broken.empty()) outcome.broken = BrokenSlots(*sample, results);
    outcome.results.push_back(results);
    if (!outcome.broken.empty()) return outcome;
    NextRound(*sample_case, results, *sample);
    op.restore();
  }
  for (const Watched& watched : watched_) {
    outcome.outputs.push_back({watched.name, watched.role, watched.first_row, watched.tensor.rows,
                               watched.tensor.cols, Values(watched.tensor)});
  }
  if (outcome.broken.empty()) outcome.broken = BrokenGuards();
  if (const auto* store = std::get_if<StoreKvArgs>(&op.args)) {
    if (outcome.broken.empty()) outcome.broken = BrokenPages(store->pool);
    if (rows.end < 0) rows.end = CaseRows(op_case);
    ReadBack(std::get<StoreKvCase>(op_case.spec), rows, *store, outcome);
  }
  if (const auto* attend = std::get_if<AttendArgs>(&op.args)) {
    if (outcome.broken.empty()) outcome.broken = BrokenPages(attend->pool);
  }
  return outcome;
}

}  // namespace baram::testing
