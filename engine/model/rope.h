// RoPE tables, computed once at load in double precision.
#ifndef BARAM_ENGINE_MODEL_ROPE_H_
#define BARAM_ENGINE_MODEL_ROPE_H_

#include <cstdint>
#include <vector>

#include "engine/model/spec.h"

namespace baram {

// Radians per position of each rotated pair, [rotary_dim / 2]. Formulas: modeling_rope_utils of
// transformers.
std::vector<double> RopeFrequencies(const RopeSpec& spec);

// The factor of cosines and sines: 1 except with YaRN.
double RopeAttentionFactor(const RopeSpec& spec);

// Computes rows [begin, begin + count) of a RopeTable, [count, rotary_dim]: cosines, then sines.
void FillRopeRows(const RopeSpec& spec, int64_t begin, int64_t count, float* rows);

}  // namespace baram

#endif  // BARAM_ENGINE_MODEL_ROPE_H_
