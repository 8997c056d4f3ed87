// The kernels for AVX-512 with its bf16 products (AVX512_BF16).
#define BARAM_VECTOR_BITS 512
#define BARAM_CHAINS "kernels/cpu/chains_bf16.inc"
#include "kernels/cpu/lanes.inc"

namespace baram::cpu {
namespace {

// A product of two words, added to a sum, and what the order of sums makes of it.
struct KnownDot {
  float sum;
  uint32_t a, b;  // the high half counts first
  float expected;
};

constexpr uint32_t Pair(uint16_t high, uint16_t low) { return uint32_t{high} << 16 | low; }

// bf16
constexpr uint16_t kOne = 0x3f80, kMinusOne = 0xbf80, kOneAndHalf = 0x3fc0;
constexpr uint16_t kTwoTo24 = 0x4b80, kTwoToMinus64 = 0x1f80, kDenormal = 0x0040;

constexpr KnownDot kKnownDots[] = {
    {0x1p24f, Pair(kOne, kOne), Pair(kOne, kOne), 0x1p24f},        // rounds after each product
    {0x1p24f, Pair(kOne, kTwoTo24), Pair(kOne, kMinusOne), 0.0f},  // the high one first
    {0x1p24f, Pair(kOneAndHalf, 0), Pair(kOne, 0), 0x1p24f + 2},   // to nearest
    {0x1p25f, Pair(kOne, 0), Pair(kMinusOne, 0), 0x1p25f},         // ties to even
    {0.0f, Pair(kDenormal, 0), Pair(kTwoTo24, 0), 0.0f},           // denormals are zero,
    {0x1p-127f, Pair(0, 0), Pair(0, 0), 0.0f},                     // also as sums
    {0.0f, Pair(kTwoToMinus64, 0), Pair(kTwoToMinus64, 0), 0.0f},  // and as results,
    {0x1p-126f, Pair(kTwoToMinus64, 0), Pair(kTwoToMinus64, 0), 0x1.4p-126f},  // not as products
};

}  // namespace

bool DotsFollowTheOrder() {
  for (const KnownDot& known : kKnownDots) {
    // Not folded by the compiler, which does not know what denormals are here.
    float sum = known.sum;
    uint32_t a = known.a, b = known.b;
    asm volatile("" : "+m"(sum), "+m"(a), "+m"(b));
    if (FirstLane(Chain(a, SetBits(b), Set(sum))) != known.expected) return false;
  }
  return true;
}

const KernelTable kAvx512Bf16Kernels = LanesTable("avx512_bf16");

}  // namespace baram::cpu
