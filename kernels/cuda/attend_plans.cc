// AttendPlans: plans, packs and copies.
#include "kernels/cuda/attend_plans.h"

#include <algorithm>
#include <cstring>

#include "kernels/check.h"

namespace baram::cuda {
namespace {

// A block: the header, group_begin of every kernel, the pieces, the merges.
constexpr int64_t kHeaderWords = sizeof(AttendPlanHeader) / sizeof(int32_t);
constexpr int64_t kPieceWords = sizeof(AttendPiece) / sizeof(int32_t);
constexpr int64_t kMergeWords = sizeof(AttendMerge) / sizeof(int32_t);

template <typename T>
int32_t* Append(const std::vector<T>& values, int32_t* words) {
  std::memcpy(words, values.data(), values.size() * sizeof(T));
  return words + values.size() * sizeof(T) / sizeof(int32_t);
}

// No more groups than blocks of threads, no more merges than tokens.
int64_t MostGroups(const SlotShape& shape, const AttendDevice& device) {
  return MostAttendPieces(shape.max_step_tokens, device) - shape.max_step_tokens;
}

// Of the largest plan.
int64_t BlockWords(const SlotShape& shape, const AttendDevice& device) {
  return kHeaderWords + MostGroups(shape, device) + kAttendKernels +
         MostAttendPieces(shape.max_step_tokens, device) * kPieceWords +
         shape.max_step_tokens * kMergeWords;
}

}  // namespace

int64_t AttendPlans::DeviceBytes(const SlotShape& shape, const AttendDevice& device) {
  return static_cast<int64_t>(kMostKinds * sizeof(int32_t)) * BlockWords(shape, device);
}

Error AttendPlans::Reserve(const SlotShape& shape, const AttendDevice& device, Stream stream) {
  device_ = device;
  stream_ = stream;
  const int64_t pieces = MostAttendPieces(shape.max_step_tokens, device);
  const int64_t groups = MostGroups(shape, device);
  block_words_ = BlockWords(shape, device);
  for (Planned& planned : planned_) {
    planned.plan.pieces.reserve(pieces);
    planned.plan.merges.reserve(shape.max_step_tokens);
    for (std::vector<int32_t>& begin : planned.plan.group_begin) begin.reserve(groups + 1);
  }
  const int64_t bytes = DeviceBytes(shape, device);
  Error error = MakeOwned(&memory_, [bytes](void** made) { return Allocate(bytes, made); });
  for (Staging& staging : stagings_) {
    if (error != nullptr) return error;
    error =
        MakeOwned(&staging.memory, [bytes](void** made) { return AllocatePinned(bytes, made); });
    if (error == nullptr) error = MakeOwned(&staging.copied, CreateEvent);
  }
  return error;
}

void AttendPlans::BeginStep(std::span<const StepRow> rows) {
  rows_ = rows;
  if (!rows.empty() && kinds_ > 0) Plan(std::span(planned_).first(kinds_));
}

const AttendPlans::Planned& AttendPlans::For(const AttendKind& kind, bool captured) {
  for (size_t i = 0; i < kinds_; ++i) {
    Planned& planned = planned_[i];
    if (planned.kind != kind) continue;
    planned.in_graph = planned.in_graph || captured;
    return planned;
  }
  // Its copy to the GPU would become a part of the graph.
  Check(!captured, "attention of a kind ran in a step of its own before it is captured");
  size_t place = kinds_;
  if (kinds_ < kMostKinds) {
    ++kinds_;
  } else {
    place = oldest_;
    oldest_ = (oldest_ + 1) % kMostKinds;
  }
  Check(!planned_[place].in_graph, "the plan of a kind that a graph uses keeps its place");
  planned_[place].kind = kind;
  Plan(std::span(planned_).subspan(place, 1));
  return planned_[place];
}

int64_t AttendPlans::Pack(const Planned& planned, int32_t* words) const {
  const AttendPlan& plan = planned.plan;
  int32_t* end = words + kHeaderWords;
  for (const std::vector<int32_t>& begin : plan.group_begin) end = Append(begin, end);
  end = Append(plan.pieces, end);
  const AttendPlanHeader header{.merge_count = static_cast<int32_t>(plan.merges.size()),
                                .merges_at = static_cast<int32_t>(end - words)};
  std::memcpy(words, &header, sizeof(header));
  end = Append(plan.merges, end);
  Check(end - words <= block_words_, "a plan stays within what was reserved");
  return end - words;
}

void AttendPlans::Plan(std::span<Planned> planned) {
  Staging& staging = stagings_[next_staging_];
  next_staging_ = 1 - next_staging_;
  Note(WaitEvent(staging.copied.get()));  // the copies before the last
  for (Planned& one : planned) {
    PlanAttend(rows_, one.kind, device_, &one.plan);
    const int64_t at = (&one - planned_.data()) * block_words_;
    int32_t* host = static_cast<int32_t*>(staging.memory.get()) + at;
    int32_t* block = static_cast<int32_t*>(memory_.get()) + at;
    const int64_t bytes = Pack(one, host) * static_cast<int64_t>(sizeof(int32_t));
    Note(CopyToDevice(block, host, bytes, stream_));
    one.arrays.partial_capacity = MostAttendPartials(one.kind.head, device_);
    one.arrays.header = reinterpret_cast<const AttendPlanHeader*>(block);
    const int32_t* next = block + kHeaderWords;
    for (int kernel = 0; kernel < kAttendKernels; ++kernel) {
      one.arrays.group_begin[kernel] = next;
      next += one.plan.group_begin[kernel].size();
    }
    one.arrays.pieces = reinterpret_cast<const AttendPiece*>(next);
  }
  Note(RecordEvent(staging.copied.get(), stream_));
}

}  // namespace baram::cuda
