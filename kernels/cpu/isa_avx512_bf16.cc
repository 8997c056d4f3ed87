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

// Adds `rounds` products to each of more sums than are under way at a time.
template <typename Product>
void AddProducts(int64_t rounds, const Product& product) {
  F32 sums[12] = {};
  // Not known to be equal, nor unneeded.
  for (F32& sum : sums) asm volatile("" : "+v"(sum));
  for (int64_t round = 0; round < rounds; ++round) {
    for (F32& sum : sums) sum = product(sum);
  }
  for (F32& sum : sums) asm volatile("" : "+v"(sum));
}

}  // namespace

void AddDots(int64_t rounds) {
  U32 ones = SetBits(Pair(kOne, kOne));
  asm volatile("" : "+v"(ones));
  AddProducts(rounds, [ones](F32 sum) { return Chain(Pair(kOne, kOne), ones, sum); });
}

void AddFmas(int64_t rounds) {
  F32 one = Set(1.0f);
  asm volatile("" : "+v"(one));
  AddProducts(rounds, [one](F32 sum) { return Fma(one, one, sum); });
}

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
