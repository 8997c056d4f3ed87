// The results of engine_bench, as JSON and as tables.
#ifndef BARAM_BENCH_ENGINE_REPORT_H_
#define BARAM_BENCH_ENGINE_REPORT_H_

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <string>
#include <vector>

#include "bench/roofs.h"
#include "engine/config.h"
#include "engine/model/step_cost.h"

namespace baram::bench {

// One kind of step, measured several times.
struct Measurement {
  std::string name;
  int32_t tokens = 0;      // of a step
  double step_s = 0;       // median
  double host_s = 0;       // the engine thread's part: intake, plan, commit, delivery
  double idle_share = -1;  // of all measured steps' time; -1: not measured
  double bytes_per_s = 0;  // all that its ops read and write, activations too
  double flops_per_s = 0;
  StepParts least = {};
  // The better of those measured just before and just after: the load of other tenants varies.
  Roofs roofs = {};
  double tokens_per_s() const { return tokens / step_s; }
  double read_share() const { return bytes_per_s / roofs.read_bytes_per_s; }
  double flops_share() const { return flops_per_s / roofs.flops_per_s; }
  // The minimum time of the step at the roofs if its GEMMs and its attention run one after the
  // other.
  double floor_s() const {
    const auto at_least = [&](const OpCost& cost) {
      return std::max(cost.bytes / roofs.read_bytes_per_s, cost.flops / roofs.flops_per_s);
    };
    return at_least(least.products) + at_least(least.attention);
  }
  double of_floor() const { return step_s / floor_s(); }
};

// The parts of a GPU's memory that MemoryBudget can only estimate, measured. Bytes.
struct MemoryTaken {
  int64_t context = 0;  // by all processes, once ours had its context
  int64_t library = 0;  // by starting cuBLASLt
  int64_t warm_up = 0;  // by the first steps: loaded kernels
  // By the graphs of all buckets, and the kernels that their first steps load.
  int64_t graphs = 0;
};

struct EngineReport {
  EngineInfo info;
  double open_s = 0;         // from the program's start until the model can run
  double first_token_s = 0;  // and until its first token
  bool has_memory = false;   // the device has its own
  MemoryTaken memory;
  int64_t captures = 0, replays = 0, refusals = 0;      // of graphs, see StepGraphs
  bool graphs_overlap = false;                          // see Device
  bool overlap_kernels = true, shared_carveout = true;  // see DeviceOptions
  std::vector<Measurement> measurements;
};

void WriteJson(std::FILE* file, const EngineReport& report);

// What is known before the measurements: the model, its start-up, the memory.
void PrintStart(const EngineReport& report);
void PrintMeasurements(const EngineReport& report);

}  // namespace baram::bench

#endif  // BARAM_BENCH_ENGINE_REPORT_H_
