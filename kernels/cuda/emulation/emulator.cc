// The emulator's scheduler: fibers, barriers, warp meetings, copies in flight.
#include "kernels/cuda/emulation/emulator.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <numeric>
#include <random>
#include <vector>

#include "kernels/check.h"
#include "kernels/cuda/emulation/fiber_switch.h"
#include "kernels/cuda/emulation/memory_guard.h"
#include "kernels/rounding.h"

namespace baram::cuda::emulation {

Dim3 thread_index, block_index, block_size, grid_size;

namespace {

constexpr size_t kStackBytes = 256 << 10;  // the sanitizer's frames are several times larger
constexpr uint8_t kPoison = 0xFF;          // a NaN in every float type
constexpr uint32_t kMaxThreads = 1024;
constexpr size_t kMaxSharedBytes = 227 << 10;  // per block on an H100, H200 or B200
constexpr int kReportedLanes = 16;
constexpr int kGuardedLaunches = 4;  // per kernel

enum class LaneState : uint8_t { kReady, kWaitsForPrevious, kAtBarrier, kInMeeting, kDone };

struct AsyncCopy {
  void* to;
  const void* from;
  size_t bytes;
  size_t valid_bytes;
  bool is_constant;  // what it reads
};

struct Lane {
  StackContext context;
  Dim3 index;
  LaneState state = LaneState::kReady;
  bool has_waited = false;     // for the previous kernel
  std::source_location where;  // of what it waits for
  std::vector<AsyncCopy> uncommitted;
  std::deque<std::vector<AsyncCopy>> groups;
};

struct Warp {
  uint32_t mask = 0;     // of the meeting in progress
  uint32_t arrived = 0;  // lanes; 0: no meeting in progress
  WarpMeeting meeting = {};
};

// The stacks outlive launches: mapped once, committed on use.
struct Stacks {
  Stacks() {
    memory = mmap(nullptr, kStackBytes * kMaxThreads, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    Check(memory != MAP_FAILED, "there is address space for the stacks of a block");
  }
  void* Of(uint32_t lane) const { return static_cast<std::byte*>(memory) + kStackBytes * lane; }
  void* memory;
};

struct Block {
  void (*body)(const void* args);
  const void* args;
  LaunchSource source;
  void* shared;
  bool is_guarded;  // until all lanes wait for the previous kernel
  std::vector<Lane> lanes;
  std::vector<Warp> warps;
};

LaneOrder lane_order = LaneOrder::kForward;
Block* block = nullptr;  // the running block
uint32_t current = 0;    // its running lane
StackContext scheduler;

// How often each kernel was launched.
std::map<const void*, int>& Launches() {
  static auto& launches = *new std::map<const void*, int>;
  return launches;
}

Lane& Current() { return block->lanes[current]; }
Warp& CurrentWarp() { return block->warps[current / kWarpLanes]; }

void Pause(LaneState state, std::source_location where) {
  Lane& lane = Current();
  lane.state = state;
  lane.where = where;
  SwitchStack(&lane.context, &scheduler, false);
}

// Returns normally from the body, so that none of its frames is left on the stack.
__attribute__((noinline)) void RunBody() { block->body(block->args); }

// Its own frame never ends, so it must leave nothing for the sanitizers to guard.
__attribute__((no_sanitize("address", "undefined"))) void LaneEntry() {
  FinishFirstSwitch(&scheduler);
  RunBody();
  Lane& lane = Current();
  lane.state = LaneState::kDone;
  SwitchStack(&lane.context, &scheduler, true);
}

void Resume(uint32_t index) {
  current = index;
  thread_index = block->lanes[index].index;
  SwitchStack(&scheduler, &block->lanes[index].context, false);
}

[[noreturn]] void Report(const char* what) {
  const std::source_location& where = block->source.where;
  std::fprintf(stderr,
               "emulation: %s, in block (%u, %u, %u) of %zu threads, launched by %s, %s:%u\n", what,
               block_index.x, block_index.y, block_index.z, block->lanes.size(),
               where.function_name(), where.file_name(), static_cast<unsigned>(where.line()));
  int shown = 0;
  for (size_t i = 0; i < block->lanes.size() && shown < kReportedLanes; ++i) {
    const Lane& lane = block->lanes[i];
    const bool same = i > 0 && block->lanes[i - 1].state == lane.state &&
                      block->lanes[i - 1].where.line() == lane.where.line();
    if (same) continue;
    ++shown;
    const char* state = lane.state == LaneState::kAtBarrier          ? "waits at the barrier"
                        : lane.state == LaneState::kInMeeting        ? "waits for its warp"
                        : lane.state == LaneState::kWaitsForPrevious ? "waits for the kernel before"
                        : lane.state == LaneState::kDone             ? "has ended"
                                                                     : "is ready";
    std::fprintf(stderr, "  from thread %zu on: %s, %s:%u\n", i, state, lane.where.file_name(),
                 static_cast<unsigned>(lane.where.line()));
  }
  std::fflush(stderr);
  std::abort();
}

bool IsSamePlace(const std::source_location& a, const std::source_location& b) {
  return a.line() == b.line() &&
         (a.file_name() == b.file_name() || std::strcmp(a.file_name(), b.file_name()) == 0);
}

// Releases the lanes if all that have not ended wait at the barrier. False if they do not.
bool OpenBarrier() {
  const Lane* first = nullptr;
  for (const Lane& lane : block->lanes) {
    if (lane.state == LaneState::kDone) continue;
    if (lane.state != LaneState::kAtBarrier) return false;
    if (first == nullptr) first = &lane;
    if (!IsSamePlace(lane.where, first->where)) {
      Report("threads wait at different barriers");
    }
  }
  for (Lane& lane : block->lanes) {
    if (lane.state == LaneState::kAtBarrier) lane.state = LaneState::kReady;
  }
  return true;
}

// The order in which a block's threads, or a grid's blocks, take turns.
std::vector<uint32_t> TurnOrder(uint32_t count) {
  std::vector<uint32_t> order(count);
  std::iota(order.begin(), order.end(), 0);
  if (lane_order == LaneOrder::kBackward) std::reverse(order.begin(), order.end());
  if (lane_order == LaneOrder::kShuffled) {
    std::shuffle(order.begin(), order.end(), std::mt19937(count));
  }
  return order;
}

// Runs a fresh block until every lane waits for the previous kernel. On a GPU that kernel may still
// be running, so its memory must not be touched.
void RunGuarded(const std::vector<uint32_t>& order) {
  block->is_guarded = true;
  GuardDeviceMemory();
  for (const uint32_t lane : order) {
    Resume(lane);
    if (block->lanes[lane].state == LaneState::kWaitsForPrevious) continue;
    Report("a thread ends or meets others before it has waited for the previous kernel");
  }
  ReleaseDeviceMemory();
  block->is_guarded = false;
  for (Lane& lane : block->lanes) lane.state = LaneState::kReady;
}

void RunBlock(const std::vector<uint32_t>& order) {
  while (true) {
    bool ran = false;
    bool all_done = true;
    for (uint32_t lane : order) {
      if (block->lanes[lane].state == LaneState::kReady) {
        Resume(lane);
        ran = true;
        if (lane_order == LaneOrder::kBackward) break;
      }
      all_done &= block->lanes[lane].state == LaneState::kDone;
    }
    if (!ran && all_done) return;
    if (!ran && !OpenBarrier()) Report("threads wait for each other forever");
  }
}

void CarryOut(const std::vector<AsyncCopy>& copies) {
  for (const AsyncCopy& copy : copies) {
    if (copy.valid_bytes > 0 && copy.is_constant) {
      ReadConstant(copy.to, copy.from, copy.valid_bytes);
    } else if (copy.valid_bytes > 0) {
      std::memcpy(copy.to, copy.from, copy.valid_bytes);
    }
    std::memset(static_cast<std::byte*>(copy.to) + copy.valid_bytes, 0,
                copy.bytes - copy.valid_bytes);
  }
}

void Add(const AsyncCopy& copy) {
  // A guarded block may read nothing but constant memory yet: copying at once makes that show.
  if (lane_order == LaneOrder::kBackward || (block->is_guarded && !copy.is_constant)) {
    CarryOut({copy});
  } else {
    Current().uncommitted.push_back(copy);
  }
}

}  // namespace

void SetLaneOrder(LaneOrder order) { lane_order = order; }

int KernelsMet() { return static_cast<int>(Launches().size()); }

void* DynamicShared() { return block->shared; }

int LaneIndex() { return static_cast<int>(current % kWarpLanes); }

void WaitForPrevious() {
  if (block->is_guarded) Pause(LaneState::kWaitsForPrevious, {});
  Current().has_waited = true;
}

void ReadConstant(void* to, const void* global, size_t bytes) {
  if (block->is_guarded) {
    ReadGuarded(to, global, bytes);
  } else {
    std::memcpy(to, global, bytes);
  }
}

void LaunchBody(void (*body)(const void* args), const void* args, Dim3 grid, Dim3 threads,
                size_t shared_bytes, const LaunchSource& source) {
  static const Stacks stacks;
  const uint32_t count = threads.x * threads.y * threads.z;
  Check(block == nullptr, "one launch is emulated at a time");
  Check(count > 0 && count <= kMaxThreads, "a block has 1 to 1024 threads");
  Check(grid.x > 0 && grid.y > 0 && grid.z > 0, "a grid has blocks");
  Check(grid.y < 65536 && grid.z < 65536, "a grid has fewer than 65536 blocks in y and z");
  Check(shared_bytes <= kMaxSharedBytes,
        "a block finds its dynamic shared memory on a multiprocessor");
  const std::vector<uint32_t> order = TurnOrder(count);
  Block running{.body = body,
                .args = args,
                .source = source,
                .shared = nullptr,
                .is_guarded = false,
                .lanes = std::vector<Lane>(count),
                .warps = std::vector<Warp>(CeilDivide(count, kWarpLanes))};
  block = &running;
  block_size = threads;
  grid_size = grid;
  const bool guards = Launches()[source.kernel]++ < kGuardedLaunches;
  const uint32_t blocks = grid.x * grid.y * grid.z;
  const std::vector<uint32_t> block_order = TurnOrder(blocks);
  for (const uint32_t b : block_order) {
    block_index = {b % grid.x, b / grid.x % grid.y, b / grid.x / grid.y};
    // A fresh allocation every time: a block must not see what the last one left there.
    void* shared = nullptr;
    if (shared_bytes > 0) {
      Check(posix_memalign(&shared, 1024, shared_bytes) == 0, "there is memory for shared memory");
      std::memset(shared, kPoison, shared_bytes);
    }
    running.shared = shared;
    for (uint32_t i = 0; i < count; ++i) {
      Lane& lane = running.lanes[i];
      lane.index = {i % threads.x, i / threads.x % threads.y, i / threads.x / threads.y};
      lane.state = LaneState::kReady;
      lane.has_waited = false;
      PrepareStack(&lane.context, stacks.Of(i), kStackBytes, LaneEntry);
    }
    if (guards && (b == block_order.front() || b == block_order.back())) RunGuarded(order);
    RunBlock(order);
    if (!std::ranges::all_of(running.lanes, &Lane::has_waited)) {
      Report("a thread ended without having waited for the previous kernel");
    }
    for (Lane& lane : running.lanes) {
      Check(lane.uncommitted.empty() && lane.groups.empty(),
            "a thread waits for its asynchronous copies before it ends");
    }
    std::free(shared);
  }
  block = nullptr;
}

void BlockBarrier(std::source_location where) { Pause(LaneState::kAtBarrier, where); }

void MeetWarp(uint32_t mask, const void* in, void* out, void (*combine)(const WarpMeeting&),
              std::source_location where) {
  Warp& warp = CurrentWarp();
  const int lane = LaneIndex();
  const uint32_t bit = 1u << lane;
  const uint32_t first = current - lane;
  const uint32_t lanes = std::min<uint32_t>(kWarpLanes, block->lanes.size() - first);
  if (lanes < kWarpLanes) mask &= (1u << lanes) - 1;
  Check((mask & bit) != 0, "a lane is in the mask of its own meeting");
  if (warp.arrived == 0) {
    warp.mask = mask;
    warp.meeting = {};
  }
  Current().where = where;
  if (warp.mask != mask) Report("lanes of a warp meet with different masks");
  warp.meeting.in[lane] = in;
  warp.meeting.out[lane] = out;
  warp.arrived |= bit;
  if (warp.arrived != mask) {
    Pause(LaneState::kInMeeting, where);
    return;
  }
  for (uint32_t i = 0; i < lanes; ++i) {
    Lane& other = block->lanes[first + i];
    if ((mask >> i & 1) == 0 || i == static_cast<uint32_t>(lane)) continue;
    if (!IsSamePlace(other.where, where)) {
      Report("lanes of a warp meet at different places");
    }
    other.state = LaneState::kReady;
  }
  warp.arrived = 0;
  combine(warp.meeting);
}

void CopyLater(void* shared, const void* global, size_t bytes, size_t valid_bytes) {
  Add({shared, global, bytes, valid_bytes, false});
}

void CopyConstantLater(void* shared, const void* global, size_t bytes, size_t valid_bytes) {
  Add({shared, global, bytes, valid_bytes, true});
}

void CommitCopies() {
  Lane& lane = Current();
  lane.groups.push_back(std::move(lane.uncommitted));
  lane.uncommitted.clear();
}

void WaitCopies(int groups_left) {
  Lane& lane = Current();
  while (lane.groups.size() > static_cast<size_t>(groups_left)) {
    CarryOut(lane.groups.front());
    lane.groups.pop_front();
  }
}

}  // namespace baram::cuda::emulation
