// engine_bench: prefill and decode of a whole model through the engine, relative to the device's
// roofs, measured in the same run.
//
//   engine_bench                          random weights, a 1.07B Llama shape
//   engine_bench --shape llama-8b         another shape of model_shapes.h
//   engine_bench --model DIR              a checkpoint
//   engine_bench --device cpu --isa amx --threads 2 --prompt 512,2048 --batches 1,8,32
//                --context 32 --steps 16 --kv-cache-bytes 0 --json FILE
//   engine_bench --enforce-eager 1 --overlap 0    on a GPU: no graphs; no overlapping kernels
//   engine_bench --carveout 0             on a GPU: see DeviceOptions::shared_carveout
//   engine_bench --model DIR --prompt '' --batches ''
//                start-up only, with the server's default sizes
//
// FILE is rewritten after every measurement: a run that is ended early leaves what it measured.
//
// A decode step is timed from the end of the previous one to its own, with as many steps in flight
// as the engine keeps on that device. Its idle share is gap / (gap + busy) of StepTime in
// kernels/device.h, where the gap is the time from the end of a step's work to the first op of the
// next, including that step's uploads. Gaps between kernels inside a step are not included; a
// profiler shows those.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "bench/engine_report.h"
#include "bench/flags.h"
#include "bench/model_shapes.h"
#include "bench/replace_file.h"
#include "bench/roofs.h"
#include "engine/core.h"
#include "engine/executor.h"
#include "engine/loaded_model.h"
#include "engine/model/step_cost.h"
#include "engine/open.h"
#include "kernels/check.h"

namespace baram::bench {
namespace {

using Clock = std::chrono::steady_clock;

struct Options {
  std::string model, json;
  std::string shape = "llama-1b";
  EngineConfig config;
  std::vector<int32_t> prompts = {512};
  int32_t context = 32;  // cached tokens of each sequence whose decode is measured
  int32_t steps = 16;
  std::vector<int32_t> batches = {1, 8, 32};
  bool measures_steps() const { return !prompts.empty() || !batches.empty(); }

  // Steps until the whole batch decodes: as many as its prompts take within the budget, and a few
  // more.
  int32_t StepsBefore(int32_t batch) const {
    return batch + 8 + 2 * batch * context / config.max_num_batched_tokens;
  }
};

double Seconds(Clock::duration duration) { return std::chrono::duration<double>(duration).count(); }

class Bench {
 public:
  Bench(const Options& options, std::unique_ptr<LoadedModel> model)
      : options_(options),
        model_(std::move(model)),
        core_(options.config, *model_),
        runner_(*model_) {}

  // Times a prompt from its first step to its first token.
  Measurement Prefill(int32_t prompt) {
    std::vector<double> steps, hosts, ignored;
    for (int i = 0; i < 4; ++i) {
      Submit(prompt, 1);
      const Clock::time_point begin = Clock::now();
      Step(&ignored, &hosts);
      if (Batch* finished = runner_.Flush()) core_.CommitStep(finished, Clock::now());
      steps.push_back(Seconds(Clock::now() - begin));
      Finish();
    }
    const double keys = 0.5 * prompt * (prompt + 1.0);
    return Summarize("prefill " + std::to_string(prompt), prompt, 1, keys, steps, hosts);
  }

  // What the first request of a process waits for after the model is open.
  void FirstToken() {
    Submit(1, 1);
    Finish();
  }

  // Has every graph captured that the engine's batches can need: runs a batch of the maximum size
  // whose sequences end one after another, two steps apart, because a bucket's first step is not
  // captured. Returns the bytes of device memory this took.
  int64_t CaptureGraphs() {
    if (model_->step_buckets.empty()) return 0;
    const int64_t before = model_->device->FreeBytes();
    for (int32_t i = 1; i <= core_.info().max_num_seqs; ++i) Submit(1, 2 * i + 1);
    Finish();
    return before - model_->device->FreeBytes();
  }
  void CountGraphs(EngineReport* report) const {
    report->captures = runner_.graphs().captures();
    report->replays = runner_.graphs().replays();
    report->refusals = runner_.graphs().refusals();
    report->graphs_overlap = model_->device->GraphsOverlap();
  }

  Measurement Decode(int32_t batch) {
    for (int32_t i = 0; i < batch; ++i) {
      Submit(options_.context, options_.steps + options_.StepsBefore(batch));
    }
    std::vector<double> ignored;
    do {
      Step(&ignored, &ignored);
    } while (last_outputs_ < batch);
    std::vector<double> steps, hosts;
    device_time_ = {};
    for (int32_t i = 0; i < options_.steps; ++i) Step(&steps, &hosts);
    const double device_s = device_time_.busy_s + device_time_.gap_s;
    const double idle_share = device_s > 0 ? device_time_.gap_s / device_s : -1;
    Check(last_outputs_ == batch, "every request decodes in every measured step");
    for (const auto& outbox : outboxes_) outbox->Cancel();
    Finish();
    const double keys = batch * (options_.context + 0.5 * options_.steps);
    Measurement measurement =
        Summarize("decode B=" + std::to_string(batch), batch, batch, keys, steps, hosts);
    measurement.idle_share = idle_share;
    return measurement;
  }

 private:
  void Submit(int32_t prompt, int32_t max_tokens) {
    Request request;
    request.id = std::to_string(next_id_++);
    for (int32_t i = 0; i < prompt; ++i) {
      request.prompt.push_back(static_cast<int32_t>(random_() % core_.info().vocab_size));
    }
    request.max_tokens = max_tokens;
    request.sampling.temperature = 0;
    auto outbox = core_.Submit(std::move(request));
    Check(outbox.ok(), outbox.status().ToString().c_str());
    outboxes_.push_back(*std::move(outbox));
  }

  // Runs one turn and times it and the host's share of it.
  void Step(std::vector<double>* steps, std::vector<double>* hosts) {
    Clock::duration in_run{};
    const Clock::time_point begin = Clock::now();
    core_.Turn(Clock::now, [&](Batch* batch) {
      Check(batch != nullptr, "there is work");
      const Clock::time_point planned = Clock::now();
      Batch* finished = runner_.Run(batch);
      in_run = Clock::now() - planned;
      last_outputs_ = batch->outputs();
      if (finished != nullptr) {
        device_time_.busy_s += finished->time.busy_s;
        device_time_.gap_s += finished->time.gap_s;
      }
      return finished;
    });
    const Clock::duration whole = Clock::now() - begin;
    steps->push_back(Seconds(whole));
    hosts->push_back(Seconds(whole - in_run));
  }

  void Finish() {
    const auto run = [this](Batch* batch) {
      return batch != nullptr ? runner_.Run(batch) : runner_.Flush();
    };
    while (core_.Turn(Clock::now, run)) continue;
    outboxes_.clear();
  }

  Measurement Summarize(const std::string& name, int32_t tokens, int32_t outputs, double keys,
                        std::vector<double>& steps, std::vector<double>& hosts) const {
    const auto median = [](std::vector<double>& values) {
      std::ranges::nth_element(values, values.begin() + std::ssize(values) / 2);
      return values[values.size() / 2];
    };
    Measurement measurement{.name = name, .tokens = tokens};
    measurement.step_s = median(steps);
    measurement.host_s = median(hosts);
    const OpCost cost = StepCost(model_->weights->spec, *model_->device, tokens, outputs, keys);
    measurement.bytes_per_s = cost.bytes / measurement.step_s;
    measurement.flops_per_s = cost.flops / measurement.step_s;
    measurement.least =
        LeastStepCost(model_->weights->spec, *model_->device, tokens, outputs, keys);
    return measurement;
  }

  const Options& options_;
  std::unique_ptr<LoadedModel> model_;
  EngineCore core_;
  StepRunner runner_;
  std::mt19937 random_{1};
  int64_t next_id_ = 0;
  int32_t last_outputs_ = 0;
  StepTime device_time_;  // summed up
  std::vector<std::shared_ptr<Outbox>> outboxes_;
};

bool ParseOptions(int argc, char** argv, Options* options) {
  const Flags flags = {
      {"--model", [&](const std::string& v) { options->model = v; }},
      {"--json", [&](const std::string& v) { options->json = v; }},
      {"--device", [&](const std::string& v) { options->config.device = v; }},
      {"--isa", [&](const std::string& v) { options->config.isa = v; }},
      {"--threads", [&](const std::string& v) { options->config.threads = std::stoi(v); }},
      {"--shape", [&](const std::string& v) { options->shape = v; }},
      {"--prompt", [&](const std::string& v) { options->prompts = ParseList(v); }},
      {"--context", [&](const std::string& v) { options->context = std::stoi(v); }},
      {"--kv-cache-bytes",
       [&](const std::string& v) { options->config.kv_cache_bytes = std::stoll(v); }},
      {"--steps", [&](const std::string& v) { options->steps = std::stoi(v); }},
      {"--batches", [&](const std::string& v) { options->batches = ParseList(v); }},
      {"--enforce-eager",
       [&](const std::string& v) { options->config.enforce_eager = std::stoi(v) != 0; }},
      {"--overlap",
       [&](const std::string& v) { options->config.overlap_kernels = std::stoi(v) != 0; }},
      {"--carveout",
       [&](const std::string& v) { options->config.shared_carveout = std::stoi(v) != 0; }},
  };
  return ParseFlags("engine_bench", argc, argv, flags);
}

// Sizes the engine for the measured steps.
void SizeForSteps(Options& options) {
  EngineConfig& config = options.config;
  const int32_t longest = options.prompts.empty() ? 1 : std::ranges::max(options.prompts);
  const int32_t widest = options.batches.empty() ? 1 : std::ranges::max(options.batches);
  // Leaves room for a batch's prompts in addition to the sequences that already decode: its first
  // answers must not end before its last begin.
  constexpr int32_t kPromptTokens = 2048;
  const int32_t filled = widest + std::min(options.context, kPromptTokens);
  config.max_num_batched_tokens = std::max(longest, filled);
  // Prompts are not throttled, or the first answers would have ended when the last begin.
  config.mixed_step_tokens = config.max_num_batched_tokens;
  config.max_num_seqs = widest;
  config.max_model_len = std::max(
      {longest + 64, options.context + options.steps + std::max(112, options.StepsBefore(widest)),
       2 * widest + 16});
}

std::unique_ptr<Device> OpenAnother(const EngineConfig& config, std::string* error) {
  return OpenDevice(config.device,
                    {.threads = config.threads,
                     .isa = config.isa,
                     .overlap_kernels = config.overlap_kernels,
                     .shared_carveout = config.shared_carveout},
                    error);
}

absl::StatusOr<std::unique_ptr<LoadedModel>> Open(Options& options) {
  EngineConfig& config = options.config;
  config.prefix_cache = false;
  if (options.measures_steps()) SizeForSteps(options);
  if (!options.model.empty()) {
    config.model = options.model;
    return OpenModel(config);
  }
  std::string error;
  std::unique_ptr<Device> device = OpenAnother(config, &error);
  if (device == nullptr) return absl::InvalidArgumentError(error);
  ModelSpec spec;
  if (!FindModelShape(options.shape, &spec)) {
    return absl::InvalidArgumentError("there is no shape \"" + options.shape + "\"");
  }
  return OpenRandomModel(config, spec, std::move(device), /*seed=*/1);
}

GpuRoofSizes RoofSizes(const Options& options) {
  if (options.shape == "tiny") return {.read_bytes = 128 << 10, .gemm = 64};
  return {};
}

int Main(int argc, char** argv) {
  const Clock::time_point started = Clock::now();
  Options options;
  if (!ParseOptions(argc, argv, &options)) return EXIT_FAILURE;
  const auto below_one = [](int32_t number) { return number < 1; };
  if (options.steps < 1 || options.context < 1 || std::ranges::any_of(options.prompts, below_one) ||
      std::ranges::any_of(options.batches, below_one)) {
    std::fprintf(stderr,
                 "engine_bench: --steps, --context, --prompt and --batches are at least 1\n");
    return EXIT_FAILURE;
  }
  absl::StatusOr<std::unique_ptr<LoadedModel>> model = Open(options);
  if (!model.ok()) {
    std::fprintf(stderr, "engine_bench: %s\n", model.status().ToString().c_str());
    return EXIT_FAILURE;
  }
  EngineReport report;
  report.info = (*model)->info;
  report.overlap_kernels = options.config.overlap_kernels;
  report.shared_carveout = options.config.shared_carveout;
  report.has_memory = (*model)->device->Info().own_memory;
  report.memory = {.context = (*model)->device->Info().context_bytes,
                   .library = (*model)->device->Info().library_bytes,
                   .warm_up = report.info.warm_up_bytes};
  report.open_s = Seconds(Clock::now() - started);
  Bench bench(options, *std::move(model));
  bench.FirstToken();
  report.first_token_s = Seconds(Clock::now() - started);
  const auto keep = [&] {
    bench.CountGraphs(&report);
    const bool kept = options.json.empty() ||
                      ReplaceFile(options.json, [&](std::FILE* file) { WriteJson(file, report); });
    Check(kept, "the JSON file can be written");
  };
  if (!options.measures_steps()) {
    keep();
    PrintStart(report);
    return EXIT_SUCCESS;
  }
  report.memory.graphs = bench.CaptureGraphs();
  keep();
  PrintStart(report);

  // Opens the device a second time next to the model, which leaves some of its memory free.
  std::string error;
  const std::unique_ptr<Device> device = OpenAnother(options.config, &error);
  Check(device != nullptr, error.c_str());
  RoofMeter meter(*device, RoofSizes(options));
  Roofs before = meter.Measure();
  const auto add = [&](Measurement measurement) {
    const Roofs after = meter.Measure();
    measurement.roofs = Larger(before, after);
    before = after;
    report.measurements.push_back(std::move(measurement));
    keep();
  };
  for (const int32_t batch : options.batches) add(bench.Decode(batch));
  for (const int32_t prompt : options.prompts) add(bench.Prefill(prompt));
  PrintMeasurements(report);
  return EXIT_SUCCESS;
}

}  // namespace
}  // namespace baram::bench

int main(int argc, char** argv) { return baram::bench::Main(argc, argv); }
