// Ballot, mma.sync and ldmatrix, with the operand layouts of the PTX manual.
#include "kernels/cuda/emulation/collectives.h"

#include <cstring>

#include "kernels/float_types.h"

namespace baram::cuda::emulation {
namespace {

struct MmaOperands {
  float* d;
  const uint32_t* a;
  const uint32_t* b;
};

float Element(uint32_t packed, int half) {
  return F32FromBF16(static_cast<uint16_t>(packed >> (16 * half)));
}

// Eight columns at a time: the emulation of products spends most of its time here.
using MmaRow = float __attribute__((vector_size(8 * sizeof(float))));

void CombineMma(const WarpMeeting& meeting) {
  float a[16][16];
  MmaRow b[16];
  MmaRow d[16];
  for (int lane = 0; lane < kWarpLanes; ++lane) {
    Check(meeting.in[lane] != nullptr, "all lanes of a warp multiply together");
    const auto* operands = static_cast<const MmaOperands*>(meeting.in[lane]);
    const int g = lane / 4;
    const int t = lane % 4;
    for (int half = 0; half < 2; ++half) {
      for (int i = 0; i < 4; ++i) {
        a[g + 8 * (i % 2)][2 * t + 8 * (i / 2) + half] = Element(operands->a[i], half);
      }
      for (int i = 0; i < 2; ++i) b[2 * t + 8 * i + half][g] = Element(operands->b[i], half);
    }
    for (int i = 0; i < 4; ++i) d[g + 8 * (i / 2)][2 * t + i % 2] = operands->d[i];
  }
  for (int row = 0; row < 16; ++row) {
    MmaRow sums = d[row];
    for (int k = 0; k < 16; ++k) sums += a[row][k] * b[k];
    d[row] = sums;
  }
  for (int lane = 0; lane < kWarpLanes; ++lane) {
    const auto* operands = static_cast<const MmaOperands*>(meeting.in[lane]);
    for (int i = 0; i < 4; ++i) {
      operands->d[i] = d[lane / 4 + 8 * (i / 2)][2 * (lane % 4) + i % 2];
    }
  }
}

struct MatrixOperands {
  const void* row;
  uint32_t* out;
  bool transposed;
};

void CombineLoads(const WarpMeeting& meeting) {
  uint16_t elements[4][8][8];
  for (int lane = 0; lane < kWarpLanes; ++lane) {
    Check(meeting.in[lane] != nullptr, "all lanes of a warp load matrices together");
    const auto* operands = static_cast<const MatrixOperands*>(meeting.in[lane]);
    CheckAligned(operands->row, 16);
    std::memcpy(elements[lane / 8][lane % 8], operands->row, sizeof(elements[0][0]));
  }
  for (int lane = 0; lane < kWarpLanes; ++lane) {
    const auto* operands = static_cast<const MatrixOperands*>(meeting.in[lane]);
    const int line = lane / 4;
    const int first = 2 * (lane % 4);
    for (int m = 0; m < 4; ++m) {
      const uint16_t low =
          operands->transposed ? elements[m][first][line] : elements[m][line][first];
      const uint16_t high =
          operands->transposed ? elements[m][first + 1][line] : elements[m][line][first + 1];
      operands->out[m] = low | uint32_t{high} << 16;
    }
  }
}

}  // namespace

uint32_t Ballot(uint32_t mask, bool holds, std::source_location where) {
  uint32_t bits = 0;
  const auto combine = [](const WarpMeeting& meeting) {
    uint32_t bits = 0;
    for (int lane = 0; lane < kWarpLanes; ++lane) {
      if (meeting.in[lane] == nullptr) continue;
      bits |= uint32_t{*static_cast<const bool*>(meeting.in[lane])} << lane;
    }
    for (void* out : meeting.out) {
      if (out != nullptr) *static_cast<uint32_t*>(out) = bits;
    }
  };
  MeetWarp(mask, &holds, &bits, combine, where);
  return bits;
}

void MmaBf16(uint32_t mask, float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
             std::source_location where) {
  const MmaOperands operands{d, a, b};
  MeetWarp(mask, &operands, nullptr, CombineMma, where);
}

void LoadMatrices(uint32_t mask, uint32_t (&out)[4], const void* row, bool transposed,
                  std::source_location where) {
  const MatrixOperands operands{row, out, transposed};
  MeetWarp(mask, &operands, nullptr, CombineLoads, where);
}

}  // namespace baram::cuda::emulation
