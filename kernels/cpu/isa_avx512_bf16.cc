// The kernels for AVX-512 with its bf16 products (AVX512_BF16).
#define BARAM_VECTOR_BITS 512
#define BARAM_CHAINS "kernels/cpu/chains_bf16.inc"
#include "kernels/cpu/bf16_dot.h"
#include "kernels/cpu/lanes.inc"

namespace baram::cpu {
namespace {

// The product of two words, added to a sum, and the result that the summation order requires.
struct KnownDot {
  float sum;
  uint32_t a, b;  // the high halves are added first
  float expected;
};

constexpr uint32_t Pair(uint16_t high, uint16_t low) { return uint32_t{high} << 16 | low; }

// bf16
constexpr uint16_t kOne = 0x3f80, kMinusOne = 0xbf80, kOneAndHalf = 0x3fc0;
constexpr uint16_t kTwoTo24 = 0x4b80, kTwoToMinus64 = 0x1f80, kDenormal = 0x0040;

constexpr KnownDot kKnownDots[] = {
    {0x1p24f, Pair(kOne, kOne), Pair(kOne, kOne), 0x1p24f},        // rounds after each product
    {0x1p24f, Pair(kOne, kTwoTo24), Pair(kOne, kMinusOne), 0.0f},  // the high halves first
    {0x1p24f, Pair(kOneAndHalf, 0), Pair(kOne, 0), 0x1p24f + 2},   // rounds to nearest,
    {0x1p25f, Pair(kOne, 0), Pair(kMinusOne, 0), 0x1p25f},         // ties to even
    {0.0f, Pair(kDenormal, 0), Pair(kTwoTo24, 0), 0.0f},           // denormal factors are zero,
    {0x1p-127f, Pair(0, 0), Pair(0, 0), 0.0f},                     // and so are sums
    {0.0f, Pair(kTwoToMinus64, 0), Pair(kTwoToMinus64, 0), 0.0f},  // and results,
    {0x1p-126f, Pair(kTwoToMinus64, 0), Pair(kTwoToMinus64, 0), 0x1.4p-126f},  // but not products
};

// Adds `rounds` products to each of 12 sums, more than the processor keeps in flight.
template <typename Product>
void AddProducts(int64_t rounds, const Product& product) {
  F32 sums[12] = {};
  // Hides from the compiler that they are equal, and below that they are unused.
  for (F32& sum : sums) asm volatile("" : "+v"(sum));
  for (int64_t round = 0; round < rounds; ++round) {
    for (F32& sum : sums) sum = product(sum);
  }
  for (F32& sum : sums) asm volatile("" : "+v"(sum));
}

}  // namespace

void RunBf16Dots(int64_t rounds) {
  U32 ones = SetU32(Pair(kOne, kOne));
  asm volatile("" : "+v"(ones));
  AddProducts(rounds, [ones](F32 sum) { return Chain(Pair(kOne, kOne), ones, sum); });
}

void RunFmas(int64_t rounds) {
  F32 one = Set(1.0f);
  asm volatile("" : "+v"(one));
  AddProducts(rounds, [one](F32 sum) { return Fma(one, one, sum); });
}

bool Bf16DotFollowsOrder() {
  for (const KnownDot& known : kKnownDots) {
    // Prevents constant folding: the compiler does not know that denormals are zero here.
    float sum = known.sum;
    uint32_t a = known.a, b = known.b;
    asm volatile("" : "+m"(sum), "+m"(a), "+m"(b));
    if (FirstLane(Chain(a, SetU32(b), Set(sum))) != known.expected) return false;
  }
  return true;
}

const KernelTable kAvx512Bf16Kernels = LanesTable("avx512_bf16");

}  // namespace baram::cpu
