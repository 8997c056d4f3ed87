// MayUseDots and MayUseAmx for the real processor. In its own file so that emulation/ can replace
// it.
#include <sys/syscall.h>
#include <unistd.h>

#include "kernels/cpu/cpuid.h"
#include "kernels/cpu/kernel_table.h"

namespace baram::cpu {
namespace {

constexpr uint64_t kAmxState = 0x60000;  // tile configuration, tile data

bool AllowAmx() {
  constexpr int kRequestPermission = 0x1023;  // ARCH_REQ_XCOMP_PERM
  constexpr int kTileData = 18;               // XFEATURE_XTILEDATA
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

}  // namespace

bool MayUseDots(std::string* problem) {
  if (!Has(Cpuid(7, 1).eax, 5)) return false;
  if (DotsFollowTheOrder()) return true;
  *problem = "this processor's VDPBF16PS does not round as it should: not used";
  return false;
}

bool MayUseAmx() {
  const Registers extended = Cpuid(7, 0);
  const bool has = (EnabledState() & kAmxState) == kAmxState && Has(extended.edx, 22) /* BF16 */ &&
                   Has(extended.edx, 24) /* TILE */ && Has(Cpuid(7, 1).eax, 5) /* AVX512_BF16 */;
  return has && AllowAmx();
}

}  // namespace baram::cpu
