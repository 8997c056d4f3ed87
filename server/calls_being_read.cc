// CallsBeingRead: see the header.
#include "server/calls_being_read.h"

#include <utility>

namespace baram::server {

CallsBeingRead::Place::~Place() { Leave(); }

void CallsBeingRead::Place::Enter(std::string_view id) {
  std::lock_guard lock(calls_.mutex_);
  if (here_ != calls_.places_.end()) return;
  here_ = calls_.places_.emplace(id, this);
}

void CallsBeingRead::Place::Leave() {
  std::lock_guard lock(calls_.mutex_);
  if (here_ == calls_.places_.end()) return;
  calls_.places_.erase(std::exchange(here_, calls_.places_.end()));
}

absl::Status CallsBeingRead::Place::LeaveRefused(absl::Status why) {
  Leave();
  return aborted() ? absl::CancelledError("The request was cancelled.") : why;
}

bool CallsBeingRead::Abort(std::string_view id) {
  std::lock_guard lock(mutex_);
  const auto [first, last] = places_.equal_range(id);
  for (auto place = first; place != last; ++place) place->second->aborted_.store(true);
  return first != last;
}

}  // namespace baram::server
