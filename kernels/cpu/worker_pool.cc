// WorkerPool: the op barrier.
#include "kernels/cpu/worker_pool.h"

#include <immintrin.h>
#include <pthread.h>
#include <sched.h>

#include <chrono>
#include <cstdlib>
#include <exception>
#include <iterator>

#include "kernels/check.h"

namespace baram::cpu {
namespace {

// state_: threads inside the op, two flags, and the number of the op in the remaining bits.
constexpr uint32_t kInsideMask = 0x3ff;
constexpr uint32_t kOpen = 0x400;
constexpr uint32_t kStop = 0x800;
constexpr uint32_t kOpShift = 12;
static_assert(WorkerPool::kMaxWorkers <= kInsideMask);

// Value of finished_ while threads of the current op may still be inside.
constexpr uint32_t kUnfinished = ~uint32_t{0};

uint32_t OpNumber(uint32_t state) { return state >> kOpShift; }

// Longer waits go to the kernel: front-end threads share the processors.
constexpr auto kSpin = std::chrono::microseconds(20);

// Spins until `ready(value of atomic)`, for at most kSpin; then sleeps until it is. Returns the
// value.
template <typename Ready>
uint32_t Await(const std::atomic<uint32_t>& atomic, const Ready& ready) {
  uint32_t value = atomic.load(std::memory_order_acquire);
  if (ready(value)) return value;
  const auto deadline = std::chrono::steady_clock::now() + kSpin;
  do {
    // Reading the clock costs about as much as one pause.
    for (int i = 0; i < 8; ++i) {
      _mm_pause();
      value = atomic.load(std::memory_order_acquire);
      if (ready(value)) return value;
    }
  } while (std::chrono::steady_clock::now() < deadline);
  while (!ready(value)) {
    atomic.wait(value, std::memory_order_acquire);
    value = atomic.load(std::memory_order_acquire);
  }
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

WorkerPool::WorkerPool(const Options& options) {
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
    // Nobody looks at the workers before the first op.
    workers_.erase(workers_.begin() + std::ssize(threads_) + 1, workers_.end());
  }
}

WorkerPool::~WorkerPool() {
  state_.fetch_or(kStop, std::memory_order_release);
  state_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void WorkerPool::RunOp() {
  // One tile, or nobody to share with: no barrier.
  if (threads_.empty() || op_.units <= op_.grain) {
    for (int64_t begin = 0; begin < op_.units; begin += op_.grain) {
      const int64_t end = begin + op_.grain < op_.units ? begin + op_.grain : op_.units;
      op_.run(op_.context, begin, end, workers_[0]);
    }
    return;
  }
  next_unit_.store(0, std::memory_order_relaxed);
  finished_.store(kUnfinished, std::memory_order_relaxed);
  // Nobody is inside and the op is closed, so no thread changes the state now.
  const uint32_t number =
      (OpNumber(state_.load(std::memory_order_relaxed)) + 1) & (~uint32_t{0} >> kOpShift);
  state_.store(number << kOpShift | kOpen);
  state_.notify_all();

  RunTiles(workers_[0]);

  const uint32_t closing = state_.fetch_and(~kOpen, std::memory_order_acq_rel);
  if ((closing & kInsideMask) == 0) return;
  Await(finished_, [number](uint32_t finished) { return finished == number; });
}

void WorkerPool::RunTiles(const Worker& worker) {
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
    uint32_t state = Await(state_, [seen](uint32_t now) {
      return (now & kStop) != 0 || ((now & kOpen) != 0 && OpNumber(now) != seen);
    });
    if ((state & kStop) != 0) return;
    // Fails when another thread joined or left meanwhile, or the op was closed: look again.
    if (!state_.compare_exchange_weak(state, state + 1, std::memory_order_acq_rel)) continue;
    seen = OpNumber(state);
    RunTiles(workers_[index]);
    const uint32_t left = state_.fetch_sub(1, std::memory_order_acq_rel) - 1;
    if ((left & (kInsideMask | kOpen)) == 0) {
      // In one order with the look at who waits that notify_one begins with, as state_ above.
      finished_.store(seen);
      finished_.notify_one();
    }
  }
}

}  // namespace baram::cpu
