// KeptAnswers: see the header.
#include "server/kept_answers.h"

#include <algorithm>
#include <utility>
#include <vector>

namespace baram::server {

KeptAnswers::One::One(KeptAnswers& all) : all_(all) {
  std::lock_guard lock(all_.mutex_);
  place_ = all_.answers_.insert(all_.answers_.end(), this);
}

KeptAnswers::One::~One() {
  std::lock_guard lock(all_.mutex_);
  all_.answers_.erase(place_);
  all_.Release(*this);
}

void KeptAnswers::One::OnCut(std::function<void()> cut_off) {
  std::lock_guard lock(all_.mutex_);
  cut_off_ = std::move(cut_off);
}

void KeptAnswers::One::Add(int64_t bytes) {
  if (cut()) return;
  // Both sums change by the same in any order, so that what is released is what was counted.
  bytes_ += bytes;
  const int64_t all = all_.bytes_ += bytes;
  if (bytes > 0 && all > all_.max_bytes_) all_.CutLargest();
}

// An answer that is cut off no longer counts, though its memory is freed only when it ends: soon,
// as nothing more is drawn for it.
void KeptAnswers::CutLargest() {
  std::vector<std::function<void()>> cut;
  {
    std::lock_guard lock(mutex_);
    while (bytes_ > max_bytes_) {
      const auto largest = std::ranges::max_element(
          answers_, {}, [](const One* one) { return one->cut() ? -1 : one->bytes_.load(); });
      if (largest == answers_.end() || (*largest)->cut()) break;
      One& one = **largest;
      one.cut_ = true;
      Release(one);
      cut.push_back(std::exchange(one.cut_off_, nullptr));
    }
  }
  for (const std::function<void()>& cut_off : cut) {
    if (cut_off) cut_off();
  }
}

}  // namespace baram::server
