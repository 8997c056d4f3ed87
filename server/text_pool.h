// TextPool: the threads that tokenize, render and write long replies, so that threads which others
// depend on need not.
//
// Bounded in both directions: a fixed number of threads, and a queue that refuses new texts beyond
// its limits. Output of accepted calls is not counted, and waits for no text. If there are
// several threads, one of them never takes a long text, so that short texts do not queue behind
// long ones.
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
  // `max_queued`: how many jobs of Run may wait.
  TextPool(int32_t threads, int32_t max_queued);
  ~TextPool();
  TextPool(const TextPool&) = delete;
  TextPool& operator=(const TextPool&) = delete;

  // Reading a longer text takes tens of milliseconds, or even seconds.
  static constexpr size_t kLongBytes = 64 << 10;
  // The most bytes of waiting texts.
  static constexpr size_t kMaxQueuedBytes = 256 << 20;

  // Queues `job`, which holds `bytes` bytes, of which it reads `to_read` (by default all) as text,
  // and which must return at once if it starts after `deadline`: from then on any thread may take
  // it. If max_queued jobs or too many bytes already wait, does nothing and returns false.
  // Thread-safe.
  [[nodiscard]] bool Run(size_t bytes, SteadyTime deadline, std::function<void()> job,
                         std::optional<size_t> to_read = {});
  // Queues `job` regardless of how many wait, ahead of all texts: for the output of an accepted
  // call, one chunk of a reply at a time; the bound is on accepting calls. After Close, runs it
  // before returning.
  void RunOutput(std::function<void()> job);
  // Jobs of Run that are waiting.
  int64_t waiting() const;
  // Jobs of Run that are waiting or running.
  int64_t unfinished() const;
  // Whether no job is queued or running.
  bool idle() const;
  // Refuses new texts from now on, runs what is queued, joins. Not from a job.
  void Close();

 private:
  struct Job {
    std::function<void()> work;
    size_t bytes = 0, to_read = 0;
    SteadyTime deadline = SteadyTime::max();
    bool is_long() const { return to_read > kLongBytes; }
  };

  void Work();
  // Requires mutex_; releases it while the job runs.
  void RunNextOutput(std::unique_lock<std::mutex>& lock);
  bool MayRun(const Job& job, SteadyTime now) const;
  std::deque<Job>::iterator Next();  // end() if nothing may run now
  void AwaitChange(std::unique_lock<std::mutex>& lock);

  const size_t max_queued_;
  const int32_t max_long_;    // jobs that may run at once
  mutable std::mutex mutex_;  // guards what follows, except the threads
  std::condition_variable changed_;
  std::deque<std::function<void()>> outputs_;  // queued by RunOutput
  std::deque<Job> queue_;                      // queued by Run
  size_t bytes_ = 0;                           // of queue_
  int32_t running_ = 0;  // jobs of both kinds; of Run, and of these the long ones:
  int32_t running_texts_ = 0, running_long_ = 0;
  bool closing_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace baram::server

#endif  // BARAM_SERVER_TEXT_POOL_H_
