// op_test on the host's devices: ref, and every instruction set of this processor.
#include "tests/kernels/op_families.h"

namespace baram::test {
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

}  // namespace

std::vector<Family> TestedFamilies() {
  std::vector<Family> families;
  families.push_back(OpenFamily("ref", {""}, 1));
  families.push_back(OpenFamily("cpu", {"avx2", "avx512", "amx"}, 2));
  return families;
}

std::vector<OpCase> TestedCases() { return OpCases(); }

}  // namespace baram::test
