// Reading CPUID, and choosing an instruction set.
#include "kernels/cpu/cpu_facts.h"

#include <algorithm>
#include <chrono>
#include <cstring>

#include "kernels/cpu/bf16_dot.h"
#include "kernels/cpu/cpu_features.h"
#include "kernels/cpu/cpuid.h"

namespace baram::cpu {
namespace {

constexpr uint64_t kAvxState = 0x6;      // xmm, ymm
constexpr uint64_t kAvx512State = 0xe6;  // these, masks and zmm

// CpuFacts::best_isa. Sets `bf16_problem` as in CpuFacts.
Isa DetectIsa(std::string* bf16_problem) {
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
  const bool avx512_bf16 = HasAvx512Bf16(bf16_problem);
  if (HasAmx()) return Isa::kAmx;
  return avx512_bf16 ? Isa::kAvx512Bf16 : Isa::kAvx512;
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

bool Bf16DotIsFaster() {
  using std::chrono::steady_clock;
  const auto time_of = [](void (*add)(int64_t rounds)) {
    const auto begin = steady_clock::now();
    add(500);
    return steady_clock::now() - begin;
  };
  auto dots = steady_clock::duration::max(), fmas = dots;
  // The minimum of several runs: the processor changes its clock, and other threads interrupt.
  for (int i = 0; i < 12; ++i) {
    dots = std::min(dots, time_of(RunBf16Dots));
    fmas = std::min(fmas, time_of(RunFmas));
  }
  // VDPBF16PS replaces two FMAs and the unpacking of their elements, and therefore wins if it takes
  // less than 2.5 times as long as one FMA.
  return 2 * dots < 5 * fmas;
}

Isa FastestIsa(Isa best, bool (*bf16_dot_is_faster)()) {
  return best == Isa::kAvx512Bf16 && !bf16_dot_is_faster() ? Isa::kAvx512 : best;
}

std::optional<Isa> ChooseIsa(const CpuFacts& facts, const std::string& wanted, std::string* error) {
  if (facts.best_isa == Isa::kNone) {
    *error = "the cpu device needs a processor with AVX2, FMA and F16C; this one lacks them";
    return std::nullopt;
  }
  if (wanted.empty()) return facts.fastest_isa;
  for (const Isa isa : {Isa::kAvx2, Isa::kAvx512, Isa::kAvx512Bf16, Isa::kAmx}) {
    if (wanted != IsaName(isa)) continue;
    if (isa == Isa::kAvx512Bf16 && !facts.bf16_problem.empty()) {
      *error = facts.bf16_problem;
      return std::nullopt;
    }
    if (isa <= facts.best_isa) return isa;
    *error = "this processor does not have " + wanted + "; the best it has is " +
             IsaName(facts.best_isa);
    return std::nullopt;
  }
  *error =
      "there is no instruction set \"" + wanted + "\"; choose avx2, avx512, avx512_bf16 or amx";
  return std::nullopt;
}

CpuFacts ReadCpuFacts() {
  CpuFacts facts;
  facts.best_isa = DetectIsa(&facts.bf16_problem);
  facts.fastest_isa = FastestIsa(facts.best_isa, Bf16DotIsFaster);
  facts.model = ProcessorModel();
  return facts;
}

}  // namespace baram::cpu
