// Reading CPUID.
#include "kernels/cpu/cpu_facts.h"

#include <algorithm>
#include <chrono>
#include <cstring>

#include "kernels/cpu/cpuid.h"
#include "kernels/cpu/kernel_table.h"

namespace baram::cpu {
namespace {

constexpr uint64_t kAvxState = 0x6;      // xmm, ymm
constexpr uint64_t kAvx512State = 0xe6;  // these, masks and zmm

// CpuFacts::best_isa. Sets `warning` as in CpuFacts::warning.
Isa DetectIsa(std::string* warning) {
  const Registers basic = Cpuid(1, 0);
  const bool saves_state = Has(basic.ecx, 27);
  if (!saves_state) return Isa::kNone;
  const uint64_t state = EnabledState();
  const Registers extended = Cpuid(7, 0);
  const bool avx2 = (state & kAvxState) == kAvxState && Has(extended.ebx, 5) &&
                    Has(basic.ecx, 12) /* FMA */ && Has(basic.ecx, 29) /* F16C */;
  if (!avx2) return Isa::kNone;
  const bool avx512 = (state & kAvx512State) == kAvx512State && Has(extended.ebx, 16) /* F */ &&
                      Has(extended.ebx, 17) /* DQ */ && Has(extended.ebx, 30) /* BW */ &&
                      Has(extended.ebx, 31) /* VL */;
  if (!avx512) return Isa::kAvx2;
  if (MayUseAmx()) return Isa::kAmx;
  return MayUseDots(warning) ? Isa::kAvx512Bf16 : Isa::kAvx512;
}

std::string ProcessorModel() {
  char name[49] = {};
  for (uint32_t i = 0; i < 3; ++i) {
    const Registers r = Cpuid(0x80000002 + i, 0);
    std::memcpy(name + 16 * i, &r, sizeof(r));
  }
  return name;
}

}  // namespace

const char* IsaName(Isa isa) {
  switch (isa) {
    case Isa::kNone:
      return "none";
    case Isa::kAvx2:
      return "avx2";
    case Isa::kAvx512:
      return "avx512";
    case Isa::kAvx512Bf16:
      return "avx512_bf16";
    case Isa::kAmx:
      return "amx";
  }
  return "?";
}

bool DotsPay() {
  using std::chrono::steady_clock;
  const auto time_of = [](void (*add)(int64_t rounds)) {
    const auto begin = steady_clock::now();
    add(500);
    return steady_clock::now() - begin;
  };
  auto dots = steady_clock::duration::max(), fmas = dots;
  // The minimum of several runs: the processor changes its clock, and other threads interrupt.
  for (int i = 0; i < 12; ++i) {
    dots = std::min(dots, time_of(AddDots));
    fmas = std::min(fmas, time_of(AddFmas));
  }
  // VDPBF16PS replaces two FMAs and the unpacking of their elements, and therefore wins if it takes
  // less than 2.5 times as long as one FMA.
  return 2 * dots < 5 * fmas;
}

Isa FastestIsa(Isa best, bool (*dots_pay)()) {
  return best == Isa::kAvx512Bf16 && !dots_pay() ? Isa::kAvx512 : best;
}

CpuFacts ReadCpuFacts() {
  CpuFacts facts;
  facts.best_isa = DetectIsa(&facts.warning);
  facts.fastest_isa = FastestIsa(facts.best_isa, DotsPay);
  facts.model = ProcessorModel();
  return facts;
}

}  // namespace baram::cpu
