// ScarceThreads: replaces the C library's pthread_create.
#include "tests/scarce_threads.h"

#include <dlfcn.h>
#include <pthread.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <filesystem>
#include <iterator>
#include <limits>
#include <thread>

namespace {
constexpr int kAny = std::numeric_limits<int>::max();
std::atomic<int> threads_left{kAny};
}  // namespace

extern "C" int pthread_create(pthread_t* thread, const pthread_attr_t* attributes,
                              void* (*start)(void*), void* argument) noexcept {
  if (threads_left != kAny && threads_left.fetch_sub(1) <= 0) return EAGAIN;
  using Create = int (*)(pthread_t*, const pthread_attr_t*, void* (*)(void*), void*);
  static const auto create = reinterpret_cast<Create>(dlsym(RTLD_NEXT, "pthread_create"));
  return create(thread, attributes, start, argument);
}

namespace baram::testing {

ScarceThreads::ScarceThreads(int left) { threads_left = left; }
ScarceThreads::~ScarceThreads() { threads_left = kAny; }

int ThreadCount() {
  const std::filesystem::directory_iterator threads("/proc/self/task");
  return static_cast<int>(std::distance(begin(threads), end(threads)));
}

bool ThreadsBecome(int count) {
  for (int i = 0; i < 500 && ThreadCount() != count; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return ThreadCount() == count;
}

}  // namespace baram::testing
