// engine_bench: prefill and decode of a whole model through the engine, as shares of what this
// machine can do at best, measured in the same run.
//
//   engine_bench                          random weights, a 1.07B Llama shape
//   engine_bench --model DIR              a checkpoint
//   engine_bench --device cpu --isa amx --threads 2 --prompt 512 --batches 1,8,32 --steps 16
//                --json FILE
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "bench/roofs.h"
#include "engine/core.h"
#include "engine/executor.h"
#include "engine/loaded_model.h"
#include "kernels/check.h"

namespace baram::bench {
namespace {

using Clock = std::chrono::steady_clock;

// Tokens in the cache when a decode is measured.
constexpr int32_t kDecodeContext = 32;

struct Options {
  std::string model, json;
  EngineConfig config;
  int32_t prompt = 512;
  int32_t steps = 16;
  std::vector<int32_t> batches = {1, 8, 32};
};

double Seconds(Clock::duration duration) { return std::chrono::duration<double>(duration).count(); }

// The shape that reference measurements of other engines were made with.
ModelSpec LlamaShape() {
  ModelSpec spec;
  spec.architecture = "LlamaForCausalLM";
  spec.family = "Llama shape, random weights";
  spec.hidden = 2048;
  spec.vocab_size = 49152;
  spec.max_positions = 4096;
  spec.head = {.heads = 32, .kv_heads = 8, .head_dim = 64};
  spec.ropes = {{.rotary_dim = 64}};
  spec.tied_head = true;
  for (int layer = 0; layer < 16; ++layer) {
    spec.layers.push_back({.attention_scale = 0.125f, .ffn = 8192});
  }
  return spec;
}

// One kind of step, measured several times.
struct Measurement {
  std::string name;
  int32_t tokens = 0;      // of a step
  double step_s = 0;       // median
  double host_s = 0;       // of it on the engine thread: intake, plan, commit, delivery
  double bytes_per_s = 0;  // of the step's lower bound
  double flops_per_s = 0;
  double tokens_per_s() const { return tokens / step_s; }
};

class Bench {
 public:
  Bench(const Options& options, std::unique_ptr<LoadedModel> model)
      : options_(options),
        model_(std::move(model)),
        core_(options.config, *model_),
        runner_(*model_) {}

  Measurement Prefill() {
    std::vector<double> steps, hosts;
    for (int i = 0; i < 4; ++i) {
      Submit(options_.prompt, 1);
      Step(&steps, &hosts);
      Finish();
    }
    const double keys = 0.5 * options_.prompt * (options_.prompt + 1.0);
    return Summarize("prefill " + std::to_string(options_.prompt), options_.prompt, 1, keys, steps,
                     hosts);
  }

  Measurement Decode(int32_t batch) {
    for (int32_t i = 0; i < batch; ++i) Submit(kDecodeContext, options_.steps + batch + 8);
    std::vector<double> ignored;
    do {
      Step(&ignored, &ignored);
    } while (last_outputs_ < batch);
    std::vector<double> steps, hosts;
    for (int32_t i = 0; i < options_.steps; ++i) Step(&steps, &hosts);
    Check(last_outputs_ == batch, "every request decodes in every measured step");
    for (const auto& outbox : outboxes_) outbox->Cancel();
    Finish();
    const double keys = batch * (kDecodeContext + 0.5 * options_.steps);
    return Summarize("decode B=" + std::to_string(batch), batch, batch, keys, steps, hosts);
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
    auto outbox = core_.Submit(std::move(request), nullptr);
    Check(outbox.ok(), outbox.status().ToString().c_str());
    outboxes_.push_back(*std::move(outbox));
  }

  // One turn as the engine's threads make it, with the host's share timed.
  void Step(std::vector<double>* steps, std::vector<double>* hosts) {
    const Clock::time_point begin = Clock::now();
    core_.Intake(begin);
    Batch* batch = core_.PlanStep(begin);
    Check(batch != nullptr, "there is work");
    const Clock::time_point planned = Clock::now();
    Batch* finished = runner_.Run(batch);
    const Clock::time_point computed = Clock::now();
    last_outputs_ = batch->outputs();
    if (finished != nullptr) core_.CommitStep(finished, computed);
    core_.Deliver(computed);
    const Clock::time_point end = Clock::now();
    steps->push_back(Seconds(end - begin));
    hosts->push_back(Seconds((planned - begin) + (end - computed)));
  }

  void Finish() {
    while (core_.Turn(runner_, Clock::now())) continue;
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
    return measurement;
  }

  const Options& options_;
  std::unique_ptr<LoadedModel> model_;
  EngineCore core_;
  StepRunner runner_;
  std::mt19937 random_{1};
  int64_t next_id_ = 0;
  int32_t last_outputs_ = 0;
  std::vector<std::shared_ptr<Outbox>> outboxes_;
};

std::vector<int32_t> ParseList(const std::string& text) {
  std::vector<int32_t> values;
  for (size_t at = 0; at < text.size(); at = text.find_first_of(',', at)) {
    if (text[at] == ',') ++at;
    values.push_back(std::atoi(text.c_str() + at));
  }
  return values;
}

bool ParseOptions(int argc, char** argv, Options* options) {
  const std::map<std::string, std::function<void(const std::string&)>> flags = {
      {"--model", [&](const std::string& v) { options->model = v; }},
      {"--json", [&](const std::string& v) { options->json = v; }},
      {"--device", [&](const std::string& v) { options->config.device = v; }},
      {"--isa", [&](const std::string& v) { options->config.isa = v; }},
      {"--threads", [&](const std::string& v) { options->config.threads = std::stoi(v); }},
      {"--prompt", [&](const std::string& v) { options->prompt = std::stoi(v); }},
      {"--steps", [&](const std::string& v) { options->steps = std::stoi(v); }},
      {"--batches", [&](const std::string& v) { options->batches = ParseList(v); }},
  };
  for (int i = 1; i < argc; i += 2) {
    const auto flag = flags.find(argv[i]);
    if (flag == flags.end() || i + 1 == argc) {
      std::fprintf(stderr, "engine_bench: unknown flag or missing value: %s; flags:", argv[i]);
      for (const auto& [name, unused] : flags) std::fprintf(stderr, " %s", name.c_str());
      std::fprintf(stderr, "\n");
      return false;
    }
    flag->second(argv[i + 1]);
  }
  return true;
}

absl::StatusOr<std::unique_ptr<LoadedModel>> Open(Options& options) {
  EngineConfig& config = options.config;
  config.prefix_cache = false;
  config.max_num_batched_tokens = options.prompt;
  config.max_num_seqs = std::ranges::max(options.batches);
  config.max_model_len = std::max(options.prompt + 64, kDecodeContext + options.steps + 128);
  if (!options.model.empty()) {
    config.model = options.model;
    return OpenModel(config);
  }
  std::string error;
  std::unique_ptr<Device> device =
      OpenDevice(config.device, {.threads = config.threads, .isa = config.isa}, &error);
  if (device == nullptr) return absl::InvalidArgumentError(error);
  return OpenRandomModel(config, LlamaShape(), std::move(device), /*seed=*/1);
}

void WriteJson(const std::string& path, const EngineInfo& info, const Roofs& roofs,
               const std::vector<Measurement>& measurements) {
  std::FILE* file = std::fopen(path.c_str(), "w");
  Check(file != nullptr, "the JSON file can be written");
  std::fprintf(file,
               "{\n \"model\": \"%s\", \"parameters\": %lld, \"device\": \"%s\", \"isa\": \"%s\", "
               "\"workers\": %d,\n \"roofs\": {\"read_bytes_per_s\": %.6g, \"flops_per_s\": %.6g, "
               "\"flops_unit\": \"%s\"},\n \"measurements\": [",
               info.family.c_str(), static_cast<long long>(info.parameters), info.device.c_str(),
               info.isa.c_str(), info.workers, roofs.read_bytes_per_s, roofs.flops_per_s,
               roofs.flops_unit.c_str());
  const char* comma = "";
  for (const Measurement& m : measurements) {
    std::fprintf(file,
                 "%s\n  {\"name\": \"%s\", \"tokens_per_s\": %.6g, \"step_s\": %.6g, "
                 "\"host_s\": %.6g, \"read_share\": %.4f, \"flops_share\": %.4f}",
                 comma, m.name.c_str(), m.tokens_per_s(), m.step_s, m.host_s,
                 m.bytes_per_s / roofs.read_bytes_per_s, m.flops_per_s / roofs.flops_per_s);
    comma = ",";
  }
  std::fprintf(file, "\n ]\n}\n");
  std::fclose(file);
}

int Main(int argc, char** argv) {
  Options options;
  if (!ParseOptions(argc, argv, &options)) return EXIT_FAILURE;
  absl::StatusOr<std::unique_ptr<LoadedModel>> model = Open(options);
  if (!model.ok()) {
    std::fprintf(stderr, "engine_bench: %s\n", model.status().ToString().c_str());
    return EXIT_FAILURE;
  }
  const EngineInfo info = (*model)->info;
  Roofs roofs = MeasureRoofs(info.workers, info.isa);
  std::printf("%s, %.3f B parameters, %.2f GB packed; %s %s, %d workers\n", info.family.c_str(),
              static_cast<double>(info.parameters) / 1e9,
              static_cast<double>(info.weight_bytes) / 1e9, info.device.c_str(), info.isa.c_str(),
              info.workers);
  Bench bench(options, *std::move(model));
  std::vector<Measurement> measurements = {bench.Prefill()};
  for (const int32_t batch : options.batches) measurements.push_back(bench.Decode(batch));
  // Other tenants of the machine come and go: the better of before and after is the roof.
  const Roofs after = MeasureRoofs(info.workers, info.isa);
  roofs.read_bytes_per_s = std::max(roofs.read_bytes_per_s, after.read_bytes_per_s);
  roofs.flops_per_s = std::max(roofs.flops_per_s, after.flops_per_s);

  std::printf("roofs: %.1f GB/s read, %.2f TFLOP/s %s\n", roofs.read_bytes_per_s / 1e9,
              roofs.flops_per_s / 1e12, roofs.flops_unit.c_str());
  std::printf("%-14s %10s %10s %10s %8s %8s\n", "step", "tok/s", "step ms", "host us", "of read",
              "of flops");
  for (const Measurement& m : measurements) {
    std::printf("%-14s %10.1f %10.2f %10.1f %8.3f %8.3f\n", m.name.c_str(), m.tokens_per_s(),
                m.step_s * 1e3, m.host_s * 1e6, m.bytes_per_s / roofs.read_bytes_per_s,
                m.flops_per_s / roofs.flops_per_s);
  }
  if (!options.json.empty()) WriteJson(options.json, info, roofs, measurements);
  return EXIT_SUCCESS;
}

}  // namespace
}  // namespace baram::bench

int main(int argc, char** argv) { return baram::bench::Main(argc, argv); }
