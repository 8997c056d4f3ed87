// TextPool: the threads that tokenize, render and write long replies, so that no thread does that
// others wait for.
//
// Bounded both ways: a fixed number of threads, a queue that refuses new texts beyond its limit.
// The ends of accepted calls wait in it uncounted. Where there are several threads, one of them
// never takes a long text, so that short texts do not wait behind long ones.
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

  // A longer text takes tens of milliseconds to read, or seconds.
  static constexpr size_t kLongBytes = 64 << 10;

  // Queues `job`, which reads a text of `bytes` bytes. When max_queued wait already, nothing
  // happens and it returns false. From any thread.
  [[nodiscard]] bool Run(size_t bytes, std::function<void()> job);
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
    bool counts = false;   // it came by Run
    bool is_long = false;  // see kLongBytes
  };

  void Work();
  bool MayRun(const Job& job) const;
  std::deque<Job>::iterator Next();  // with mutex_ held; its end: nothing that may run now

  const size_t max_queued_;
  const int32_t max_long_;    // that run at once
  mutable std::mutex mutex_;  // guards what follows, but for the threads
  std::condition_variable changed_;
  std::deque<Job> queue_;
  size_t counted_ = 0;  // of queue_
  int32_t running_ = 0, running_long_ = 0;
  bool closing_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace baram::server

#endif  // BARAM_SERVER_TEXT_POOL_H_
