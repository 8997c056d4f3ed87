// FakeDevice: pages of (id, position), hashes of what is reached, tokens from hashes.
#include "kernels/fake/fake_device.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "kernels/check.h"
#include "kernels/rounding.h"

namespace baram {
namespace {

constexpr int64_t kAlignment = 64;  // of Alloc

struct Cell {
  int32_t id;
  int32_t position;
};

// A page holds [layers, page_tokens] cells.
Cell& CellAt(const KvPool& pool, const StepView& step, KvLayer layer, int32_t slot,
             int32_t position) {
  const int32_t block = position / pool.shape.page_tokens;
  Check(block < step.max_pages_per_slot, "a position is inside the slot's page table");
  const int32_t page =
      step.page_tables[layer.group][int64_t{slot} * step.max_pages_per_slot + block];
  Check(page >= 0 && page < pool.pages, "a position that is read or written has a page");
  auto* cells =
      reinterpret_cast<Cell*>(static_cast<std::byte*>(pool.data) + int64_t{page} * pool.page_bytes);
  return cells[layer.index * pool.shape.page_tokens + position % pool.shape.page_tokens];
}

float LogprobOf(uint64_t hash, uint64_t token) {
  return -static_cast<float>(FakeMix(hash, token) >> 40) * 0x1p-20f;
}

}  // namespace

FakeDevice::FakeDevice(const FakeOptions& options) : options_(options) {
  info_.name = "fake";
  info_.processor = "none";
  info_.isa = "none";
  info_.memory_bytes = options.memory_bytes;
  info_.own_memory = options.own_memory;
  info_.free_bytes = options.free_bytes;
  info_.alloc_multiple = options.alloc_multiple;
  info_.page_tokens = options.page_tokens;
  info_.workers = options.workers;
  info_.matrix_units = options.matrix_units;
  info_.planning_depth = options.planning_depth;
  info_.graphs = options.graphs;
  info_.exact = true;
}

int64_t FakeDevice::KvBytesPerPage(const KvShape& shape) const {
  return int64_t{shape.layers_per_group} * shape.page_tokens * static_cast<int64_t>(sizeof(Cell));
}

Buffer FakeDevice::Alloc(int64_t bytes) {
  // From calloc, so that what is never touched costs nothing.
  std::shared_ptr<void> memory(std::calloc(bytes + kAlignment, 1), std::free);
  if (memory == nullptr) return {};
  const int64_t address = RoundUp(reinterpret_cast<int64_t>(memory.get()), kAlignment);
  return {reinterpret_cast<void*>(address), bytes, std::move(memory)};
}

void FakeDevice::Upload(void* device, const void* host, int64_t bytes) {
  if (bytes > 0) std::memcpy(device, host, bytes);
}

void FakeDevice::Download(void* host, const void* device, int64_t bytes) {
  if (bytes == 0) return;
  if (options_.planning_depth == 1) {
    std::memcpy(host, device, bytes);
    return;
  }
  const auto* begin = static_cast<const std::byte*>(device);
  downloads_.push_back({marks_ + 1, host, {begin, begin + bytes}});
  std::memset(host, 0xee, bytes);
}

bool FakeDevice::Wait(uint64_t mark) {
  if (options_.in_wait) options_.in_wait();
  if (options_.lost_at != 0 && mark >= options_.lost_at) return false;
  while (!downloads_.empty() && downloads_.front().mark <= mark) {
    const PendingDownload& download = downloads_.front();
    std::memcpy(download.host, download.bytes.data(), download.bytes.size());
    downloads_.pop_front();
  }
  return true;
}

bool FakeDevice::ReserveSlots(const SlotShape& shape) {
  slots_.Reserve(shape);
  hashes_.resize(shape.max_step_tokens);
  bound_in_step_.resize(shape.slots);
  changed_in_step_.resize(size_t{1} * shape.groups * shape.slots * shape.max_pages_per_slot);
  return true;
}

void FakeDevice::CheckDeltas(const StepInput& input) {
  const SlotShape& shape = slots_.shape();
  ++steps_;
  for (const SlotInit& init : input.inits) {
    Check(std::exchange(bound_in_step_[init.slot], steps_) != steps_, "a step binds a slot once");
  }
  for (const PageDelta& delta : input.page_deltas) {
    const int64_t row = int64_t{delta.group} * shape.slots + delta.slot;
    uint64_t& changed = changed_in_step_[row * shape.max_pages_per_slot + delta.index];
    Check(std::exchange(changed, steps_) != steps_, "a step changes an entry of a page table once");
  }
}

StepView FakeDevice::BeginStep(const StepInput& input) {
  Check(!capturing_, "nothing but ops is called while they are captured");
  Check(input.padded_rows == 0 || options_.graphs, "steps are padded for graphs only");
  CheckDeltas(input);
  step_ = slots_.BeginStep(input);
  std::fill_n(hashes_.begin(), step_.tokens, 0);
  return step_;
}

bool FakeDevice::BeginCapture() {
  Check(!capturing_, "one graph is captured at a time");
  graphs_.push_back({step_.tokens, step_.outputs, {}});
  capturing_ = true;
  return true;
}

uint64_t FakeDevice::EndCapture() {
  Check(std::exchange(capturing_, false), "a capture ends that was begun");
  const int32_t fail = options_.fail_captures;
  if (fail >= 0 && failed_captures_ >= fail) return graphs_.size();
  ++failed_captures_;
  graphs_.pop_back();
  return 0;
}

void FakeDevice::Replay(uint64_t graph) {
  Check(!capturing_ && graph > 0 && graph <= graphs_.size(), "a graph that was captured is run");
  const Graph& captured = graphs_[graph - 1];
  Check(step_.tokens == captured.tokens && step_.outputs == captured.outputs,
        "a graph is run for steps of its own shape");
  for (const OpArgs& op : captured.ops) {
    if (const auto* store = std::get_if<StoreKvArgs>(&op)) StoreKv(*store);
    if (const auto* attend = std::get_if<AttendArgs>(&op)) Attend(*attend);
  }
}

void FakeDevice::StoreKv(const StoreKvArgs& args) {
  if (capturing_) {
    graphs_.back().ops.push_back(args);
    return;
  }
  const StepView& step = args.step;
  for (int32_t t = 0; t < step.tokens; ++t) {
    if (step.token_slots[t] < 0) continue;  // padding
    CellAt(args.pool, step, args.layer, step.token_slots[t], step.positions[t]) = {
        step.token_ids[t], step.positions[t]};
  }
}

void FakeDevice::Attend(const AttendArgs& args) {
  if (capturing_) {
    graphs_.back().ops.push_back(args);
    return;
  }
  if (options_.in_attend) options_.in_attend();
  const StepView& step = args.step;
  for (int32_t t = 0; t < step.tokens; ++t) {
    if (step.token_slots[t] < 0) continue;  // padding
    const int32_t end = step.positions[t];
    const int32_t begin = args.window == 0 ? 0 : std::max(0, end - args.window + 1);
    uint64_t hash = hashes_[t];
    for (int32_t position = begin; position <= end; ++position) {
      const Cell& cell = CellAt(args.pool, step, args.layer, step.token_slots[t], position);
      hash = FakeMix(hash,
                     static_cast<uint64_t>(cell.position) << 32 | static_cast<uint32_t>(cell.id));
    }
    hashes_[t] = hash;
  }
}

void FakeDevice::Sample(const SampleArgs& args) {
  Check(!capturing_, "a graph ends at the logits");
  if (options_.in_sample) options_.in_sample();
  const StepView& step = args.step;
  const uint64_t vocab = args.valid_vocab;
  for (int32_t o = 0; o < step.outputs; ++o) {
    const int32_t slot = step.output_slots[o];
    Check(slot >= 0, "padding is not drawn from");
    const SlotState& state = slots_.State(slot);
    const uint64_t hash = hashes_[step.output_tokens[o]];
    TokenResult& result = args.results[o];
    result = {};
    result.rank = 1;
    if (options_.nonfinite_divisor != 0 && hash % options_.nonfinite_divisor == 1) {
      result.flags = kResultNonFinite;
      continue;
    }
    if (step.output_targets[o] >= 0) {
      result.token = step.output_targets[o];
    } else {
      const SamplingParams& sampling = state.sampling;
      uint64_t draw =
          FakeMix(FakeMix(hash, sampling.seed), static_cast<uint64_t>(sampling.output_index));
      if (sampling.NeedsCounts()) {
        for (uint64_t id = 0; id < vocab; ++id) draw = FakeMix(draw, state.counts[id]);
      }
      for (const TokenBias& bias : state.bias) draw = FakeMix(draw, bias.token);
      uint64_t token = draw % vocab;
      if (state.generated < sampling.min_tokens) {
        // Masked: take the next id that is not.
        const auto stops = [&state](uint64_t id) {
          return std::ranges::find(state.stop_ids, static_cast<int32_t>(id)) !=
                 state.stop_ids.end();
        };
        while (stops(token)) token = (token + 1) % vocab;
      }
      result.token = static_cast<int32_t>(token);
      slots_.Draw(slot, result.token);
    }
    result.logprob = LogprobOf(hash, static_cast<uint64_t>(result.token));
    result.top_count = std::clamp(state.sampling.logprobs, 0, kMaxTopLogprobs);
    for (int32_t i = 0; i < result.top_count; ++i) {
      result.top_ids[i] = i;
      result.top_logprobs[i] = LogprobOf(hash, i);
    }
  }
}

}  // namespace baram
