// WorkerPool: the op barrier.
#include "kernels/cpu/worker_pool.h"

#include <immintrin.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <climits>
#include <cstdlib>
#include <exception>
#include <iterator>

#include "kernels/check.h"

namespace baram::cpu {
namespace {

// state_: two flags, and the number of the op in the remaining bits. No op has the number 0.
//
// Opening and closing an op, taking a seat and going to sleep each store to one word and then load
// another, sequentially consistent, so that of two threads that do so at least one sees the other:
//   a thread takes its seat, then looks whether the op is still open;
//   the caller closes the op, then looks which seats are taken;
//   a thread counts itself as a sleeper, then looks whether an op has opened;
//   the caller opens an op, then looks how many sleep.
constexpr uint32_t kOpen = 1;
constexpr uint32_t kStop = 2;
constexpr uint32_t kOpShift = 2;

uint32_t OpNumber(uint32_t state) { return state >> kOpShift; }

// Not std::atomic's wait and notify: those wake one thread or all of them, and count the waiters of
// all words that start a cache line together, so that each notify would enter the kernel.
static_assert(sizeof(std::atomic<uint32_t>) == sizeof(uint32_t));
void FutexWait(const std::atomic<uint32_t>& word, uint32_t value) {
  syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, value, nullptr);
}
void FutexWake(const std::atomic<uint32_t>& word, int threads) {
  syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, threads);
}

// Spins until `ready(value of word)`, for at most `spin`. Returns the last value.
template <typename Ready>
uint32_t SpinUntil(const std::atomic<uint32_t>& word, std::chrono::nanoseconds spin,
                   const Ready& ready) {
  uint32_t value = word.load(std::memory_order_acquire);
  if (ready(value)) return value;
  const auto deadline = std::chrono::steady_clock::now() + spin;
  do {
    // Reading the clock costs about as much as one pause.
    for (int i = 0; i < 8; ++i) {
      _mm_pause();
      value = word.load(std::memory_order_acquire);
      if (ready(value)) return value;
    }
  } while (std::chrono::steady_clock::now() < deadline);
  return value;
}

// Best effort: the processor may have left the cpuset since it was listed. A cpu_set_t of its own
// size ends at 1024.
void PinTo(int32_t processor) {
  cpu_set_t* set = CPU_ALLOC(processor + 1);
  if (set == nullptr) return;
  const size_t bytes = CPU_ALLOC_SIZE(processor + 1);
  CPU_ZERO_S(bytes, set);
  CPU_SET_S(processor, bytes, set);
  pthread_setaffinity_np(pthread_self(), bytes, set);
  CPU_FREE(set);
}

}  // namespace

void WorkerPool::FreeScratch::operator()(void* memory) const { std::free(memory); }

WorkerPool::WorkerPool(const Options& options) : spin_(options.spin), seats_(options.workers) {
  Check(options.workers >= 1 && options.workers <= kMaxWorkers, "a pool has 1 to 512 workers");
  // Pages that no kernel touches cost nothing.
  scratch_.reset(std::aligned_alloc(4096, options.workers * kWorkerScratchBytes));
  if (scratch_ == nullptr) return;
  for (int32_t i = 0; i < options.workers; ++i) {
    workers_.push_back({i, static_cast<std::byte*>(scratch_.get()) + i * kWorkerScratchBytes});
  }
  threads_.reserve(options.workers - 1);
  try {
    for (int32_t i = 1; i < options.workers; ++i) {
      threads_.emplace_back([this, i, options] { ThreadMain(i, options); });
    }
  } catch (const std::exception&) {
    // Safe: no thread reads workers_ before the first op.
    workers_.erase(workers_.begin() + std::ssize(threads_) + 1, workers_.end());
  }
}

WorkerPool::~WorkerPool() {
  state_.fetch_or(kStop);
  FutexWake(state_, INT_MAX);
  for (std::thread& thread : threads_) thread.join();
}

void WorkerPool::RunOp() {
  // One task, or no other thread: no barrier.
  if (threads_.empty() || op_.units <= op_.grain) {
    for (int64_t begin = 0; begin < op_.units; begin += op_.grain) {
      const int64_t end = begin + op_.grain < op_.units ? begin + op_.grain : op_.units;
      op_.run(op_.context, begin, end, workers_[0]);
    }
    return;
  }
  next_unit_.store(0, std::memory_order_relaxed);
  constexpr uint32_t kNumbers = ~uint32_t{0} >> kOpShift;
  const uint32_t number = OpNumber(state_.load(std::memory_order_relaxed)) % kNumbers + 1;
  state_.store(number << kOpShift | kOpen);
  Wake((op_.units + op_.grain - 1) / op_.grain);

  RunTasks(workers_[0]);

  state_.store(number << kOpShift);
  for (int32_t i = 1; i <= std::ssize(threads_); ++i) AwaitLeaving(i, number);
}

// Wakes sleepers for the tasks in excess of the caller and the threads that are awake.
void WorkerPool::Wake(int64_t tasks) {
  const int32_t sleepers = sleepers_.load();
  if (sleepers == 0) return;
  const int64_t awake = 1 + std::ssize(threads_) - sleepers;
  const int64_t wanted = std::min<int64_t>(sleepers, tasks - awake);
  if (wanted > 0) FutexWake(state_, static_cast<int>(wanted));
}

// Returns once thread `index` is not in the closed op `number`.
void WorkerPool::AwaitLeaving(int32_t index, uint32_t number) {
  const std::atomic<uint32_t>& seat = seats_[index].op;
  // Sequentially consistent, as SpinUntil's loads are not.
  if (seat.load() != number) return;
  const auto left = [number](uint32_t op) { return op != number; };
  if (left(SpinUntil(seat, spin_, left))) return;
  awaited_seat_.store(index);
  while (seat.load() == number) FutexWait(seat, number);
  awaited_seat_.store(0, std::memory_order_relaxed);
}

void WorkerPool::RunTasks(const Worker& worker) {
  const Op op = op_;
  while (true) {
    const int64_t begin = next_unit_.fetch_add(op.grain, std::memory_order_relaxed);
    if (begin >= op.units) return;
    const int64_t end = begin + op.grain < op.units ? begin + op.grain : op.units;
    op.run(op.context, begin, end, worker);
  }
}

void WorkerPool::ThreadMain(int32_t index, const Options& options) {
  pthread_setname_np(pthread_self(), "baram-worker");
  if (!options.processors.empty()) {
    PinTo(options.processors[index % options.processors.size()]);
  }
  if (options.enter_thread != nullptr) options.enter_thread();
  uint32_t seen = 0;
  while (true) {
    const uint32_t state = AwaitOp(seen);
    if ((state & kStop) != 0) return;
    seats_[index].op.store(OpNumber(state));
    if (state_.load() == state) {
      seen = OpNumber(state);
      RunTasks(workers_[index]);
    }
    Leave(index);
  }
}

// Waits for an open op other than `seen`, or the end of the pool; returns the state then.
uint32_t WorkerPool::AwaitOp(uint32_t seen) {
  const auto ready = [seen](uint32_t state) {
    return (state & kStop) != 0 || ((state & kOpen) != 0 && OpNumber(state) != seen);
  };
  uint32_t state = SpinUntil(state_, spin_, ready);
  if (ready(state)) return state;
  sleepers_.fetch_add(1);
  for (state = state_.load(); !ready(state); state = state_.load()) FutexWait(state_, state);
  sleepers_.fetch_sub(1, std::memory_order_relaxed);
  return state;
}

void WorkerPool::Leave(int32_t index) {
  seats_[index].op.store(0);
  if (awaited_seat_.load() == index) FutexWake(seats_[index].op, 1);
}

}  // namespace baram::cpu
