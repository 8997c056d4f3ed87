// op_test on the CPU device with emulated AVX512_BF16 and AMX, next to the instruction set whose
// bits they must reproduce.
#include <string>

#include "tests/kernels/op_families.h"

namespace baram::testing {
namespace {

void Add(Family& family, const std::string& isa, int32_t threads, const std::string& how) {
  std::string error;
  AddBed(family, "cpu " + isa + how + " threads=" + std::to_string(threads),
         OpenDevice("cpu", {.threads = threads, .isa = isa}, &error), {});
}

}  // namespace

std::vector<Family> TestedFamilies() {
  std::vector<Family> families(1);
  Add(families[0], "avx512", 1, "");
  Add(families[0], "avx512_bf16", 1, " emulated");
  Add(families[0], "amx", 1, " emulated");
  Add(families[0], "amx", 2, " emulated");
  // There is no AVX-512 here, and so no emulation.
  if (families[0].beds.empty()) Add(families[0], "avx2", 1, "");
  AddRef(families[0]);
  return families;
}

std::vector<OpCase> TestedCases() { return OpCases(); }

}  // namespace baram::testing
