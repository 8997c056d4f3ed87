// Support by the processor itself and by the system. In its own file so that emulation/ can replace
// it.
#include "kernels/cpu/cpu_features.h"

#include <sys/syscall.h>
#include <unistd.h>

#include "kernels/cpu/bf16_dot.h"
#include "kernels/cpu/cpuid.h"

namespace baram::cpu {
namespace {

constexpr uint64_t kAmxState = 0x60000;  // tile configuration, tile data

bool AllowAmx() {
  constexpr int kRequestPermission = 0x1023;  // ARCH_REQ_XCOMP_PERM
  constexpr int kTileData = 18;               // XFEATURE_XTILEDATA
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

}  // namespace

bool HasAvx512Bf16(std::string* problem) {
  if (!Has(Cpuid(7, 1).eax, 5)) return false;
  if (Bf16DotFollowsOrder()) return true;
  *problem = "this processor's avx512_bf16 does not round as it should: it is not used";
  return false;
}

bool HasAmx() {
  const Registers extended = Cpuid(7, 0);
  const bool has = (EnabledState() & kAmxState) == kAmxState && Has(extended.edx, 22) /* BF16 */ &&
                   Has(extended.edx, 24) /* TILE */ && Has(Cpuid(7, 1).eax, 5) /* AVX512_BF16 */;
  return has && AllowAmx();
}

}  // namespace baram::cpu
