// op_bench: how close each op comes to a device's roofs, at shapes that occur in models.
//
// Weights, caches and logits are read from memory, as in a model whose layers do not fit the
// caches: copies are used in turn. Activations stay warm. --json FILE is rewritten after every
// case, so that a run that is ended early leaves what it measured.
//
// On a GPU runs are issued back to back. So if kernels overlap, a product ends while its successor
// reads its first weights, as in a model. --overlap 0 measures it alone; the JSON states which.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "bench/flags.h"
#include "bench/launch_time.h"
#include "bench/op_bench_cases.h"
#include "bench/replace_file.h"
#include "bench/roofs.h"
#include "kernels/check.h"
#include "kernels/device.h"
#include "tests/kernels/device_copy.h"
#include "tests/kernels/op_bed.h"

namespace baram::bench {
namespace {

using testing::OpCase;
using testing::PreparedOp;

constexpr double kSampleSeconds = 3e-3;  // one measurement runs the op at least this long
constexpr int64_t kMaxRuns = 1000;
constexpr int64_t kFirstRuns = 8;  // on an asynchronous device, to find out how many are needed
// Samples of a case, and of the roofs, are spread over passes through all cases, so that a
// disturbance does not hit just one of them. The median counts; for the roofs, the maximum.
constexpr int kPasses = 3;
constexpr int kSamplesPerPass = 5;

struct Options {
  std::string op;     // part of a case's name; empty: all
  std::string cases;  // a set's name; empty: the one for the device
  std::string device = "cpu";
  std::string json;
  DeviceOptions open;
};

struct Measured {
  std::string name;
  std::string description;
  std::string kernel;  // Device::KernelOf
  OpCost cost;
  std::vector<double> samples;  // sorted; empty: not measured yet
  double seconds = 0;           // their median
};

// Copies, used in turn, of the part of an op that must come from memory, its weight or pages. On an
// asynchronous device also of logits: Sample may overwrite them, and one run is shorter than the
// wait.
class ColdCopies {
 public:
  ColdCopies(Device& device, testing::DeviceCopy& copy, const Buffer& memory, OpArgs& args)
      : copy_(copy) {
    int64_t& bytes = bytes_;
    if (auto* gemm = std::get_if<GemmArgs>(&args)) {
      place_ = [gemm](void* data) { gemm->weight.data = data; };
      first_ = const_cast<void*>(gemm->weight.data);
      bytes = device.PackedBytes(gemm->weight.shape);
    } else if (auto* attend = std::get_if<AttendArgs>(&args)) {
      place_ = [attend](void* data) { attend->pool.data = data; };
      first_ = attend->pool.data;
      bytes = attend->pool.page_bytes * attend->pool.pages;
    } else if (auto* sample = std::get_if<SampleArgs>(&args);
               sample != nullptr && !device.Info().synchronous()) {
      place_ = [sample](void* data) { sample->logits.data = data; };
      first_ = sample->logits.data;
      bytes = sample->logits.rows * sample->logits.stride * DTypeBytes(sample->logits.dtype);
    } else {
      return;
    }
    const int64_t stride = (bytes + 4095) / 4096 * 4096;
    for (int64_t offset = 0; offset + bytes <= memory.bytes(); offset += stride) {
      copies_.push_back(static_cast<char*>(memory.data()) + offset);
    }
    Restore();
  }
  void Next() {
    if (!copies_.empty()) place_(copies_[next_++ % copies_.size()]);
  }
  int64_t count() const { return std::ssize(copies_); }
  void Restore() {
    for (void* copy : copies_) copy_.Copy(copy, first_, bytes_);
  }

 private:
  testing::DeviceCopy& copy_;
  std::function<void(void*)> place_;
  void* first_ = nullptr;  // not used by runs if there are copies
  int64_t bytes_ = 0;
  std::vector<void*> copies_;
  size_t next_ = 0;
};

// Seconds of `runs` runs, issued back to back, until the last has been waited for.
double SecondsOfAll(Device& device, const PreparedOp& op, ColdCopies& copies, int64_t runs) {
  Check(device.Wait(device.Record()), "the device survives what was before");
  const auto begin = std::chrono::steady_clock::now();
  for (int64_t i = 0; i < runs; ++i) {
    copies.Next();
    testing::IssueOp(device, op.args);
  }
  Check(device.Wait(device.Record()), "the device survives an op");
  const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - begin;
  if (op.restore) op.restore();
  return taken.count();
}

// Seconds of one run; those of a launch if the op is shorter.
double SecondsOf(Device& device, const PreparedOp& op, ColdCopies& copies, int64_t runs) {
  const auto together = [&](int64_t count) { return SecondsOfAll(device, op, copies, count); };
  if (!device.Info().synchronous()) return SecondsOfLaunch(runs, together);
  return together(runs) / static_cast<double>(runs);
}

// How many runs last kSampleSeconds, at most `most`. One run first: it may load a kernel.
int64_t RunsOf(Device& device, const PreparedOp& op, ColdCopies& copies, int64_t most) {
  double seconds = SecondsOfAll(device, op, copies, 1);
  if (!device.Info().synchronous()) {
    seconds = SecondsOf(device, op, copies, std::min(kFirstRuns, most));
  }
  return std::clamp<int64_t>(static_cast<int64_t>(kSampleSeconds / seconds), 1, most);
}

void Measure(Device& device, testing::OpBed& bed, testing::DeviceCopy& copy, const Buffer& cold,
             const OpCase& op_case, Measured& measured) {
  PreparedOp op = bed.Prepare(op_case);
  measured.name = op_case.name;
  measured.description = OpDescription(op.args);
  measured.cost = CostOf(op.args, op.context_tokens);
  ColdCopies copies(device, copy, cold, op.args);
  // Sample may overwrite its logits, so it runs once on each copy, and the second series of a
  // sample takes twice as many copies as the first.
  const bool samples = std::holds_alternative<SampleArgs>(op.args);
  Check(!samples || device.Info().planning_depth == 1 || copies.count() >= 2,
        "Sample has copies of its logits for two runs in a row");
  const int64_t most = samples ? std::clamp<int64_t>(copies.count() / 2, 1, kMaxRuns) : kMaxRuns;
  if (samples && copies.count() > 0) op.restore = [&copies] { copies.Restore(); };
  const int64_t runs = RunsOf(device, op, copies, most);
  for (int i = 0; i < kSamplesPerPass; ++i) {
    measured.samples.push_back(SecondsOf(device, op, copies, runs));
  }
  measured.kernel = device.KernelOf(op.args);
  std::sort(measured.samples.begin(), measured.samples.end());
  measured.seconds = measured.samples[measured.samples.size() / 2];
}

// The time at the roofs over the time taken.
double Share(const Measured& m, const Roofs& roofs) {
  return std::max(m.cost.bytes / roofs.read_bytes_per_s, m.cost.flops / roofs.flops_per_s) /
         m.seconds;
}

void Print(const Measured& m, const Roofs& roofs) {
  const bool memory = m.cost.bytes / roofs.read_bytes_per_s > m.cost.flops / roofs.flops_per_s;
  std::printf("%-26s %10.1f us %8.1f GB/s %8.3f TFLOP/s   %5.1f %% of %s%s%s\n", m.name.c_str(),
              m.seconds * 1e6, m.cost.bytes / m.seconds * 1e-9, m.cost.flops / m.seconds * 1e-12,
              100 * Share(m, roofs), memory ? "memory" : "compute", m.kernel.empty() ? "" : ", by ",
              m.kernel.c_str());
}

void WriteJson(std::FILE* file, const Options& options, const DeviceInfo& info, const Roofs& roofs,
               const std::vector<Measured>& all) {
  const auto flag = [](const char* name, bool set) {
    return std::string(" \"") + name + "\": " + (set ? "true," : "false,");
  };
  const std::string launches = info.planning_depth == 1
                                   ? ""
                                   : flag("overlap", options.open.overlap_kernels) +
                                         flag("carveout", options.open.shared_carveout);
  std::fprintf(
      file,
      "{\"device\": \"%s\", \"processor\": \"%s\", \"isa\": \"%s\", \"workers\": %d,%s\n"
      " \"roofs\": {\"read_bytes_per_s\": %.4g, \"flops_per_s\": %.4g, \"unit\": \"%s\"},\n"
      " \"ops\": [",
      info.name.c_str(), info.processor.c_str(), info.isa.c_str(), info.workers, launches.c_str(),
      roofs.read_bytes_per_s, roofs.flops_per_s, roofs.flops_unit.c_str());
  const char* comma = "";
  for (const Measured& m : all) {
    if (m.samples.empty()) continue;
    std::fprintf(file, "%s\n  {\"name\": \"%s\", \"op\": \"%s\", ", comma, m.name.c_str(),
                 m.description.c_str());
    if (!m.kernel.empty()) std::fprintf(file, "\"kernel\": \"%s\", ", m.kernel.c_str());
    std::fprintf(file, "\"seconds\": %.5g, \"bytes\": %.5g, \"flops\": %.5g, \"share\": %.4f}",
                 m.seconds, m.cost.bytes, m.cost.flops, Share(m, roofs));
    comma = ",";
  }
  std::fprintf(file, "\n ]}\n");
}

int Run(const Options& options) {
  std::string error;
  const std::unique_ptr<Device> device = OpenDevice(options.device, options.open, &error);
  if (device == nullptr) {
    std::fprintf(stderr, "op_bench: %s\n", error.c_str());
    return 1;
  }
  const DeviceInfo& info = device->Info();
  CaseSet set;
  const bool is_gpu = info.name.starts_with("cuda");
  const std::string set_name = options.cases.empty() ? (is_gpu ? "gpu" : "host") : options.cases;
  if (!FindCaseSet(set_name, &set)) {
    std::fprintf(stderr, "op_bench: there are no cases \"%s\"\n", set_name.c_str());
    return 1;
  }
  RoofMeter meter(*device, set.roofs);
  Roofs roofs = meter.Measure();
  const Buffer cold = device->Alloc(set.cold_bytes);
  Check(cold.data() != nullptr, "the device has memory for copies");
  testing::DeviceCopy copy(*device);
  testing::OpBed bed(*device, testing::TypesOf(info), set.limits);
  std::vector<OpCase>& cases = set.cases;
  std::erase_if(cases, [&](const OpCase& c) { return c.name.find(options.op) == c.name.npos; });
  if (cases.empty()) {
    std::fprintf(stderr, "op_bench: no case's name contains \"%s\"\n", options.op.c_str());
    return 1;
  }
  std::vector<Measured> all(cases.size());
  const auto keep = [&] {
    if (options.json.empty() || ReplaceFile(options.json, [&](std::FILE* file) {
          WriteJson(file, options, info, roofs, all);
        })) {
      return true;
    }
    std::fprintf(stderr, "op_bench: cannot write %s\n", options.json.c_str());
    return false;
  };
  for (int pass = 0; pass < kPasses; ++pass) {
    for (size_t i = 0; i < cases.size(); ++i) {
      Measure(*device, bed, copy, cold, cases[i], all[i]);
      if (!keep()) return 1;
      std::fprintf(stderr, ".");
    }
    roofs = Larger(roofs, meter.Measure());
  }
  if (!keep()) return 1;
  std::fprintf(stderr, "\n");

  std::printf("%s: %s\nroofs: read %.1f GB/s, %s %.3f TFLOP/s, %d threads\n", info.name.c_str(),
              info.processor.c_str(), roofs.read_bytes_per_s * 1e-9, roofs.flops_unit.c_str(),
              roofs.flops_per_s * 1e-12, info.workers);
  for (const Measured& measured : all) Print(measured, roofs);
  return 0;
}

int Main(int argc, char** argv) {
  Options options;
  // --op takes a part of a case's name; --cases host, decode, gpu or smoke; --overlap 0: see
  // DeviceOptions::overlap_kernels; --carveout 0: shared_carveout.
  if (!ParseFlags(
          "op_bench", argc, argv,
          {{"--op", [&](const std::string& v) { options.op = v; }},
           {"--cases", [&](const std::string& v) { options.cases = v; }},
           {"--device", [&](const std::string& v) { options.device = v; }},
           {"--isa", [&](const std::string& v) { options.open.isa = v; }},
           {"--threads", [&](const std::string& v) { options.open.threads = std::stoi(v); }},
           {"--overlap",
            [&](const std::string& v) { options.open.overlap_kernels = std::stoi(v) != 0; }},
           {"--carveout",
            [&](const std::string& v) { options.open.shared_carveout = std::stoi(v) != 0; }},
           {"--json", [&](const std::string& v) { options.json = v; }}})) {
    return EXIT_FAILURE;
  }
  options.open.pin_threads = true;
  return Run(options);
}

}  // namespace
}  // namespace baram::bench

int main(int argc, char** argv) { return baram::bench::Main(argc, argv); }
