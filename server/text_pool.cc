// TextPool: a bounded queue in front of a fixed number of threads.
#include "server/text_pool.h"

#include <pthread.h>

#include <algorithm>
#include <utility>

namespace baram::server {

TextPool::TextPool(int32_t threads, int32_t max_queued)
    : max_queued_(static_cast<size_t>(max_queued)), max_long_(std::max(threads - 1, 1)) {
  for (int32_t i = 0; i < threads; ++i) threads_.emplace_back([this] { Work(); });
}

TextPool::~TextPool() { Close(); }

void TextPool::Close() {
  {
    std::lock_guard lock(mutex_);
    closing_ = true;
  }
  changed_.notify_all();
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
}

bool TextPool::Run(size_t bytes, SteadyTime deadline, std::function<void()> job,
                   std::optional<size_t> to_read) {
  {
    std::lock_guard lock(mutex_);
    const bool full = queue_.size() >= max_queued_ || bytes_ + bytes > kMaxQueuedBytes;
    if (closing_ || (full && !queue_.empty())) return false;
    queue_.push_back({std::move(job), bytes, to_read.value_or(bytes), deadline});
    bytes_ += bytes;
  }
  changed_.notify_one();
  return true;
}

void TextPool::RunOutput(std::function<void()> job) {
  {
    std::lock_guard lock(mutex_);
    if (!closing_) outputs_.push_back(std::exchange(job, nullptr));
  }
  if (job) return job();
  changed_.notify_one();
}

int64_t TextPool::waiting() const {
  std::lock_guard lock(mutex_);
  return static_cast<int64_t>(queue_.size());
}

int64_t TextPool::unfinished() const {
  std::lock_guard lock(mutex_);
  return static_cast<int64_t>(queue_.size()) + running_texts_;
}

bool TextPool::idle() const {
  std::lock_guard lock(mutex_);
  return outputs_.empty() && queue_.empty() && running_ == 0;
}

bool TextPool::MayRun(const Job& job, SteadyTime now) const {
  return !job.is_long() || running_long_ < max_long_ || closing_ || now >= job.deadline;
}

std::deque<TextPool::Job>::iterator TextPool::Next() {
  if (queue_.empty()) return queue_.end();
  const SteadyTime now = std::chrono::steady_clock::now();
  return std::find_if(queue_.begin(), queue_.end(),
                      [&](const Job& job) { return MayRun(job, now); });
}

// A job that waits while a thread is free is a long one.
void TextPool::AwaitChange(std::unique_lock<std::mutex>& lock) {
  if (queue_.empty()) return changed_.wait(lock);
  const auto sooner = [](const Job& a, const Job& b) { return a.deadline < b.deadline; };
  // Copied, since others change the queue meanwhile.
  const SteadyTime first = std::min_element(queue_.begin(), queue_.end(), sooner)->deadline;
  changed_.wait_until(lock, first);
}

void TextPool::RunNextOutput(std::unique_lock<std::mutex>& lock) {
  std::function<void()> job = std::move(outputs_.front());
  outputs_.pop_front();
  ++running_;
  lock.unlock();
  job();
  job = nullptr;  // releases its captures outside the lock
  lock.lock();
  --running_;
}

void TextPool::Work() {
  pthread_setname_np(pthread_self(), "baram-text");
  std::unique_lock lock(mutex_);
  while (true) {
    if (!outputs_.empty()) {
      RunNextOutput(lock);
      continue;
    }
    const auto next = Next();
    if (next == queue_.end()) {
      if (closing_) return;
      AwaitChange(lock);
      continue;
    }
    Job job = std::move(*next);
    queue_.erase(next);
    bytes_ -= job.bytes;
    // An expired job takes no time.
    const bool is_long = job.is_long() && std::chrono::steady_clock::now() < job.deadline;
    ++running_;
    ++running_texts_;
    running_long_ += is_long;
    lock.unlock();
    job.work();
    job = {};  // as in RunNextOutput
    lock.lock();
    --running_;
    --running_texts_;
    running_long_ -= is_long;
  }
}

}  // namespace baram::server
