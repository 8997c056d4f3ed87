// The worker pool: every unit runs once, effects are visible, threads join late, spin, sleep and
// end.
#include <gtest/gtest.h>
#include <pthread.h>
#include <sched.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "kernels/cpu/worker_pool.h"

namespace baram::cpu {
namespace {

using std::chrono::milliseconds;

// Runs an op of `units` units that wait for each other: each needs its own thread.
void Meet(WorkerPool& pool, int units) {
  std::atomic<int> inside{0};
  pool.ParallelFor(units, 1, [&](int64_t, int64_t, const Worker&) {
    inside.fetch_add(1);
    while (inside.load() < units) std::this_thread::yield();
  });
  EXPECT_EQ(inside.load(), units);
}

// The kernel's view of the pool's threads: how many are asleep, and how often they went to sleep.
struct Sleep {
  int threads = 0;
  int64_t times = 0;
};

Sleep ReadSleep() {
  Sleep sleep;
  for (const auto& task : std::filesystem::directory_iterator("/proc/self/task")) {
    std::ifstream file(task.path() / "status");
    std::string line, name, state;
    for (std::string word; file >> word && std::getline(file, line);) {
      if (word == "Name:") name = line;
      if (word == "State:") state = line;
      if (word != "voluntary_ctxt_switches:" || name != "\tbaram-worker") continue;
      if (state.starts_with("\tS")) ++sleep.threads;
      sleep.times += std::stoll(line);
    }
  }
  return sleep;
}

// Waits until `threads` threads are asleep; returns how often they went to sleep.
int64_t AwaitSleep(int threads) {
  Sleep sleep;
  while ((sleep = ReadSleep()).threads < threads) std::this_thread::sleep_for(milliseconds(1));
  return sleep.times;
}

TEST(WorkerPool, CoversEveryUnitOnceInTilesOfTheGrain) {
  for (const int32_t workers : {1, 2, 5}) {
    WorkerPool pool({.workers = workers});
    EXPECT_EQ(pool.workers(), workers);
    for (const int64_t units : {0, 1, 7, 64, 1000}) {
      for (const int64_t grain : {1, 3, 64}) {
        std::vector<int> visits(units, 0);  // not atomic: the op's end orders the accesses
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

// What one op wrote on any worker, the next one can read on any other.
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

// The op ends only if all the sleeping threads that it needs are woken.
TEST(WorkerPool, WakesTheThreadsThatAnOpNeeds) {
  for (const int workers : {2, 16}) {
    WorkerPool pool({.workers = workers});
    for (int op = 0; op < 20; ++op) {
      AwaitSleep(workers - 1);
      Meet(pool, workers);
    }
    // Threads that are awake, or about to sleep, come by themselves.
    for (int op = 0; op < 200; ++op) Meet(pool, workers);
  }
}

TEST(WorkerPool, LeavesTheOtherThreadsAsleep) {
  constexpr int kOps = 20;
  WorkerPool pool({.workers = 16});
  const int64_t before = AwaitSleep(15);
  for (int op = 0; op < kOps; ++op) {
    Meet(pool, 2);
    AwaitSleep(15);
  }
  // One thread is woken for each op; it may sleep a second time while it wakes up.
  EXPECT_GE(AwaitSleep(15) - before, kOps);
  EXPECT_LE(AwaitSleep(15) - before, 3 * kOps);
}

// A thread that spins uses its processor.
TEST(WorkerPool, SpinsForAsLongAsItShould) {
  for (const bool spins : {false, true}) {
    WorkerPool pool({.workers = 2,
                     .spin = spins ? std::chrono::nanoseconds(std::chrono::hours(1))
                                   : std::chrono::nanoseconds(0)});
    clockid_t clock = 0;
    std::atomic<int> inside{0};
    pool.ParallelFor(2, 1, [&](int64_t, int64_t, const Worker& worker) {
      if (worker.index == 1) pthread_getcpuclockid(pthread_self(), &clock);
      inside.fetch_add(1);
      while (inside.load() < 2) std::this_thread::yield();
    });
    const auto used = [clock] {
      timespec time = {};
      clock_gettime(clock, &time);
      return time.tv_sec * 1'000'000'000 + time.tv_nsec;
    };
    if (!spins) AwaitSleep(1);
    const int64_t before = used();
    std::this_thread::sleep_for(milliseconds(20));
    if (spins) {
      while (used() == before) std::this_thread::sleep_for(milliseconds(1));
    } else {
      EXPECT_EQ(used(), before);
    }
    Meet(pool, 2);
  }
}

// Threads that wake up for one op and find the next one open, or none, never work on an op that the
// caller has left.
TEST(WorkerPool, NoThreadIsInAnOpThatHasEnded) {
  WorkerPool pool({.workers = 16, .spin = std::chrono::nanoseconds(0)});
  std::atomic<int> inside{0};
  for (int op = 0; op < 5000; ++op) {
    pool.ParallelFor(op % 2 == 0 ? 2 : 16, 1, [&](int64_t, int64_t, const Worker&) {
      inside.fetch_add(1);
      std::this_thread::yield();
      inside.fetch_sub(1);
    });
    ASSERT_EQ(inside.load(), 0) << op;
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
