// WorkerPool: runs one op at a time on the caller (worker 0) and a fixed set of threads.
#ifndef BARAM_KERNELS_CPU_WORKER_POOL_H_
#define BARAM_KERNELS_CPU_WORKER_POOL_H_

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <thread>
#include <vector>

#include "kernels/cpu/jobs.h"

namespace baram::cpu {

// Owned by the CPU device. Has fewer workers than requested if the system refuses threads, and none
// if there is no memory for their scratch: workers() says how many. ParallelFor is called by one
// thread at a time, the executor; it neither allocates nor locks. Between ops the threads spin for
// Options::spin, then sleep; the destructor ends them.
//
// An op is open from its start until the caller finds no task left. A thread joins an open op by
// taking its own seat, and the caller then waits only for the seats that are taken: a thread that
// is asleep, or that the kernel has descheduled, delays no op. While awake, threads share no cache
// line that they write, except the counter of units, so joining costs the same with many of them.
class WorkerPool {
 public:
  struct Options {
    int32_t workers = 1;  // the caller included; 1 to kMaxWorkers
    // Pin worker i to processors[i % size]; empty: do not pin. Worker 0 belongs to the caller and
    // is never pinned.
    std::vector<int32_t> processors = {};
    // How long a thread that waits, the caller included, spins before it sleeps in the kernel.
    std::chrono::nanoseconds spin = std::chrono::microseconds(20);
    void (*enter_thread)() = nullptr;  // called once by each thread of the pool
  };
  static constexpr int32_t kMaxWorkers = 512;

  explicit WorkerPool(const Options& options);
  ~WorkerPool();
  WorkerPool(const WorkerPool&) = delete;
  WorkerPool& operator=(const WorkerPool&) = delete;

  int32_t workers() const { return static_cast<int32_t>(workers_.size()); }

  // Calls body(begin, end, worker) for tasks, which are consecutive ranges of at most `grain` units
  // and cover [0, units), on all workers, and returns when all are done. What the bodies wrote is
  // visible to the caller, and to the bodies of the next op.
  template <typename Body>
  void ParallelFor(int64_t units, int64_t grain, const Body& body) {
    op_.run = [](const void* context, int64_t begin, int64_t end, const Worker& worker) {
      (*static_cast<const Body*>(context))(begin, end, worker);
    };
    op_.context = &body;
    op_.units = units;
    op_.grain = grain;
    RunOp();
  }

 private:
  struct Op {
    void (*run)(const void* context, int64_t begin, int64_t end, const Worker& worker) = nullptr;
    const void* context = nullptr;
    int64_t units = 0;
    int64_t grain = 1;
  };
  // The number of the op that a thread is in, or 0. The caller waits on it once the op is closed.
  struct alignas(64) Seat {
    std::atomic<uint32_t> op{0};
  };
  struct FreeScratch {
    void operator()(void* memory) const;
  };

  void RunOp();
  void RunTasks(const Worker& worker);
  void Wake(int64_t tasks);
  void AwaitLeaving(int32_t index, uint32_t number);
  uint32_t AwaitOp(uint32_t seen);
  void Leave(int32_t index);
  void ThreadMain(int32_t index, const Options& options);

  const std::chrono::nanoseconds spin_;
  std::vector<Worker> workers_;
  std::unique_ptr<void, FreeScratch> scratch_;  // workers x kWorkerScratchBytes
  std::vector<Seat> seats_;                     // by worker; worker 0's stays empty
  std::vector<std::thread> threads_;

  Op op_;  // written by the caller while no thread is in an op
  alignas(64) std::atomic<int64_t> next_unit_{0};
  // The number of the op, whether it is open, and whether the pool stops. Written by the caller and
  // the destructor. See worker_pool.cc.
  alignas(64) std::atomic<uint32_t> state_{0};
  // Threads that sleep until state_ changes, or are about to.
  alignas(64) std::atomic<int32_t> sleepers_{0};
  // The seat that the caller sleeps on, or 0.
  alignas(64) std::atomic<int32_t> awaited_seat_{0};
};

}  // namespace baram::cpu

#endif  // BARAM_KERNELS_CPU_WORKER_POOL_H_
