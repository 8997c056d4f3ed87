// op_test on the requested device, or on the host's: ref, and every instruction set of this
// processor.
#include <cstdio>
#include <cstdlib>

#include "tests/environment.h"
#include "tests/kernels/op_families.h"

namespace baram::testing {
namespace {

Family OpenFamily(const std::string& name, const std::vector<std::string>& isas, int most_threads) {
  Family family;
  for (const std::string& isa : isas) {
    for (int threads = 1; threads <= most_threads; ++threads) {
      std::string error;
      AddBed(family, name + (isa.empty() ? "" : " " + isa) + " threads=" + std::to_string(threads),
             OpenDevice(name, {.threads = threads, .isa = isa}, &error), {});
    }
  }
  AddRef(family);
  return family;
}

// With rows that start anywhere, and with rows that allow wide loads: they use different kernels.
std::vector<Family> FamiliesOf(const std::string& name) {
  std::vector<Family> families;
  for (const int64_t gap : {5, 8}) {
    Family family;
    std::string error;
    std::unique_ptr<Device> device =
        OpenDevice(name, {.overlap_kernels = KernelsOverlap()}, &error);
    if (device == nullptr) {
      std::fprintf(stderr, "%s\n", error.c_str());
      std::exit(EXIT_FAILURE);
    }
    OpBed::Limits limits;
    limits.gap_elements = gap;
    const DeviceInfo& info = device->Info();
    AddBed(family, info.name + ", " + info.processor + ", gap=" + std::to_string(gap),
           std::move(device), limits);
    AddRef(family);
    families.push_back(std::move(family));
  }
  return families;
}

}  // namespace

std::vector<Family> TestedFamilies() {
  const std::string requested = RequestedDevice();
  if (!requested.empty()) return FamiliesOf(requested);
  std::vector<Family> families;
  families.push_back(OpenFamily("ref", {""}, 1));
  families.push_back(OpenFamily("cpu", {"avx2", "avx512", "avx512_bf16", "amx"}, 2));
  return families;
}

std::vector<OpCase> TestedCases() { return OpCases(); }

}  // namespace baram::testing
