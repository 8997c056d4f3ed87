// UnreadAnswers: bounds the memory of the answers that gRPC clients have yet to read.
#ifndef BARAM_SERVER_UNREAD_ANSWERS_H_
#define BARAM_SERVER_UNREAD_ANSWERS_H_

#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <utility>

namespace baram::server {

// Answers of one message each, which gRPC holds until they are sent. If all together exceed a
// limit, the oldest large ones are cut off as too slow, and the oldest small ones if that is not
// enough; past a number of calls, the oldest. Thread-safe.
class UnreadAnswers {
 public:
  // gRPC holds a call as long as its answer: 12 KB, or 150 KB with as much metadata as it accepts
  // by default. So each kCallMetadata of metadata counts as another call: 8192 with little of it,
  // or 1024 with the most, take about 150 MB. An answer also counts during the moment in which it
  // is sent: with 4096 small calls at a time, well over 1000 have been seen to.
  static constexpr int64_t kMaxCalls = 8192, kCallMetadata = 2048;

  // `max_bytes`: on the wire.
  explicit UnreadAnswers(int64_t max_bytes) : max_bytes_(max_bytes) {}

  // An answer, counted while this exists.
  class One {
   public:
    // Of `bytes`, to a call with `metadata_bytes` of metadata. `cut_off` is called at most once, on
    // any thread, and not after the destructor has returned. It must not destroy this.
    One(UnreadAnswers& all, int64_t bytes, int64_t metadata_bytes, std::function<void()> cut_off)
        : all_(all),
          number_(all.Add({bytes, 1 + metadata_bytes / kCallMetadata, std::move(cut_off)})) {}
    ~One() { all_.Remove(number_); }
    One(const One&) = delete;
    One& operator=(const One&) = delete;

   private:
    UnreadAnswers& all_;
    const uint64_t number_;
  };

 private:
  struct Counted {
    int64_t bytes, calls;
    std::function<void()> cut_off;
  };

  using Answers = std::map<uint64_t, Counted>;  // by number, so the oldest first

  static constexpr int64_t kSmallBytes = 64 << 10;
  Answers& OfSize(int64_t bytes) { return bytes > kSmallBytes ? large_ : small_; }

  // A single answer may exceed the limit.
  uint64_t Add(Counted answer) {
    std::lock_guard lock(mutex_);
    bytes_ += answer.bytes;
    calls_ += answer.calls;
    OfSize(answer.bytes).emplace(++last_, std::move(answer));
    while (bytes_ > max_bytes_ && large_.size() + small_.size() > 1) {
      // Not the one that has just come, whose client may be about to read it.
      const bool old_large = !large_.empty() && large_.begin()->first != last_;
      CutOffOldest(old_large ? large_ : small_);
    }
    while (calls_ > kMaxCalls && large_.size() + small_.size() > 1) {
      const bool large =
          small_.empty() || (!large_.empty() && large_.begin()->first < small_.begin()->first);
      CutOffOldest(large ? large_ : small_);
    }
    return last_;
  }
  void CutOffOldest(Answers& answers) {
    answers.begin()->second.cut_off();
    Erase(answers, answers.begin());
  }
  void Remove(uint64_t number) {
    std::lock_guard lock(mutex_);
    for (Answers* answers : {&large_, &small_}) {
      const auto found = answers->find(number);
      if (found != answers->end()) Erase(*answers, found);
    }
  }
  void Erase(Answers& answers, Answers::iterator answer) {
    bytes_ -= answer->second.bytes;
    calls_ -= answer->second.calls;
    answers.erase(answer);
  }

  const int64_t max_bytes_;
  std::mutex mutex_;  // guards what follows
  Answers large_, small_;
  uint64_t last_ = 0;              // number
  int64_t bytes_ = 0, calls_ = 0;  // of all
};

}  // namespace baram::server

#endif  // BARAM_SERVER_UNREAD_ANSWERS_H_
