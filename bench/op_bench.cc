// op_bench: how close every op comes to this machine's roofs, at the shapes models have.
//
// Weights and caches are read from memory, as in a model whose layers do not fit the caches: copies
// are used in turn. Activations stay warm.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "bench/roofs.h"
#include "kernels/device.h"
#include "tests/kernels/op_bed.h"

namespace baram::bench {
namespace {

using test::OpCase;
using test::PreparedOp;

constexpr int64_t kMemoryBytes = int64_t{1} << 30;
constexpr int64_t kColdBytes = int64_t{384} << 20;  // copies of what must come from memory
constexpr double kSampleSeconds = 3e-3;             // one measurement runs the op at least so long
// Samples of a case are spread over passes through all cases, the roofs' as well, so that a
// disturbance does not hit one of them alone. The median counts; of the roofs the highest.
constexpr int kPasses = 3;
constexpr int kSamplesPerPass = 5;

struct Options {
  std::string op;  // part of a case's name; empty: all
  std::string device = "cpu";
  std::string json;
  DeviceOptions open;
};

struct Measured {
  std::string name;
  std::string description;
  OpCost cost;
  std::vector<double> samples;
  double seconds = 0;  // their median
};

std::vector<OpCase> BenchCases() {
  std::vector<OpCase> cases;
  const auto number = [](int64_t value) { return std::to_string(value); };
  for (int64_t m : {1, 8, 32, 128, 512}) {
    for (int64_t n : {2048, 8192, 16384}) {
      cases.push_back({"Gemm_" + number(m) + "x" + number(n) + "x2048",
                       test::GemmCase{.rows = m, .n = n, .k = 2048}});
    }
    cases.push_back(
        {"Gemm_" + number(m) + "x2048x8192", test::GemmCase{.rows = m, .n = 2048, .k = 8192}});
  }
  const HeadShape head{16, 8, 128};
  const std::vector<test::Chunk> eight(8, {1023, 1});
  cases.push_back({"Attend_decode_1x1024", test::AttendCase{head, 32, {{1023, 1}}}});
  cases.push_back({"Attend_decode_8x1024", test::AttendCase{head, 32, eight}});
  cases.push_back({"Attend_decode_2x4096", test::AttendCase{head, 32, {{4095, 1}, {4095, 1}}}});
  cases.push_back({"Attend_prefill_512", test::AttendCase{head, 32, {{0, 512}}}});
  cases.push_back({"Attend_prefill_2048", test::AttendCase{head, 32, {{0, 2048}}}});
  for (int32_t rows : {1, 512}) {
    const std::string suffix = "_" + number(rows) + "x2048";
    cases.push_back({"AddNorm" + suffix, test::AddNormCase{.rows = rows, .d = 2048}});
    cases.push_back(
        {"Norm" + suffix, test::NormCase{.rows = rows, .d = 2048, .x = test::Role::kResidual}});
    cases.push_back({"Act" + suffix, test::ActCase{.rows = rows, .f = 8192}});
    cases.push_back({"StoreKv" + suffix, test::StoreKvCase{.head = head,
                                                           .page_tokens = 32,
                                                           .chunks = {{0, rows}},
                                                           .q_norm = true,
                                                           .k_norm = true,
                                                           .rotary_dim = 128}});
    cases.push_back({"Embed" + suffix, test::EmbedCase{rows, 16384, 2048}});
  }
  for (int32_t vocab : {50'000, 128'000}) {
    for (int rows : {1, 8}) {
      test::SampleRow greedy;
      greedy.sampling.temperature = 0;
      test::SampleRow plain;
      test::SampleRow filtered;
      filtered.sampling.top_k = 50;
      filtered.sampling.top_p = 0.9f;
      filtered.sampling.logprobs = 5;
      const std::string suffix = "_" + number(rows) + "x" + number(vocab);
      const auto add = [&](const char* name, const test::SampleRow& row) {
        cases.push_back({name + suffix, test::SampleCase{vocab, vocab, {size_t(rows), row}}});
      };
      add("Sample_greedy", greedy);
      add("Sample_plain", plain);
      add("Sample_filtered", filtered);
    }
  }
  return cases;
}

// The addresses of an op's weight or pages and of its copies, used in turn.
class ColdCopies {
 public:
  ColdCopies(Device& device, const Buffer& memory, OpArgs& args) {
    int64_t bytes = 0;
    if (auto* gemm = std::get_if<GemmArgs>(&args)) {
      place_ = [gemm](void* data) { gemm->weight.data = data; };
      first_ = const_cast<void*>(gemm->weight.data);
      bytes = device.PackedBytes(gemm->weight.shape);
    } else if (auto* attend = std::get_if<AttendArgs>(&args)) {
      place_ = [attend](void* data) { attend->pool.data = data; };
      first_ = attend->pool.data;
      bytes = attend->pool.page_bytes * attend->pool.pages;
    } else {
      return;
    }
    std::vector<char> image(bytes);
    device.Download(image.data(), first_, bytes);
    const int64_t stride = (bytes + 4095) / 4096 * 4096;
    for (int64_t offset = 0; offset + bytes <= memory.bytes(); offset += stride) {
      copies_.push_back(static_cast<char*>(memory.data()) + offset);
      device.Upload(copies_.back(), image.data(), bytes);
    }
  }
  void Next() {
    if (!copies_.empty()) place_(copies_[next_++ % copies_.size()]);
  }

 private:
  std::function<void(void*)> place_;
  void* first_ = nullptr;
  std::vector<void*> copies_;
  size_t next_ = 0;
};

double SecondsOf(Device& device, const PreparedOp& op, ColdCopies& copies, int runs) {
  const auto begin = std::chrono::steady_clock::now();
  for (int i = 0; i < runs; ++i) {
    copies.Next();
    test::RunOp(device, op.args);
  }
  const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - begin;
  if (op.restore) op.restore();
  return taken.count() / runs;
}

void Measure(Device& device, test::OpBed& bed, const Buffer& cold, const OpCase& op_case,
             Measured& measured) {
  PreparedOp op = bed.Prepare(op_case);
  measured.name = op_case.name;
  measured.description = OpDescription(op.args);
  measured.cost = CostOf(op.args, op.context_tokens);
  ColdCopies copies(device, cold, op.args);
  // Sample overwrites its logits: one run a measurement.
  const bool once = std::holds_alternative<SampleArgs>(op.args);
  const double first = SecondsOf(device, op, copies, 1);
  const int runs = once ? 1 : std::clamp(static_cast<int>(kSampleSeconds / first), 1, 1000);
  for (int i = 0; i < kSamplesPerPass; ++i) {
    measured.samples.push_back(SecondsOf(device, op, copies, runs));
  }
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
  std::printf("%-26s %10.1f us %8.1f GB/s %8.3f TFLOP/s   %5.1f %% of %s\n", m.name.c_str(),
              m.seconds * 1e6, m.cost.bytes / m.seconds * 1e-9, m.cost.flops / m.seconds * 1e-12,
              100 * Share(m, roofs), memory ? "memory" : "compute");
}

bool WriteJson(const std::string& path, const DeviceInfo& info, const Roofs& roofs,
               const std::vector<Measured>& all) {
  std::FILE* file = std::fopen(path.c_str(), "w");
  if (file == nullptr) return false;
  std::fprintf(
      file,
      "{\"device\": \"%s\", \"processor\": \"%s\", \"isa\": \"%s\", \"workers\": %d,\n"
      " \"roofs\": {\"read_bytes_per_s\": %.4g, \"flops_per_s\": %.4g, \"unit\": \"%s\"},\n"
      " \"ops\": [",
      info.name.c_str(), info.processor.c_str(), info.isa.c_str(), info.workers,
      roofs.read_bytes_per_s, roofs.flops_per_s, roofs.flops_unit.c_str());
  for (size_t i = 0; i < all.size(); ++i) {
    const Measured& m = all[i];
    std::fprintf(file,
                 "%s\n  {\"name\": \"%s\", \"op\": \"%s\", \"seconds\": %.5g, \"bytes\": %.5g, "
                 "\"flops\": %.5g, \"share\": %.4f}",
                 i == 0 ? "" : ",", m.name.c_str(), m.description.c_str(), m.seconds, m.cost.bytes,
                 m.cost.flops, Share(m, roofs));
  }
  std::fprintf(file, "\n ]}\n");
  return std::fclose(file) == 0;
}

Roofs Larger(const Roofs& a, const Roofs& b) {
  return {std::max(a.read_bytes_per_s, b.read_bytes_per_s), std::max(a.flops_per_s, b.flops_per_s),
          a.flops_unit};
}

int Run(const Options& options) {
  std::string error;
  const std::unique_ptr<Device> device = OpenDevice(options.device, options.open, &error);
  if (device == nullptr) {
    std::fprintf(stderr, "op_bench: %s\n", error.c_str());
    return 1;
  }
  const DeviceInfo& info = device->Info();
  Roofs roofs = MeasureRoofs(info.workers, info.isa);
  const Buffer cold = device->Alloc(kColdBytes);
  test::OpBed bed(*device, test::TypesOf(info),
                  {.memory_bytes = kMemoryBytes,
                   .slots = 16,
                   .max_pages_per_slot = 160,
                   .vocab_size = 128'000,
                   .max_step_tokens = 4200,
                   .max_step_outputs = 64});
  std::vector<OpCase> cases = BenchCases();
  std::erase_if(cases, [&](const OpCase& c) { return c.name.find(options.op) == c.name.npos; });
  std::vector<Measured> all(cases.size());
  for (int pass = 0; pass < kPasses; ++pass) {
    for (size_t i = 0; i < cases.size(); ++i) {
      Measure(*device, bed, cold, cases[i], all[i]);
      std::fprintf(stderr, ".");
    }
    roofs = Larger(roofs, MeasureRoofs(info.workers, info.isa));
  }
  std::fprintf(stderr, "\n");

  std::printf("%s: %s\nroofs: read %.1f GB/s, %s %.3f TFLOP/s, %d threads\n", info.name.c_str(),
              info.processor.c_str(), roofs.read_bytes_per_s * 1e-9, roofs.flops_unit.c_str(),
              roofs.flops_per_s * 1e-12, info.workers);
  for (const Measured& measured : all) Print(measured, roofs);
  if (!options.json.empty() && !WriteJson(options.json, info, roofs, all)) {
    std::fprintf(stderr, "op_bench: cannot write %s\n", options.json.c_str());
    return 1;
  }
  return 0;
}

int Main(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string flag = argv[i];
    const char* value = i + 1 < argc ? argv[++i] : nullptr;
    if (value != nullptr && flag == "--op")
      options.op = value;
    else if (value != nullptr && flag == "--device")
      options.device = value;
    else if (value != nullptr && flag == "--isa")
      options.open.isa = value;
    else if (value != nullptr && flag == "--threads")
      options.open.threads = std::atoi(value);
    else if (value != nullptr && flag == "--json")
      options.json = value;
    else {
      std::fprintf(stderr,
                   "usage: op_bench [--op PART_OF_NAME] [--device %s] [--isa ISA] [--threads N] "
                   "[--json FILE]\n",
                   BuiltDevices().c_str());
      return 2;
    }
  }
  options.open.pin_threads = true;
  return Run(options);
}

}  // namespace
}  // namespace baram::bench

int main(int argc, char** argv) { return baram::bench::Main(argc, argv); }
