// TextPool: the threads that tokenize, render and write long replies, so that no thread does that
// others wait for.
//
// Bounded both ways: a fixed number of threads, a queue that refuses new texts beyond its limit.
// The ends of accepted calls wait in it uncounted.
#ifndef BARAM_SERVER_TEXT_POOL_H_
#define BARAM_SERVER_TEXT_POOL_H_

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace baram::server {

class TextPool {
 public:
  // `max_queued`: most jobs of Run that wait.
  TextPool(int32_t threads, int32_t max_queued);
  ~TextPool();
  TextPool(const TextPool&) = delete;
  TextPool& operator=(const TextPool&) = delete;

  // Queues `job`; false, and nothing happens, when max_queued wait. From any thread.
  [[nodiscard]] bool Run(std::function<void()> job);
  // Queues `job`, however many wait: for the end of a call that was accepted, which is where calls
  // are bounded. Once closed, runs it before it returns.
  void Finish(std::function<void()> job);
  // Whether no job is queued or runs.
  bool idle() const;
  // Refuses from now on, runs what is queued, joins. Not from a job.
  void Close();

 private:
  struct Job {
    std::function<void()> work;
    bool counts = false;  // it came by Run
  };

  void Work();

  const size_t max_queued_;
  mutable std::mutex mutex_;  // guards what follows, but for the threads
  std::condition_variable changed_;
  std::deque<Job> queue_;
  size_t counted_ = 0;  // of queue_
  int32_t running_ = 0;
  bool closing_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace baram::server

#endif  // BARAM_SERVER_TEXT_POOL_H_
