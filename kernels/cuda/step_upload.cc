// StepUpload: packs, copies and applies.
#include "kernels/cuda/step_upload.h"

#include <algorithm>
#include <cstring>

#include "kernels/check.h"
#include "kernels/rounding.h"
#include "kernels/step_rows.h"

namespace baram::cuda {
namespace {

// Room for the histories of a few new requests with penalties on top of any step.
constexpr int64_t kSpareBytes = int64_t{1} << 20;
constexpr int64_t kSectionAlignment = 16;
constexpr int64_t kArrayAlignment = 256;  // of the arrays cut from one allocation
constexpr int64_t kCountsMultiple = 8;

template <typename T>
int64_t SectionBytes(const std::vector<T>& section) {
  return RoundUp(static_cast<int64_t>(section.size() * sizeof(T)), kSectionAlignment);
}

// Carves arrays out of one allocation; with a null base it only counts.
class Cutter {
 public:
  explicit Cutter(std::byte* base) : base_(base) {}
  template <typename T>
  void Cut(T** array, int64_t count) {
    if (base_ != nullptr) *array = reinterpret_cast<T*>(base_ + used_);
    used_ += RoundUp(count * static_cast<int64_t>(sizeof(T)), kArrayAlignment);
  }
  int64_t used() const { return used_; }

 private:
  std::byte* base_;
  int64_t used_ = 0;
};

}  // namespace

int64_t StepUpload::BytesBelow(const SlotShape& shape) {
  // Rows, tokens and outputs, each section aligned; then what deltas may take in addition.
  return RoundUp(shape.max_step_tokens * static_cast<int64_t>(sizeof(StepRow) + sizeof(int32_t)) +
                     shape.max_step_outputs * static_cast<int64_t>(sizeof(OutputEntry)) +
                     3 * kSectionAlignment + kSpareBytes,
                 kArrayAlignment);
}

int64_t StepUpload::Lay(const SlotShape& shape, std::byte* base) {
  shape_ = shape;
  slots_.counts_stride = RoundUp(std::max(shape.vocab_size, 1), kCountsMultiple);
  slots_.vocab_size = shape.vocab_size;
  slots_.slots = shape.slots;
  slots_.groups = shape.groups;
  slots_.max_pages_per_slot = shape.max_pages_per_slot;
  Cutter cutter(base);
  cutter.Cut(&slots_.sampling, shape.slots);
  cutter.Cut(&slots_.bias, int64_t{shape.slots} * kMaxBiasedTokens);
  cutter.Cut(&slots_.stop_ids, int64_t{shape.slots} * kMaxStopIds);
  cutter.Cut(&slots_.counts, shape.slots * slots_.counts_stride);
  cutter.Cut(&slots_.page_tables, shape.TableEntries());
  CutArrays(
      shape, [&](int32_t** array, int64_t count) { cutter.Cut(array, count); }, &step_);
  return cutter.used();
}

Error StepUpload::Reserve(const SlotShape& shape, LaunchStream stream, StepBlock* block,
                          StepAttendPlans* plans) {
  Check(shape.groups <= kMaxKvGroups, "a device has at most kMaxKvGroups page tables per slot");
  Check(shape.TableEntries() <= kMaxTableEntries, "an entry of the page tables has a 32-bit index");
  stream_ = stream;
  block_ = block;
  plans_ = plans;
  block_bytes_ = BytesBelow(shape);
  const int64_t bytes = DeviceBytes(shape);
  Error error = MakeOwned(&memory_, [bytes](void** made) { return Allocate(bytes, made); });
  if (error == nullptr) error = Fill(memory_.get(), 0, bytes, stream.stream);
  if (error != nullptr) return error;
  Lay(shape, static_cast<std::byte*>(memory_.get()));
  constexpr uint8_t kNoPage = 0xff;  // every byte of -1
  error = Fill(slots_.page_tables, kNoPage, shape.TableEntries() * 4, stream.stream);
  if (error != nullptr) return error;
  lengths_.assign(shape.slots, 0);
  const auto reserve = [this](auto&... sections) {
    (sections.reserve(block_bytes_ / sizeof(sections[0])), ...);
  };
  reserve(bindings_, bias_, stop_ids_, history_, pages_, rows_, tokens_, outputs_);
  return nullptr;
}

int64_t StepUpload::PackedBytes() const {
  return SectionBytes(bindings_) + SectionBytes(bias_) + SectionBytes(stop_ids_) +
         SectionBytes(history_) + SectionBytes(pages_) + SectionBytes(rows_) +
         SectionBytes(tokens_) + SectionBytes(outputs_);
}

void StepUpload::FlushEarly() {
  block_->Begin();
  Flush(plans_->begin(), 0);
}

void StepUpload::Flush(int64_t plans_end, int32_t padded_rows) {
  Check(PackedBytes() <= block_bytes_, "a step's deltas and rows fit the block");
  const int64_t begin = plans_->begin() - PackedBytes();
  int64_t end = begin;
  const auto pack = [&](const auto& section) {
    using T = typename std::decay_t<decltype(section)>::value_type;
    std::byte* host = block_->host() + end;
    if (!section.empty()) std::memcpy(host, section.data(), section.size() * sizeof(T));
    auto* on_device = reinterpret_cast<const T*>(block_->device() + end);
    end += SectionBytes(section);
    return on_device;
  };
  const BindLaunch bind{.slots = slots_,
                        .bindings = pack(bindings_),
                        .history = pack(history_),
                        .bias = pack(bias_),
                        .stop_ids = pack(stop_ids_)};
  const ExpandLaunch expand{.slots = slots_,
                            .step = step_,
                            .pages = pack(pages_),
                            .rows = pack(rows_),
                            .tokens = pack(tokens_),
                            .outputs = pack(outputs_),
                            .page_count = static_cast<int32_t>(pages_.size()),
                            .row_count = static_cast<int32_t>(rows_.size()),
                            .output_count = static_cast<int32_t>(outputs_.size()),
                            .padded_rows = padded_rows};
  block_->Copy(begin, plans_end);
  LaunchBind(bind, static_cast<int32_t>(bindings_.size()), stream_);
  LaunchExpand(expand, stream_);
  bindings_.clear();
  bias_.clear();
  stop_ids_.clear();
  history_.clear();
  pages_.clear();
}

void StepUpload::Bind(const SlotInit& init) {
  CheckInit(init, shape_);
  lengths_[init.slot] = init.length;
  // Includes room for a piece of the history and for the alignment of the sections.
  constexpr int64_t kRoom = sizeof(SlotBinding) + kMaxBiasedTokens * sizeof(TokenBias) +
                            kMaxStopIds * sizeof(int32_t) + 8 * kSectionAlignment + 4096;
  if (!HasRoom(kRoom)) FlushEarly();
  SlotBinding binding{};
  binding.slot = init.slot;
  binding.begins = true;
  binding.counts = init.sampling.NeedsCounts();
  binding.bias_begin = static_cast<int32_t>(bias_.size());
  binding.stop_begin = static_cast<int32_t>(stop_ids_.size());
  binding.state = {.params = init.sampling,
                   .generated = init.generated,
                   .last_token = -1,
                   .bias_count = static_cast<int32_t>(init.bias.size()),
                   .stop_count = static_cast<int32_t>(init.stop_ids.size())};
  bias_.insert(bias_.end(), init.bias.begin(), init.bias.end());
  stop_ids_.insert(stop_ids_.end(), init.stop_ids.begin(), init.stop_ids.end());

  int64_t next = 0;
  const int64_t total = binding.counts ? static_cast<int64_t>(init.tokens.size()) : 0;
  while (true) {
    bindings_.push_back(binding);
    const int64_t room =
        (block_bytes_ - PackedBytes() - kSectionAlignment) / static_cast<int64_t>(sizeof(int32_t));
    const int64_t count = std::min(total - next, room);
    SlotBinding& added = bindings_.back();
    added.token_begin = static_cast<int32_t>(history_.size());
    added.token_count = static_cast<int32_t>(count);
    added.prompt_count =
        static_cast<int32_t>(std::clamp<int64_t>(init.prompt_tokens - next, 0, count));
    history_.insert(history_.end(), init.tokens.begin() + next, init.tokens.begin() + next + count);
    next += count;
    if (next == total) return;
    FlushEarly();
    binding.begins = false;
  }
}

void StepUpload::AddPage(const PageDelta& delta) {
  CheckDelta(delta, shape_);
  if (!HasRoom(sizeof(PageEntry) + kSectionAlignment)) FlushEarly();
  const int64_t row = int64_t{delta.group} * shape_.slots + delta.slot;
  pages_.push_back(
      {static_cast<int32_t>(row * shape_.max_pages_per_slot + delta.index), delta.page});
}

StepView StepUpload::AddRows(const StepInput& input) {
  return WalkRows(
      input, shape_,
      [&](const Row& row, int32_t begin, int64_t tokens) {
        rows_.push_back({.slot = row.slot,
                         .begin = begin,
                         .count = row.count,
                         .position = lengths_[row.slot],
                         .source = static_cast<int32_t>(tokens)});
        if (tokens >= 0) {
          const auto first = input.tokens.begin() + tokens;
          tokens_.insert(tokens_.end(), first, first + row.count);
        }
        lengths_[row.slot] += row.count;
      },
      [this](int32_t, int32_t token, int32_t slot, int32_t target) {
        outputs_.push_back({token, slot, target});
      });
}

StepView StepUpload::BeginStep(const StepInput& input) {
  rows_.clear();
  tokens_.clear();
  outputs_.clear();
  for (const SlotInit& init : input.inits) Bind(init);
  for (const PageDelta& delta : input.page_deltas) AddPage(delta);
  if (!HasRoom(block_bytes_ - kSpareBytes)) FlushEarly();  // the most the rows can need
  StepView view = AddRows(input);
  block_->Begin();
  plans_->BeginStep(rows_);
  Flush(rows_.empty() ? plans_->begin() : plans_->end(), input.padded_rows);
  PointTo(step_, slots_.page_tables, shape_, &view);
  return view;
}

}  // namespace baram::cuda
