// The layout of weights on the CPU: the same for every instruction set, chosen so that an AMX tile
// of W^T is 1 KiB of contiguous memory.
//
// W[n, k] is stored in panels of 16 output features. For every pair of input features a panel holds
// the adjacent pairs of its 16 outputs, the order that suits both TDPBF16PS and fp32 FMAs on 16
// lanes:
//   packed[n / 16][k / 2][n % 16][k % 2]   bf16
// k is padded with zeros to a multiple of kBlockK, n to a multiple of kPanelColumns. A panel is
// read sequentially.
#ifndef BARAM_KERNELS_CPU_PACK_H_
#define BARAM_KERNELS_CPU_PACK_H_

#include <cstdint>

#include "kernels/cpu/jobs.h"
#include "kernels/device.h"

namespace baram::cpu {

constexpr int64_t PanelBytes(int64_t padded_k) { return kPanelColumns * padded_k * 2; }

int64_t PackedWeightBytes(const WeightShape& shape);

// See Device::PackWeight. Values are rounded to the nearest bf16, ties to even.
void PackRows(const WeightShape& shape, const HostRows& source, int64_t row_begin, void* packed);

WeightView ViewOf(const PackedWeight& weight);

}  // namespace baram::cpu

#endif  // BARAM_KERNELS_CPU_PACK_H_
