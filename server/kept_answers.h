// KeptAnswers: bounds the memory of answers that are collected before they can be sent.
#ifndef BARAM_SERVER_KEPT_ANSWERS_H_
#define BARAM_SERVER_KEPT_ANSWERS_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <list>
#include <mutex>

namespace baram::server {

// What all answers in progress keep: unstreamed ones their text so far, streams what has to wait
// for something else. If all together exceed a limit, the largest are cut off. Thread-safe.
class KeptAnswers {
 public:
  explicit KeptAnswers(int64_t max_bytes) : max_bytes_(max_bytes) {}
  KeptAnswers(const KeptAnswers&) = delete;
  KeptAnswers& operator=(const KeptAnswers&) = delete;

  // Of all answers that were not cut off.
  int64_t bytes() const { return bytes_.load(); }

  // An answer, counted while this exists.
  class One {
   public:
    explicit One(KeptAnswers& all);
    ~One();
    One(const One&) = delete;
    One& operator=(const One&) = delete;

    // Call before the first Add. `cut_off` is called at most once, inside the Add of any answer,
    // whose caller may hold locks; possibly after this is gone.
    void OnCut(std::function<void()> cut_off);
    // So many more bytes are kept of it; negative if there are fewer now. Not counted once it was
    // cut off.
    void Add(int64_t bytes);
    // Whether it was cut off: it must end, with an error. Once true, always true.
    bool cut() const { return cut_.load(); }

   private:
    friend class KeptAnswers;

    KeptAnswers& all_;
    std::atomic<int64_t> bytes_{0};
    std::atomic<bool> cut_{false};
    std::function<void()> cut_off_;    // guarded by all_.mutex_
    std::list<One*>::iterator place_;  // in all_.answers_
  };

 private:
  void CutLargest();
  // What `one` has counted so far counts no longer.
  void Release(One& one) { bytes_ -= one.bytes_.exchange(0); }

  const int64_t max_bytes_;
  std::atomic<int64_t> bytes_{0};
  std::mutex mutex_;  // guards what follows
  std::list<One*> answers_;
};

}  // namespace baram::server

#endif  // BARAM_SERVER_KEPT_ANSWERS_H_
