// The host's roof kernels. Each is compiled for its own instruction set and runs only if the device
// under test was opened with it.
#include "bench/host_roofs.h"

#include <immintrin.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <barrier>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <functional>
#include <thread>
#include <vector>

namespace baram::bench {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int64_t kReadBytes = int64_t{1} << 30;  // several times any last-level cache
constexpr int64_t kHugePage = int64_t{2} << 20;
constexpr int kRepeats = 5;

// Seconds of the fastest of kRepeats runs of body(thread) on all threads at once. The threads are
// new, so that the AMX state a kernel leaves ends with them: the device under test may have set up
// the caller's.
double FastestSeconds(int threads, const std::function<void(int)>& body) {
  Clock::time_point mark;
  double fastest = 1e30;
  bool started = false;
  std::barrier barrier(threads, [&]() noexcept {
    const Clock::time_point now = Clock::now();
    if (started) fastest = std::min(fastest, std::chrono::duration<double>(now - mark).count());
    started = !started;
    mark = now;
  });
  std::vector<std::thread> all;
  const auto run = [&](int thread) {
    body(thread);  // first touch and clock ramp
    for (int repeat = 0; repeat < kRepeats; ++repeat) {
      barrier.arrive_and_wait();
      body(thread);
      barrier.arrive_and_wait();
    }
  };
  for (int thread = 0; thread < threads; ++thread) all.emplace_back(run, thread);
  for (std::thread& thread : all) thread.join();
  return fastest;
}

// Loops over arrays of vectors are unrolled explicitly: -O2 alone would keep the loops, and the
// arrays in memory, and the roof would be the latency of a store and a load.

// Two streams, each prefetched this far ahead: 1.13 times as fast as one stream with 8 KiB, which
// was 1.08 times as fast as the hardware prefetchers alone.
constexpr int64_t kPrefetchBytes = 2048;

__attribute__((target("avx2"))) int ReadAll(const char* data, int64_t bytes) {
  __m256i sums[8] = {};
  for (int64_t i = 0; i < bytes / 2; i += 256) {
    for (const char* stream : {data + i, data + bytes / 2 + i}) {
#pragma GCC unroll 4
      for (int j = 0; j < 4; ++j) _mm_prefetch(stream + kPrefetchBytes + 64 * j, _MM_HINT_T1);
#pragma GCC unroll 8
      for (int j = 0; j < 8; ++j) {
        const __m256i* address = reinterpret_cast<const __m256i*>(stream + 32 * j);
        sums[j] = _mm256_xor_si256(sums[j], _mm256_load_si256(address));
      }
    }
  }
  for (int j = 1; j < 8; ++j) sums[0] = _mm256_xor_si256(sums[0], sums[j]);
  return _mm256_extract_epi32(sums[0], 0);
}

// Twelve chains hide the latency of four to five cycles at two per cycle. The empty asm statements
// keep the compiler from optimizing the loop away. Returns flops.
__attribute__((target("avx2,fma"))) double FmaAvx2(int64_t rounds) {
  __m256 sums[12];
#pragma GCC unroll 12
  for (int j = 0; j < 12; ++j) sums[j] = _mm256_setzero_ps();
  __m256 a = _mm256_set1_ps(0.5f);
  for (int64_t i = 0; i < rounds; ++i) {
#pragma GCC unroll 12
    for (int j = 0; j < 12; ++j) {
      sums[j] = _mm256_fmadd_ps(a, a, sums[j]);
      asm volatile("" : "+x"(sums[j]));
    }
  }
  return static_cast<double>(rounds) * 12 * 16;
}

__attribute__((target("avx512f"))) double FmaAvx512(int64_t rounds) {
  __m512 sums[12];
#pragma GCC unroll 12
  for (int j = 0; j < 12; ++j) sums[j] = _mm512_setzero_ps();
  __m512 a = _mm512_set1_ps(0.5f);
  for (int64_t i = 0; i < rounds; ++i) {
#pragma GCC unroll 12
    for (int j = 0; j < 12; ++j) {
      sums[j] = _mm512_fmadd_ps(a, a, sums[j]);
      asm volatile("" : "+v"(sums[j]));
    }
  }
  return static_cast<double>(rounds) * 12 * 32;
}

__attribute__((target("avx512f,avx512bf16"))) double DotAvx512(int64_t rounds) {
  __m512 sums[12];
#pragma GCC unroll 12
  for (int j = 0; j < 12; ++j) sums[j] = _mm512_setzero_ps();
  const __m512bh a = (__m512bh)_mm512_set1_epi32(0x3f003f00);  // 0.5
  for (int64_t i = 0; i < rounds; ++i) {
#pragma GCC unroll 12
    for (int j = 0; j < 12; ++j) {
      sums[j] = _mm512_dpbf16_ps(sums[j], a, a);
      asm volatile("" : "+v"(sums[j]));
    }
  }
  return static_cast<double>(rounds) * 12 * 64;
}

// Four accumulators from two by two operand tiles, as in a GEMM: nonzero values, loaded from L1.
// What the tiles hold and where they come from does not change the cycles, 16 per product, but the
// clock: these ran at 2.8 to 2.9 GHz, zeros that stay in registers at 3.55 GHz, other code at 4.
__attribute__((target("amx-tile,amx-bf16"))) double AmxBf16(int64_t rounds) {
  struct alignas(64) {
    uint8_t palette = 1, start_row = 0, reserved[14] = {};
    uint16_t column_bytes[16] = {};
    uint8_t rows[16] = {};
  } config;
  for (int tile = 0; tile < 8; ++tile) {
    config.column_bytes[tile] = 64;
    config.rows[tile] = 16;
  }
  constexpr int64_t kTile = 512;
  constexpr int64_t kOperands = 32 * kTile;
  alignas(64) uint16_t operands[kOperands];
  for (uint32_t i = 0, random = 1; i < kOperands; ++i) {
    random = random * 1664525 + 1013904223;
    operands[i] = 0x3f00 | (random >> 16 & 0x807f);  // +-0.5 to +-1
  }
  // gcc 12 assumes that loadconfig reads 8 bytes and that tile loads read nothing.
  asm volatile("" ::"r"(&config), "r"(operands) : "memory");
  _tile_loadconfig(&config);
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  for (int64_t i = 0; i < rounds; ++i) {
    const uint16_t* step = operands + i % 8 * 4 * kTile;
    _tile_loadd(4, step, 64);
    _tile_loadd(6, step + 2 * kTile, 64);
    _tile_dpbf16ps(0, 4, 6);
    _tile_loadd(5, step + kTile, 64);
    _tile_dpbf16ps(1, 5, 6);
    _tile_loadd(7, step + 3 * kTile, 64);
    _tile_dpbf16ps(2, 4, 7);
    _tile_dpbf16ps(3, 5, 7);
  }
  _tile_release();
  return static_cast<double>(rounds) * 4 * 16 * 16 * 32 * 2;
}

bool MayUseAmx() {
  constexpr int kRequestPermission = 0x1023;  // ARCH_REQ_XCOMP_PERM
  constexpr int kTileData = 18;
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

}  // namespace

Roofs MeasureHostRoofs(int threads, const std::string& isa) {
  Roofs roofs;
  {
    std::vector<char*> parts(threads);
    // In huge pages, like weights and caches: 1.4 times as fast as in small ones.
    const int64_t part_bytes = std::max(kReadBytes / threads / kHugePage, int64_t{1}) * kHugePage;
    for (char*& part : parts) {
      part = static_cast<char*>(std::aligned_alloc(kHugePage, part_bytes));
      madvise(part, part_bytes, MADV_HUGEPAGE);
      std::memset(part, 1, part_bytes);
    }
    std::vector<int> sink(threads * 16);  // a line each
    const double seconds = FastestSeconds(
        threads, [&](int thread) { sink[thread * 16] += ReadAll(parts[thread], part_bytes); });
    roofs.read_bytes_per_s = static_cast<double>(part_bytes) * threads / seconds;
    for (char* part : parts) std::free(part);
  }
  constexpr int64_t kFmaRounds = 10'000'000;
  constexpr int64_t kAmxRounds = 1'000'000;
  double (*kernel)(int64_t) = FmaAvx2;
  int64_t rounds = kFmaRounds;
  roofs.flops_unit = "avx2-fma";
  if (isa == "amx" && MayUseAmx()) {
    kernel = AmxBf16;
    rounds = kAmxRounds;
    roofs.flops_unit = "amx-bf16";
  } else if (isa == "avx512_bf16") {
    kernel = DotAvx512;
    roofs.flops_unit = "avx512-bf16";
  } else if (isa == "amx" || isa == "avx512") {
    kernel = FmaAvx512;
    roofs.flops_unit = "avx512-fma";
  }
  std::vector<double> flops(threads * 8);  // a line each
  const double seconds =
      FastestSeconds(threads, [&](int thread) { flops[thread * 8] = kernel(rounds); });
  roofs.flops_per_s = static_cast<double>(threads) * flops[0] / seconds;
  return roofs;
}

}  // namespace baram::bench
