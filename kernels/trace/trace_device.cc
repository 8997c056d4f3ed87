// TraceDevice: records ops instead of running them.
#include "kernels/trace/trace_device.h"

#include <algorithm>
#include <cstring>

#include "kernels/shape_check.h"
#include "kernels/step_rows.h"

namespace baram {

Buffer TraceDevice::Alloc(int64_t bytes) {
  constexpr uintptr_t kAlignment = 64;
  void* address = reinterpret_cast<void*>(next_address_);
  next_address_ += (static_cast<uintptr_t>(bytes) + kAlignment) / kAlignment * kAlignment;
  return {address, bytes, nullptr};
}

void TraceDevice::Download(void* host, const void*, int64_t bytes) {
  if (bytes > 0) std::memset(host, 0, bytes);
}

StepView TraceDevice::BeginStep(const StepInput& input) {
  StepView view = WalkRows(
      input, slots_, [](auto...) {}, [](auto...) {});
  view.max_pages_per_slot = slots_.max_pages_per_slot;
  return view;
}

void TraceDevice::Record(const OpArgs& args) {
  std::string description = OpDescription(args);
  const auto known = std::find_if(entries_.begin(), entries_.end(), [&](const Entry& entry) {
    return entry.description == description;
  });
  if (known != entries_.end()) {
    ++known->count;
    return;
  }
  std::string sentence = CheckShapes(args);
  if (sentence.empty()) sentence = target_.Unsupported(args);
  const bool is_product = std::holds_alternative<GemmArgs>(args);
  entries_.push_back({std::move(description), std::move(sentence), is_product, 1, CostOf(args)});
}

std::string TraceDevice::UnsupportedSentences() const {
  std::string sentences;
  for (const Entry& entry : entries_) {
    if (entry.unsupported.empty()) continue;
    sentences += entry.description + ": " + entry.unsupported + "\n";
  }
  return sentences;
}

}  // namespace baram
