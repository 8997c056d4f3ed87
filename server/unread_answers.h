// UnreadAnswers: bounds the memory of the answers that gRPC clients have yet to read.
#ifndef BARAM_SERVER_UNREAD_ANSWERS_H_
#define BARAM_SERVER_UNREAD_ANSWERS_H_

#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <utility>

namespace baram::server {

// Answers of one message each, which gRPC holds until they are sent: as bytes, and as an object of
// up to 16 times as many. If all together exceed a limit, the oldest are cut off as too slow:
// clients that read are done with theirs long before. Thread-safe.
class UnreadAnswers {
 public:
  // `max_bytes`: on the wire.
  explicit UnreadAnswers(int64_t max_bytes) : max_bytes_(max_bytes) {}

  // An answer, counted while this exists.
  class One {
   public:
    // `cut_off` is called at most once, on any thread, and not after the destructor has returned.
    // It must not destroy this.
    One(UnreadAnswers& all, int64_t bytes, std::function<void()> cut_off)
        : all_(all), number_(all.Add(bytes, std::move(cut_off))) {}
    ~One() { all_.Remove(number_); }
    One(const One&) = delete;
    One& operator=(const One&) = delete;

   private:
    UnreadAnswers& all_;
    const uint64_t number_;
  };

 private:
  struct Counted {
    int64_t bytes;
    std::function<void()> cut_off;
  };

  // A single answer may exceed the limit.
  uint64_t Add(int64_t bytes, std::function<void()> cut_off) {
    std::lock_guard lock(mutex_);
    all_.emplace_hint(all_.end(), ++last_, Counted{bytes, std::move(cut_off)});
    bytes_ += bytes;
    while (bytes_ > max_bytes_ && all_.size() > 1) {
      const auto oldest = all_.begin();
      oldest->second.cut_off();
      bytes_ -= oldest->second.bytes;
      all_.erase(oldest);
    }
    return last_;
  }
  void Remove(uint64_t number) {
    std::lock_guard lock(mutex_);
    const auto found = all_.find(number);
    if (found == all_.end()) return;
    bytes_ -= found->second.bytes;
    all_.erase(found);
  }

  const int64_t max_bytes_;
  std::mutex mutex_;                 // guards what follows
  std::map<uint64_t, Counted> all_;  // by number, so the oldest first
  uint64_t last_ = 0;                // number
  int64_t bytes_ = 0;                // of all_
};

}  // namespace baram::server

#endif  // BARAM_SERVER_UNREAD_ANSWERS_H_
