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

bool TextPool::Run(size_t bytes, std::function<void()> job) {
  {
    std::lock_guard lock(mutex_);
    if (closing_ || counted_ >= max_queued_) return false;
    queue_.push_back({std::move(job), /*counts=*/true, bytes > kLongBytes});
    ++counted_;
  }
  changed_.notify_one();
  return true;
}

void TextPool::Finish(std::function<void()> job) {
  {
    std::lock_guard lock(mutex_);
    if (!closing_) queue_.push_back({.work = std::exchange(job, nullptr)});
  }
  if (job) return job();
  changed_.notify_one();
}

bool TextPool::idle() const {
  std::lock_guard lock(mutex_);
  return queue_.empty() && running_ == 0;
}

bool TextPool::MayRun(const Job& job) const {
  return !job.is_long || running_long_ < max_long_ || closing_;
}

std::deque<TextPool::Job>::iterator TextPool::Next() {
  return std::find_if(queue_.begin(), queue_.end(), [this](const Job& job) { return MayRun(job); });
}

void TextPool::Work() {
  pthread_setname_np(pthread_self(), "baram-text");
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [this] { return closing_ || Next() != queue_.end(); });
    const auto next = Next();
    if (next == queue_.end()) return;
    Job job = std::move(*next);
    queue_.erase(next);
    counted_ -= job.counts;
    ++running_;
    running_long_ += job.is_long;
    const bool was_long = job.is_long;
    lock.unlock();
    job.work();
    job = {};  // what it holds is released outside the lock
    lock.lock();
    --running_;
    running_long_ -= was_long;
  }
}

}  // namespace baram::server
