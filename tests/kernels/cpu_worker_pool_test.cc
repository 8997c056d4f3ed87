// The worker pool: every unit once, effects visible, threads that come late, sleep and end.
#include <gtest/gtest.h>
#include <sched.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <thread>
#include <vector>

#include "kernels/cpu/worker_pool.h"

namespace baram::cpu {
namespace {

TEST(WorkerPool, CoversEveryUnitOnceInTilesOfTheGrain) {
  for (const int32_t workers : {1, 2, 5}) {
    WorkerPool pool({.workers = workers});
    EXPECT_EQ(pool.workers(), workers);
    for (const int64_t units : {0, 1, 7, 64, 1000}) {
      for (const int64_t grain : {1, 3, 64}) {
        std::vector<int> visits(units, 0);  // plain: the op's end orders them
        pool.ParallelFor(units, grain, [&](int64_t begin, int64_t end, const Worker& worker) {
          EXPECT_LE(end - begin, grain);
          EXPECT_EQ(begin % grain, 0);
          EXPECT_LT(worker.index, workers);
          for (int64_t i = begin; i < end; ++i) ++visits[i];
        });
        EXPECT_EQ(visits, std::vector<int>(units, 1)) << workers << " workers, grain " << grain;
      }
    }
  }
}

// What one op wrote on any worker, the next one reads on any other.
TEST(WorkerPool, OpsAreOrdered) {
  WorkerPool pool({.workers = 4});
  std::vector<int64_t> a(257, 1), b(257, 0);
  for (int op = 0; op < 2000; ++op) {
    pool.ParallelFor(257, 8, [&](int64_t begin, int64_t end, const Worker&) {
      for (int64_t i = begin; i < end; ++i) b[i] = a[256 - i] + 1;
    });
    a.swap(b);
  }
  EXPECT_EQ(a, std::vector<int64_t>(257, 2001));
}

TEST(WorkerPool, ScratchIsPrivateAndAligned) {
  WorkerPool pool({.workers = 3});
  pool.ParallelFor(300, 1, [&](int64_t begin, int64_t, const Worker& worker) {
    auto* scratch = static_cast<int64_t*>(worker.scratch);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(scratch) % 64, 0u);
    constexpr int64_t kLast = kWorkerScratchBytes / 8 - 1;
    scratch[0] = scratch[kLast] = begin;
    std::this_thread::yield();
    EXPECT_EQ(scratch[0], begin);
    EXPECT_EQ(scratch[kLast], begin);
  });
}

// Two units that wait for each other need two threads inside one op, also after the threads have
// had time to fall asleep: the wait below ends only if a sleeping thread is woken.
TEST(WorkerPool, WakesItsThreads) {
  WorkerPool pool({.workers = 2});
  for (int op = 0; op < 50; ++op) {
    std::atomic<int> inside{0};
    pool.ParallelFor(2, 1, [&](int64_t, int64_t, const Worker&) {
      inside.fetch_add(1);
      while (inside.load() < 2) std::this_thread::yield();
    });
    EXPECT_EQ(inside.load(), 2);
    const auto asleep = std::chrono::steady_clock::now() + std::chrono::microseconds(200);
    while (std::chrono::steady_clock::now() < asleep) std::this_thread::yield();
  }
}

TEST(WorkerPool, EachThreadEntersOnceAndAllEnd) {
  static std::atomic<int> entered;
  entered = 0;
  for (int round = 0; round < 20; ++round) {
    WorkerPool pool({.workers = 4, .enter_thread = [] { entered.fetch_add(1); }});
    if (round % 2 == 0) pool.ParallelFor(100, 1, [](int64_t, int64_t, const Worker&) {});
  }
  EXPECT_EQ(entered.load(), 20 * 3);  // worker 0 is the caller
}

TEST(WorkerPool, PinsAsTold) {
  cpu_set_t allowed;
  ASSERT_EQ(sched_getaffinity(0, sizeof(allowed), &allowed), 0);
  int32_t first = 0;
  while (!CPU_ISSET(first, &allowed)) ++first;
  WorkerPool pool({.workers = 2, .processors = {first}});
  std::atomic<int> pinned{0}, inside{0};
  pool.ParallelFor(2, 1, [&](int64_t, int64_t, const Worker& worker) {
    inside.fetch_add(1);
    while (inside.load() < 2) std::this_thread::yield();
    if (worker.index == 0) return;
    cpu_set_t set;
    sched_getaffinity(0, sizeof(set), &set);
    pinned = CPU_COUNT(&set) == 1 && CPU_ISSET(first, &set);
  });
  EXPECT_EQ(pinned.load(), 1);
}

}  // namespace
}  // namespace baram::cpu
