// Opening a GPU by index or UUID: reports what is missing in the operator's terms.
#include "kernels/cuda/open_cuda.h"

#include <algorithm>
#include <charconv>
#include <system_error>
#include <utility>
#include <vector>

#include "kernels/check.h"
#include "kernels/cuda/cuda_device.h"
#include "kernels/host_facts.h"

namespace baram::cuda {
namespace {

constexpr int32_t kPageTokens = 32;

std::string VersionText(int version) {
  return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

char Lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

// The part of a UUID that identifies a GPU: the runtime does not always know the kind in front of
// it, GPU or MIG.
std::string Digits(std::string_view uuid) {
  std::string lower(uuid.size(), ' ');
  std::transform(uuid.begin(), uuid.end(), lower.begin(), Lower);
  const bool has_kind = lower.starts_with("gpu-") || lower.starts_with("mig-");
  return has_kind ? lower.substr(4) : lower;
}

// Host threads that convert weights. More of them would only wait for a staging piece.
int32_t LoadingThreads() {
  return std::clamp<int32_t>(ReadHostFacts().processors_at_once, 1, WeightStaging::kPieces);
}

}  // namespace

std::string DriverProblem(int driver_version, int runtime_version, const std::string& release) {
  if (driver_version >= runtime_version) return "";
  const std::string needed = "the cuda device needs an NVIDIA driver of release " +
                             std::to_string(kNeededDriverRelease) + " or newer (CUDA " +
                             VersionText(runtime_version) + "); this machine has ";
  if (driver_version == 0 && release.empty()) return needed + "none";
  if (driver_version == 0) return needed + release + ", which does not answer";
  return needed + (release.empty() ? "one" : release) + " (CUDA " + VersionText(driver_version) +
         ")";
}

std::string NoGpuProblem(Error counted) {
  return std::string("the driver shows no GPU") +
         (counted != nullptr ? std::string(": ") + counted : "") +
         "; CUDA_VISIBLE_DEVICES may hide them";
}

std::vector<Architecture> ParseArchitectures(std::string_view list) {
  std::vector<Architecture> architectures;
  while (!list.empty()) {
    const std::string_view entry = list.substr(0, list.find(','));
    list.remove_prefix(std::min(list.size(), entry.size() + 1));
    if (entry.ends_with("-virtual")) continue;
    const std::string_view version = entry.substr(0, entry.find('-'));
    int number = 0;  // 10 * major + minor
    const auto parsed = std::from_chars(version.data(), version.data() + version.size(), number);
    Check(parsed.ec == std::errc(), "CMAKE_CUDA_ARCHITECTURES lists versions");
    architectures.push_back({.name = "sm_" + std::string(version),
                             .major = number / 10,
                             .minor = number % 10,
                             .exact = version.ends_with('a')});
  }
  return architectures;
}

std::string ArchitectureNames(std::span<const Architecture> architectures) {
  std::string names;
  for (const Architecture& architecture : architectures) {
    names += (names.empty() ? "" : ", ") + architecture.name;
  }
  return names;
}

const Architecture* FindArchitecture(const GpuFacts& facts,
                                     std::span<const Architecture> architectures,
                                     std::string* error) {
  const Architecture* best = nullptr;
  for (const Architecture& architecture : architectures) {
    const bool serves = facts.major == architecture.major &&
                        (architecture.exact ? facts.minor == architecture.minor
                                            : facts.minor >= architecture.minor);
    if (!serves) continue;
    if (best == nullptr || architecture.minor > best->minor ||
        (architecture.minor == best->minor && architecture.exact)) {
      best = &architecture;
    }
  }
  if (best == nullptr) {
    *error = facts.name + " is of architecture sm_" + std::to_string(facts.major) +
             std::to_string(facts.minor) + "; this binary has " + ArchitectureNames(architectures);
  }
  return best;
}

int FindGpu(const std::string& which, std::span<const GpuFacts> gpus, std::string* error) {
  if (which.empty()) return 0;
  for (size_t i = 0; i < gpus.size(); ++i) {
    if (Digits(gpus[i].uuid) == Digits(which)) return static_cast<int>(i);
  }
  int index = -1;
  const char* end = which.data() + which.size();
  const auto parsed = std::from_chars(which.data(), end, index);
  const bool is_number = parsed.ec == std::errc() && parsed.ptr == end;
  if (is_number && index >= 0 && index < static_cast<int>(gpus.size())) return index;
  *error = "there is no GPU \"" + which + "\"; this machine has";
  for (size_t i = 0; i < gpus.size(); ++i) {
    *error +=
        (i > 0 ? ", " : " ") + std::to_string(i) + " (" + gpus[i].uuid + ", " + gpus[i].name + ")";
  }
  return -1;
}

}  // namespace baram::cuda

namespace baram {

std::string CudaArchitectures() {
  return cuda::ArchitectureNames(cuda::ParseArchitectures(BARAM_CUDA_ARCHITECTURES));
}

std::unique_ptr<Device> OpenCudaDevice(const DeviceOptions& options, std::string* error) {
  using namespace cuda;  // NOLINT: this function is that namespace's door
  std::vector<Architecture> architectures = ParseArchitectures(BARAM_CUDA_ARCHITECTURES);
  if (!options.isa.empty()) {
    std::erase_if(architectures, [&](const auto& one) { return one.name != options.isa; });
    if (architectures.empty()) {
      *error = "the cuda device has no isa \"" + options.isa + "\"; this binary has " +
               CudaArchitectures();
      return nullptr;
    }
  }
  *error = DriverProblem(DriverVersion(), RuntimeVersion(), DriverRelease());
  if (!error->empty()) return nullptr;
  int count = 0;
  const Error counted = CountGpus(&count);
  if (counted != nullptr || count == 0) {
    *error = NoGpuProblem(counted);
    return nullptr;
  }
  std::vector<GpuFacts> gpus(count);
  for (int i = 0; i < count; ++i) {
    if (const Error failed = ReadFacts(i, &gpus[i])) {
      *error = "GPU " + std::to_string(i) + " can't be asked for its properties: " + failed;
      return nullptr;
    }
  }
  const int ordinal = FindGpu(options.which, gpus, error);
  if (ordinal < 0) return nullptr;
  const GpuFacts& facts = gpus[ordinal];
  const Architecture* architecture = FindArchitecture(facts, architectures, error);
  if (architecture == nullptr) return nullptr;

  int64_t free_bytes = 0;
  Error failed = UseGpu(ordinal);
  if (failed == nullptr) failed = FreeMemory(&free_bytes);
  DeviceInfo info;
  info.name = "cuda:" + std::to_string(ordinal);
  info.processor = facts.name + ", " + std::to_string(facts.multiprocessors) + " multiprocessors";
  info.isa = architecture->name;
  info.memory_bytes = facts.memory_bytes;
  info.own_memory = true;
  // The context exists already.
  info.free_bytes = std::min(facts.memory_bytes, free_bytes + kContextBytes);
  info.context_bytes = facts.memory_bytes - free_bytes;
  info.alloc_multiple = kAllocMultiple;
  info.workers = options.threads > 0 ? options.threads : LoadingThreads();
  info.activation = DType::kBF16;
  info.residual = DType::kF32;
  info.weights = Format{DType::kBF16};
  info.page_tokens = kPageTokens;
  info.planning_depth = 2;
  info.graphs = true;
  info.exact = false;  // Gemm chooses its kernel by the number of rows
  auto device = std::make_unique<CudaDevice>(ordinal, facts, std::move(info), options);
  if (failed == nullptr) failed = device->Open();
  if (failed != nullptr) {
    *error = "GPU " + std::to_string(ordinal) + " can't be used: " + failed;
    return nullptr;
  }
  return device;
}

}  // namespace baram
