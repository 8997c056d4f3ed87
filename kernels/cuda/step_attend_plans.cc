// StepAttendPlans: planning and packing.
#include "kernels/cuda/step_attend_plans.h"

#include <algorithm>
#include <cstring>

#include "kernels/check.h"
#include "kernels/rounding.h"

namespace baram::cuda {
namespace {

constexpr int64_t kPieceBytes = sizeof(AttendPiece);
constexpr int64_t kWordBytes = sizeof(int32_t);
constexpr int64_t kPlaceAlignment = 16;

// Bytes of a kind's place, which holds `words` of share_begin over all kernels.
int64_t PlaceBytes(int64_t words) { return RoundUp(words * kWordBytes, kPlaceAlignment); }

// No more shares than blocks of threads.
int64_t MostShares(const SlotShape& shape, const AttendDevice& device) {
  return MostAttendPieces(shape.max_step_tokens, device) - shape.max_step_tokens;
}

}  // namespace

int64_t StepAttendPlans::BytesBelow(const SlotShape& shape, const AttendDevice& device) {
  return int64_t{kMaxKinds} * PlaceBytes(MostShares(shape, device) + kAttendKernels);
}

int64_t StepAttendPlans::BytesAbove(const SlotShape& shape, const AttendDevice& device) {
  return int64_t{kMaxKinds} * MostAttendPieces(shape.max_step_tokens, device) * kPieceBytes;
}

void StepAttendPlans::Reserve(const SlotShape& shape, const AttendDevice& device,
                              StepBlock* block) {
  device_ = device;
  block_ = block;
  bytes_above_ = BytesAbove(shape, device);
  const int64_t pieces = MostAttendPieces(shape.max_step_tokens, device);
  const int64_t shares = MostShares(shape, device);
  for (Planned& planned : planned_) {
    planned.plan.pieces.reserve(pieces);
    for (std::vector<int32_t>& begin : planned.plan.share_begin) begin.reserve(shares + 1);
  }
}

void StepAttendPlans::BeginStep(std::span<const StepRow> rows) {
  rows_ = rows;
  end_ = 0;
  if (rows.empty()) return;
  for (Planned& planned : std::span(planned_).first(kinds_)) Pack(planned);
}

const StepAttendPlans::Planned& StepAttendPlans::For(const AttendKind& kind, bool captured) {
  for (Planned& planned : std::span(planned_).first(kinds_)) {
    if (planned.kind != kind) continue;
    planned.in_graph = planned.in_graph || captured;
    return planned;
  }
  // Its copy to the GPU would become part of the graph.
  Check(!captured, "attention of a kind ran in a step of its own before it is captured");
  if (kinds_ == kMaxKinds) {
    Check(std::ranges::none_of(planned_, &Planned::in_graph),
          "the plan of a kind that a graph uses keeps its place");
    kinds_ = 0;
    begin_ = end_ = 0;
  }
  Planned& planned = planned_[kinds_++];
  planned.kind = kind;
  int64_t words = 0;
  for (int kernel = 0; kernel < kAttendKernels; ++kernel) {
    words += TilingOf(static_cast<AttendKernel>(kernel), kind.head, device_).shares + 1;
  }
  const int64_t bytes = PlaceBytes(words);
  begin_ -= bytes;
  planned.place = begin_;
  // The new place overlaps what the step has packed into its staging, whose copy may still be in
  // flight.
  block_->Begin();
  const int64_t pieces = end_;
  Pack(planned);
  block_->Copy(planned.place, planned.place + bytes);
  block_->Copy(pieces, end_);
  return planned;
}

void StepAttendPlans::Pack(Planned& planned) {
  AttendPlan& plan = planned.plan;
  PlanAttend(rows_, planned.kind, device_, &plan);
  const auto first_piece = static_cast<int32_t>(end_ / kPieceBytes);
  const int64_t bytes = std::ssize(plan.pieces) * kPieceBytes;
  Check(end_ + bytes <= bytes_above_, "plans stay within what was reserved");
  std::memcpy(block_->host() + end_, plan.pieces.data(), bytes);
  end_ += bytes;

  AttendPlanArrays& arrays = planned.arrays;
  arrays.partial_capacity = MostAttendPartials(planned.kind.head, device_);
  arrays.pieces = reinterpret_cast<const AttendPiece*>(block_->device());
  int64_t at = planned.place;
  for (int kernel = 0; kernel < kAttendKernels; ++kernel) {
    arrays.share_begin[kernel] = reinterpret_cast<const int32_t*>(block_->device() + at);
    auto* words = reinterpret_cast<int32_t*>(block_->host() + at);
    for (const int32_t begin : plan.share_begin[kernel]) *words++ = first_piece + begin;
    at += std::ssize(plan.share_begin[kernel]) * kWordBytes;
  }
}

}  // namespace baram::cuda
