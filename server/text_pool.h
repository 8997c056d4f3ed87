// TextPool: the threads that tokenize, render and write long replies, so that no thread does that
// others wait for.
//
// Bounded both ways: a fixed number of threads, a queue that refuses new texts beyond its limits.
// The ends of accepted calls are not counted, and wait for no text. Where there are several
// threads, one of them never takes a long text, so that short texts do not wait behind long ones.
#ifndef BARAM_SERVER_TEXT_POOL_H_
#define BARAM_SERVER_TEXT_POOL_H_

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "engine/steady_time.h"

namespace baram::server {

class TextPool {
 public:
  // `max_queued`: most jobs of Run that wait.
  TextPool(int32_t threads, int32_t max_queued);
  ~TextPool();
  TextPool(const TextPool&) = delete;
  TextPool& operator=(const TextPool&) = delete;

  // A longer text takes tens of milliseconds to read, or seconds.
  static constexpr size_t kLongBytes = 64 << 10;
  // Most bytes of texts that wait.
  static constexpr size_t kMaxQueuedBytes = 256 << 20;

  // Queues `job`, which holds `bytes` bytes, of which `to_read` are text that it reads (by default
  // all), and ends at once if it begins after `deadline`: from then on any thread may take it. When
  // max_queued wait already, or too many bytes, nothing happens and it returns false. From any
  // thread.
  [[nodiscard]] bool Run(size_t bytes, SteadyTime deadline, std::function<void()> job,
                         std::optional<size_t> to_read = {});
  // Queues `job`, however many wait, before all texts: for what goes out of a call that was
  // accepted, one chunk of a reply at a time, which is where calls are bounded. Once closed, runs
  // it before it returns.
  void Finish(std::function<void()> job);
  // Jobs of Run that wait.
  int64_t waiting() const;
  // Whether no job is queued or runs.
  bool idle() const;
  // Refuses from now on, runs what is queued, joins. Not from a job.
  void Close();

 private:
  struct Job {
    std::function<void()> work;
    size_t bytes = 0, to_read = 0;
    SteadyTime deadline = SteadyTime::max();
    bool is_long() const { return to_read > kLongBytes; }
  };

  void Work();
  // With mutex_ held; RunEnd gives it up while its job runs.
  void RunEnd(std::unique_lock<std::mutex>& lock);
  bool MayRun(const Job& job, SteadyTime now) const;
  std::deque<Job>::iterator Next();  // its end: nothing that may run now
  void AwaitChange(std::unique_lock<std::mutex>& lock);

  const size_t max_queued_;
  const int32_t max_long_;    // that run at once
  mutable std::mutex mutex_;  // guards what follows, but for the threads
  std::condition_variable changed_;
  std::deque<std::function<void()>> ends_;  // that came by Finish
  std::deque<Job> queue_;                   // that came by Run
  size_t bytes_ = 0;                        // of queue_
  int32_t running_ = 0, running_long_ = 0;
  bool closing_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace baram::server

#endif  // BARAM_SERVER_TEXT_POOL_H_
