// The AMX instructions that kernels/cpu/isa_amx.cc uses, on tiles in memory, for tests on
// processors without AMX. Force-included before that file, its macros replace the compiler's
// intrinsics.
//
// Semantics follow Intel's manual. Where the processor would raise #GP or #UD, it prints a sentence
// and aborts. Every thread has its own tiles, initially not configured.
#ifndef BARAM_KERNELS_CPU_EMULATION_AMX_H_
#define BARAM_KERNELS_CPU_EMULATION_AMX_H_

#include <immintrin.h>

#include <cstdint>

namespace baram::cpu::emulation {

// LDTILECFG of the 64 bytes at `config`: palette 0 or 1, all tiles become zero. Loads that resume
// in the middle of a tile (start_row) are not emulated.
void LoadConfig(const void* config);
// TILEZERO. Tiles are 0 to 7.
void ZeroTile(int tile);
// TILELOADD: the rows and bytes that the tile is configured for, rows `stride` bytes apart; the
// rest of the tile becomes zero.
void LoadTile(int tile, const void* from, int64_t stride);
// TILESTORED: writes the rows and bytes that the tile is configured for and nothing else.
void StoreTile(int tile, void* to, int64_t stride);
// TDPBF16PS: sums += a * b, over pairs of bf16. Each sum takes one chain of fused multiply-adds
// over the even elements of the pairs and one over the odd ones, both from zero; then sum += even +
// odd. Denormals are zero and rounding is to nearest even, whatever the caller's floating-point
// mode, which is left as it was. Needs AVX-512 F.
void DotBF16(int sums, int a, int b);

}  // namespace baram::cpu::emulation

#undef _tile_loadd
#undef _tile_stored
#undef _tile_zero
#undef _tile_dpbf16ps
#define _tile_loadconfig(config) ::baram::cpu::emulation::LoadConfig(config)
#define _tile_loadd(tile, from, stride) ::baram::cpu::emulation::LoadTile(tile, from, stride)
#define _tile_stored(tile, to, stride) ::baram::cpu::emulation::StoreTile(tile, to, stride)
#define _tile_zero(tile) ::baram::cpu::emulation::ZeroTile(tile)
#define _tile_dpbf16ps(sums, a, b) ::baram::cpu::emulation::DotBF16(sums, a, b)

#endif  // BARAM_KERNELS_CPU_EMULATION_AMX_H_
