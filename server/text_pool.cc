// TextPool: a bounded queue in front of a fixed number of threads.
#include "server/text_pool.h"

#include <pthread.h>

#include <utility>

namespace baram::server {

TextPool::TextPool(int32_t threads, int32_t max_queued)
    : max_queued_(static_cast<size_t>(max_queued)) {
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

bool TextPool::Run(std::function<void()> job) {
  {
    std::lock_guard lock(mutex_);
    if (closing_ || counted_ >= max_queued_) return false;
    queue_.push_back({std::move(job), /*counts=*/true});
    ++counted_;
  }
  changed_.notify_one();
  return true;
}

void TextPool::Finish(std::function<void()> job) {
  {
    std::lock_guard lock(mutex_);
    if (!closing_) queue_.push_back({std::exchange(job, nullptr), /*counts=*/false});
  }
  if (job) return job();
  changed_.notify_one();
}

bool TextPool::idle() const {
  std::lock_guard lock(mutex_);
  return queue_.empty() && running_ == 0;
}

void TextPool::Work() {
  pthread_setname_np(pthread_self(), "baram-text");
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [this] { return closing_ || !queue_.empty(); });
    if (queue_.empty()) return;
    Job job = std::move(queue_.front());
    queue_.pop_front();
    counted_ -= job.counts;
    ++running_;
    lock.unlock();
    job.work();
    job = {};  // what it holds is released outside the lock
    lock.lock();
    --running_;
  }
}

}  // namespace baram::server
