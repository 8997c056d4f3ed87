// The emulated instructions: AMX against Intel's manual, restated in scalar code, and VDPBF16PS by
// the check that real processors must pass.
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "kernels/cpu/bf16_dot.h"
#include "kernels/cpu/cpu_facts.h"
#include "kernels/cpu/emulation/amx.h"
#include "kernels/cpu/kernel_table.h"
#include "kernels/device.h"
#include "kernels/float_types.h"

namespace baram::cpu::emulation {
namespace {

struct Config {
  uint8_t palette = 1;
  uint8_t start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t row_bytes[16] = {};
  uint8_t rows[16] = {};

  Config& Tile(int tile, int rows_wanted, int bytes) {
    rows[tile] = static_cast<uint8_t>(rows_wanted);
    row_bytes[tile] = static_cast<uint16_t>(bytes);
    return *this;
  }
};

class IsaEmulation : public testing::Test {
 protected:
  void SetUp() override {
    if (ReadCpuFacts().best_isa < Isa::kAvx512) GTEST_SKIP() << "no AVX-512 here";
    GTEST_FLAG_SET(death_test_style, "threadsafe");
  }
  void TearDown() override { _mm_setcsr(0x1f80); }
};

// `bytes` bytes of memory to which only a tile was written.
std::vector<uint8_t> Stored(int tile, int64_t stride, int64_t bytes) {
  std::vector<uint8_t> memory(bytes, 0xee);
  StoreTile(tile, memory.data(), stride);
  return memory;
}

TEST_F(IsaEmulation, MovesTheConfiguredShapeAndNothingElse) {
  Config config;
  config.Tile(0, 3, 8).Tile(5, 16, 64);
  LoadConfig(&config);
  std::vector<uint8_t> memory(2 * 100 + 8);  // three rows of 8 bytes, 100 apart, and no byte more
  for (size_t i = 0; i < memory.size(); ++i) memory[i] = static_cast<uint8_t>(i);
  LoadTile(0, memory.data(), 100);
  const std::vector<uint8_t> stored = Stored(0, 20, 64);
  for (int i = 0; i < 64; ++i) {
    const int row = i / 20, byte = i % 20;
    EXPECT_EQ(stored[i], row < 3 && byte < 8 ? memory[row * 100 + byte] : 0xee) << i;
  }
  ZeroTile(0);
  EXPECT_EQ(Stored(0, 8, 24), std::vector<uint8_t>(24, 0));

  std::vector<uint8_t> full(1024);
  for (size_t i = 0; i < full.size(); ++i) full[i] = static_cast<uint8_t>(i * 7);
  LoadTile(5, full.data(), 64);
  EXPECT_EQ(Stored(5, 64, 1024), full);
  LoadConfig(&config);
  EXPECT_EQ(Stored(5, 64, 1024), std::vector<uint8_t>(1024, 0)) << "configuring zeroes the tiles";
}

float Flush(float x) { return std::fpclassify(x) == FP_SUBNORMAL ? std::copysign(0.0f, x) : x; }

// Normal numbers, some with denormal products and sums, and denormals.
uint16_t Draw(std::mt19937& random, int smallest_exponent) {
  const float x = std::normal_distribution<float>()(random);
  const int exponent = std::uniform_int_distribution<int>(smallest_exponent, 3)(random);
  return BF16FromF32(std::ldexp(x, exponent));
}

// rows x columns sums over `pairs` pairs, as in the manual's pseudocode.
void ExpectManualsBits(int rows, int pairs, int columns, int smallest_exponent) {
  SCOPED_TRACE(testing::Message() << rows << " x " << pairs << " x " << columns
                                  << ", exponents from " << smallest_exponent);
  std::mt19937 random(static_cast<uint32_t>(rows * 10000 + pairs * 100 + columns));
  std::vector<uint16_t> a(rows * pairs * 2), b(pairs * columns * 2);
  for (uint16_t& x : a) x = Draw(random, smallest_exponent);
  for (uint16_t& x : b) x = Draw(random, smallest_exponent);
  std::vector<float> sums(rows * columns);
  for (float& x : sums) x = F32FromBF16(Draw(random, smallest_exponent));
  Config config;
  config.Tile(2, rows, columns * 4).Tile(4, rows, pairs * 4).Tile(7, pairs, columns * 4);
  LoadConfig(&config);
  LoadTile(2, sums.data(), columns * 4);
  LoadTile(4, a.data(), pairs * 4);
  LoadTile(7, b.data(), columns * 4);
  const uint32_t upward = 0x5f80;  // rounds up, keeps denormals, masks all exceptions
  _mm_setcsr(upward);
  DotBF16(2, 4, 7);
  const uint32_t mode = _mm_getcsr();
  _mm_setcsr(0x1f80);
  EXPECT_EQ(mode, upward);
  std::vector<float> got(sums.size());
  StoreTile(2, got.data(), columns * 4);
  for (int m = 0; m < rows; ++m) {
    for (int n = 0; n < columns; ++n) {
      float chains[2] = {0, 0};
      for (int k = 0; k < pairs; ++k) {
        for (int half = 0; half < 2; ++half) {
          const float x = Flush(F32FromBF16(a[(m * pairs + k) * 2 + half]));
          const float y = Flush(F32FromBF16(b[(k * columns + n) * 2 + half]));
          chains[half] = Flush(std::fma(x, y, chains[half]));
        }
      }
      const float sum = Flush(Flush(sums[m * columns + n]) + Flush(chains[0] + chains[1]));
      EXPECT_EQ(std::bit_cast<uint32_t>(got[m * columns + n]), std::bit_cast<uint32_t>(sum))
          << m << ", " << n;
    }
  }
}

TEST_F(IsaEmulation, MultipliesAsTheManualSays) {
  for (const int exponent : {-1, -68, -135}) {
    ExpectManualsBits(16, 16, 16, exponent);
    ExpectManualsBits(1, 1, 1, exponent);
    ExpectManualsBits(7, 5, 11, exponent);
    ExpectManualsBits(9, 16, 3, exponent);
    ExpectManualsBits(16, 2, 16, exponent);
  }
}

// What the processor would reject too.
TEST_F(IsaEmulation, FaultsWhereTheProcessorWould) {
  const auto faults = [](Config config, const char* sentence) {
    EXPECT_DEATH(LoadConfig(&config), sentence);
  };
  faults(Config{.palette = 2}, "#GP, there is no such palette");
  faults(Config{.reserved = {0, 1}}, "#GP, reserved bytes");
  faults(Config().Tile(8, 1, 4), "#GP, the palette has 8 tiles");
  faults(Config().Tile(0, 17, 64), "#GP, a tile is 16 x 64 bytes at most");
  faults(Config().Tile(0, 16, 65), "#GP, a tile is 16 x 64 bytes at most");
  faults(Config().Tile(0, 16, 0), "#GP, a tile has rows but no bytes");

  const Config config = Config().Tile(0, 16, 64).Tile(1, 16, 64).Tile(2, 16, 64).Tile(3, 8, 64);
  EXPECT_DEATH(std::thread([] { ZeroTile(0); }).join(), "#UD, tiles are not configured");
  LoadConfig(&config);
  EXPECT_DEATH(std::thread([] { ZeroTile(0); }).join(), "#UD, tiles are not configured");
  EXPECT_DEATH(ZeroTile(4), "#UD, there is no such tile");
  EXPECT_DEATH(DotBF16(0, 1, 1), "#UD, the three tiles");
  EXPECT_DEATH(DotBF16(0, 1, 3), "#UD, the shapes of the tiles");
  EXPECT_DEATH(DotBF16(3, 1, 2), "#UD, the shapes of the tiles");
  DotBF16(0, 1, 2);
  const Config released{.palette = 0};
  LoadConfig(&released);
  EXPECT_DEATH(ZeroTile(0), "#UD, tiles are not configured");
}

// The engine sizes a step by that.
TEST_F(IsaEmulation, OnlyAmxHasMatrixUnits) {
  for (const std::string isa : {"avx512", "avx512_bf16", "amx"}) {
    std::string error;
    const auto device = OpenDevice("cpu", {.threads = 1, .isa = isa}, &error);
    ASSERT_NE(device, nullptr) << error;
    EXPECT_EQ(device->Info().isa, isa);
    EXPECT_EQ(device->Info().matrix_units, isa == "amx") << isa;
  }
}

TEST_F(IsaEmulation, Bf16DotFollowsTheOrderWithDenormalsOff) {
  kAvx512Bf16Kernels.enter_thread();
  EXPECT_TRUE(Bf16DotFollowsOrder());
  _mm_setcsr(0x1f80);
  EXPECT_FALSE(Bf16DotFollowsOrder()) << "the check sees denormals that are not flushed";
}

}  // namespace
}  // namespace baram::cpu::emulation
