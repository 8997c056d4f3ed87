// Tiles in memory, and the AMX instructions on them, implemented with AVX-512.
#include "kernels/cpu/emulation/amx.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace baram::cpu::emulation {
namespace {

constexpr int kTiles = 8;  // this and the next two are those of palette 1
constexpr int kMaxRows = 16;
constexpr int kMaxRowBytes = 64;
constexpr int kMaxPairs = kMaxRowBytes / 4;

// Bytes past the configured shape are zero.
struct Tile {
  alignas(64) uint8_t data[kMaxRows][kMaxRowBytes];
  int rows;  // 0: the configuration does not have this tile
  int row_bytes;
};

struct State {
  bool configured;
  Tile tiles[kTiles];
};
thread_local State state;

// The operand of LDTILECFG.
struct Config {
  uint8_t palette;
  uint8_t start_row;
  uint8_t reserved[14];
  uint16_t row_bytes[16];
  uint8_t rows[16];
};
static_assert(sizeof(Config) == 64);

[[noreturn]] void Fault(const char* sentence) {
  std::fprintf(stderr, "emulated AMX: %s\n", sentence);
  std::abort();
}

void Require(bool holds, const char* sentence) {
  if (!holds) Fault(sentence);
}

Tile& TileAt(int tile) {
  Require(state.configured, "#UD, tiles are not configured on this thread");
  Require(tile >= 0 && tile < kTiles && state.tiles[tile].rows > 0, "#UD, there is no such tile");
  return state.tiles[tile];
}

// Plain accesses, so that the address sanitizer sees them.
void CopyRow(uint8_t* to, const uint8_t* from, int bytes) {
  if (bytes == kMaxRowBytes) {
    _mm512_storeu_si512(to, _mm512_loadu_si512(from));
  } else {
    std::memcpy(to, from, bytes);
  }
}

// Both operands as fp32, with the even and odd elements of pairs separated.
struct Operands {
  alignas(64) float a_even[kMaxRows][kMaxPairs];
  alignas(64) float a_odd[kMaxRows][kMaxPairs];
  alignas(64) float b_even[kMaxPairs][kMaxPairs];
  alignas(64) float b_odd[kMaxPairs][kMaxPairs];
};

void Split(const uint8_t* pairs, float* even, float* odd) {
  const __m512i bits = _mm512_load_si512(pairs);
  const __m512i high = _mm512_set1_epi32(static_cast<int>(0xffff0000u));
  _mm512_store_si512(even, _mm512_slli_epi32(bits, 16));
  _mm512_store_si512(odd, _mm512_and_si512(bits, high));
}

// Rows multiplied at a time: their chains hide the latency of an FMA.
constexpr int kRowsAtOnce = 8;

// Not inlined: the compiler does not know that arithmetic depends on the mode set around the call.
__attribute__((noinline)) void Multiply(const Operands& operands, int pairs, int rows,
                                        int row_bytes, Tile& sums) {
  const auto columns = static_cast<__mmask16>((1u << (row_bytes / 4)) - 1);
  for (int first = 0; first < rows; first += kRowsAtOnce) {
    __m512 even[kRowsAtOnce], odd[kRowsAtOnce];
    for (int r = 0; r < kRowsAtOnce; ++r) even[r] = odd[r] = _mm512_setzero_ps();
    for (int k = 0; k < pairs; ++k) {
      const __m512 b_even = _mm512_load_ps(operands.b_even[k]);
      const __m512 b_odd = _mm512_load_ps(operands.b_odd[k]);
      for (int r = 0; r < kRowsAtOnce; ++r) {
        even[r] = _mm512_fmadd_ps(_mm512_set1_ps(operands.a_even[first + r][k]), b_even, even[r]);
        odd[r] = _mm512_fmadd_ps(_mm512_set1_ps(operands.a_odd[first + r][k]), b_odd, odd[r]);
      }
    }
    for (int r = 0; r < kRowsAtOnce && first + r < rows; ++r) {
      auto* row = reinterpret_cast<float*>(sums.data[first + r]);
      const __m512 sum = _mm512_add_ps(_mm512_load_ps(row), _mm512_add_ps(even[r], odd[r]));
      _mm512_store_ps(row, _mm512_maskz_mov_ps(columns, sum));
    }
  }
}

}  // namespace

void LoadConfig(const void* config) {
  Config wanted;
  std::memcpy(&wanted, config, sizeof(wanted));
  std::memset(&state, 0, sizeof(state));
  if (wanted.palette == 0) return;
  Require(wanted.palette == 1, "#GP, there is no such palette");
  Require(wanted.start_row == 0, "start_row is not emulated");
  for (const uint8_t byte : wanted.reserved) Require(byte == 0, "#GP, reserved bytes are not zero");
  for (int i = 0; i < 16; ++i) {
    const int rows = wanted.rows[i], row_bytes = wanted.row_bytes[i];
    Require(i < kTiles || (rows == 0 && row_bytes == 0), "#GP, the palette has 8 tiles");
    Require(rows <= kMaxRows && row_bytes <= kMaxRowBytes, "#GP, a tile is 16 x 64 bytes at most");
    Require((rows == 0) == (row_bytes == 0), "#GP, a tile has rows but no bytes, or the reverse");
    if (i < kTiles) {
      state.tiles[i].rows = rows;
      state.tiles[i].row_bytes = row_bytes;
    }
  }
  state.configured = true;
}

void ZeroTile(int tile) { std::memset(TileAt(tile).data, 0, sizeof(Tile::data)); }

void LoadTile(int tile, const void* from, int64_t stride) {
  Tile& to = TileAt(tile);
  const auto* row = static_cast<const uint8_t*>(from);
  if (to.rows < kMaxRows) std::memset(to.data, 0, sizeof(to.data));
  for (int r = 0; r < to.rows; ++r) {
    _mm512_store_si512(to.data[r], _mm512_setzero_si512());
    CopyRow(to.data[r], row + r * stride, to.row_bytes);
  }
}

void StoreTile(int tile, void* to, int64_t stride) {
  const Tile& from = TileAt(tile);
  auto* row = static_cast<uint8_t*>(to);
  for (int r = 0; r < from.rows; ++r) CopyRow(row + r * stride, from.data[r], from.row_bytes);
}

void DotBF16(int sums, int a, int b) {
  Require(sums != a && sums != b && a != b, "#UD, the three tiles are not different ones");
  Tile& to = TileAt(sums);
  const Tile& left = TileAt(a);
  const Tile& right = TileAt(b);
  Require(to.row_bytes % 4 == 0 && left.row_bytes % 4 == 0 && right.row_bytes % 4 == 0,
          "#UD, rows are not whole pairs");
  Require(
      left.rows == to.rows && right.row_bytes == to.row_bytes && left.row_bytes / 4 == right.rows,
      "#UD, the shapes of the tiles do not fit together");
  Operands operands;
  for (int r = 0; r < kMaxRows; ++r) Split(left.data[r], operands.a_even[r], operands.a_odd[r]);
  for (int k = 0; k < right.rows; ++k) Split(right.data[k], operands.b_even[k], operands.b_odd[k]);
  const unsigned mode = _mm_getcsr();
  _mm_setcsr(0x9fc0);  // denormals are zero, nothing traps, to nearest even
  Multiply(operands, right.rows, to.rows, to.row_bytes, to);
  _mm_setcsr(mode);
}

}  // namespace baram::cpu::emulation
