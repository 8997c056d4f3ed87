// The layout of weights on the CPU: one for every instruction set, chosen so that an AMX tile of
// W^T is 1 KiB of adjacent memory.
//
// W[n, k] becomes panels of 16 output features. A panel holds, for every pair of input features,
// the pairs of its 16 outputs side by side, as TDPBF16PS and fp32 FMAs on 16 lanes both want them:
//   packed[n / 16][k / 2][n % 16][k % 2]   bf16
// k is padded with zeros to a multiple of kBlockK, n to one of kPanelColumns. A panel is read from
// front to back.
#ifndef BARAM_KERNELS_CPU_PACK_H_
#define BARAM_KERNELS_CPU_PACK_H_

#include <cstdint>

#include "kernels/cpu/jobs.h"
#include "kernels/device.h"

namespace baram::cpu {

constexpr int64_t PanelBytes(int64_t padded_k) { return kPanelColumns * padded_k * 2; }

int64_t PackedWeightBytes(const WeightShape& shape);

// See Device::PackWeight. Values round to the nearest bf16, ties to even.
void PackRows(const WeightShape& shape, const HostRows& source, int64_t row_begin, void* packed);

WeightView ViewOf(const PackedWeight& weight);

}  // namespace baram::cpu

#endif  // BARAM_KERNELS_CPU_PACK_H_
