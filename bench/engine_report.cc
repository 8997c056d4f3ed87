// The JSON and the tables of engine_bench.
#include "bench/engine_report.h"

namespace baram::bench {
namespace {

// The estimate with this name; 0 if the sum has none.
int64_t Foreseen(const EngineInfo& info, const std::string& name) {
  for (const MemoryBudget::Part& part : info.memory.parts) {
    if (part.name == name) return part.bytes;
  }
  return 0;
}

double Megabytes(int64_t bytes) { return static_cast<double>(bytes) / 1e6; }
long long Whole(int64_t value) { return value; }

void WriteMemory(std::FILE* file, const EngineReport& report) {
  const MemoryTaken& memory = report.memory;
  std::fprintf(file,
               " \"memory\": {\"context_bytes\": %lld, \"library_bytes\": %lld, "
               "\"warm_up_bytes\": %lld, \"context_and_code_foreseen_bytes\": %lld, "
               "\"graph_bytes\": %lld, \"graphs_foreseen_bytes\": %lld},\n",
               Whole(memory.context), Whole(memory.library), Whole(memory.warm_up),
               Whole(Foreseen(report.info, "context and code")), Whole(memory.graphs),
               Whole(Foreseen(report.info, "graphs")));
}

void PrintMemory(const EngineReport& report) {
  const EngineInfo& info = report.info;
  const MemoryTaken& memory = report.memory;
  std::printf("memory: context %.1f MB, library %.1f MB, first steps %.1f MB; foreseen %.1f MB\n",
              Megabytes(memory.context), Megabytes(memory.library), Megabytes(memory.warm_up),
              Megabytes(Foreseen(info, "context and code")));
  const char* overlap = report.graphs_overlap ? ", kernels overlap" : ", kernels do not overlap";
  std::printf("graphs: %lld captured, %lld refused%s, %.1f MB; foreseen %.1f MB\n",
              Whole(report.captures), Whole(report.refusals), report.captures > 0 ? overlap : "",
              Megabytes(memory.graphs), Megabytes(Foreseen(info, "graphs")));
}

}  // namespace

void WriteJson(std::FILE* file, const EngineReport& report) {
  const EngineInfo& info = report.info;
  std::fprintf(file,
               "{\n \"model\": \"%s\", \"parameters\": %lld, \"device\": \"%s\", \"isa\": \"%s\", "
               "\"workers\": %d, \"open_s\": %.4g, \"first_token_s\": %.4g,\n"
               " \"max_num_batched_tokens\": %d, \"max_num_seqs\": %d, \"kv_tokens\": %lld,\n"
               " \"graphs\": {\"captures\": %lld, \"replays\": %lld, \"refusals\": %lld, "
               "\"overlap\": %s},\n"
               " \"overlap_kernels\": %s, \"shared_carveout\": %s,\n",
               info.family.c_str(), Whole(info.parameters), info.device.c_str(), info.isa.c_str(),
               info.workers, report.open_s, report.first_token_s, info.max_num_batched_tokens,
               info.max_num_seqs, Whole(info.kv_tokens), Whole(report.captures),
               Whole(report.replays), Whole(report.refusals),
               report.graphs_overlap ? "true" : "false", report.overlap_kernels ? "true" : "false",
               report.shared_carveout ? "true" : "false");
  if (report.has_memory) WriteMemory(file, report);
  std::fprintf(file, " \"measurements\": [");
  const char* comma = "";
  for (const Measurement& m : report.measurements) {
    std::fprintf(file,
                 "%s\n  {\"name\": \"%s\", \"tokens_per_s\": %.6g, \"step_s\": %.6g, "
                 "\"host_s\": %.6g, \"floor_s\": %.6g, \"of_floor\": %.4f, "
                 "\"read_share\": %.4f, \"flops_share\": %.4f, "
                 "\"roofs\": {\"read_bytes_per_s\": %.4g, \"flops_per_s\": %.4g, "
                 "\"flops_unit\": \"%s\"}",
                 comma, m.name.c_str(), m.tokens_per_s(), m.step_s, m.host_s, m.floor_s(),
                 m.of_floor(), m.read_share(), m.flops_share(), m.roofs.read_bytes_per_s,
                 m.roofs.flops_per_s, m.roofs.flops_unit.c_str());
    if (m.idle_share >= 0) std::fprintf(file, ", \"idle_share\": %.5f", m.idle_share);
    std::fprintf(file, "}");
    comma = ",";
  }
  std::fprintf(file, "\n ]\n}\n");
}

void PrintStart(const EngineReport& report) {
  const EngineInfo& info = report.info;
  std::printf("%s, %.3f B parameters, %.2f GB packed; %s %s, %d workers\n", info.family.c_str(),
              static_cast<double>(info.parameters) / 1e9,
              static_cast<double>(info.weight_bytes) / 1e9, info.device.c_str(), info.isa.c_str(),
              info.workers);
  std::printf("open after %.2f s, first token after %.2f s\n", report.open_s, report.first_token_s);
  if (report.has_memory) PrintMemory(report);
  std::fflush(stdout);  // the measurements take a minute
}

void PrintMeasurements(const EngineReport& report) {
  std::printf("%-14s %10s %10s %10s %8s %8s %8s %8s %14s\n", "step", "tok/s", "step ms", "host us",
              "of floor", "of read", "of flops", "idle", "roofs");
  for (const Measurement& m : report.measurements) {
    std::printf("%-14s %10.1f %10.2f %10.1f %8.3f %8.3f %8.3f", m.name.c_str(), m.tokens_per_s(),
                m.step_s * 1e3, m.host_s * 1e6, m.of_floor(), m.read_share(), m.flops_share());
    m.idle_share >= 0 ? std::printf(" %8.4f", m.idle_share) : std::printf(" %8s", "");
    std::printf("   %.1f GB/s, %.3f TFLOP/s %s\n", m.roofs.read_bytes_per_s / 1e9,
                m.roofs.flops_per_s / 1e12, m.roofs.flops_unit.c_str());
  }
  std::printf(
      "of floor: the step over the time in which the roofs read every weight once, or multiply,\n"
      "and then read the cache, or attend\n"
      "of read, of flops: all that the ops read, write and compute, activations too, as a share\n"
      "of the roofs\n"
      "idle: the device's time from the end of a step to the first op of the next, its uploads\n"
      "included, as a share of both; gaps between kernels inside a step are not in it\n");
}

}  // namespace baram::bench
