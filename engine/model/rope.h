// Rotation tables, made once at load in double precision.
#ifndef BARAM_ENGINE_MODEL_ROPE_H_
#define BARAM_ENGINE_MODEL_ROPE_H_

#include <cstdint>
#include <vector>

#include "engine/model/spec.h"

namespace baram {

// Radians per position of each rotated pair, [rotary_dim / 2]. Formulas: HF's modeling_rope_utils.
std::vector<double> RopeFrequencies(const RopeSpec& spec);

// What cosines and sines are multiplied by: 1 but under YaRN.
double RopeAttentionFactor(const RopeSpec& spec);

// Rows [begin, begin + count) of a RopeTable, [count, rotary_dim]: cosines, then sines.
void FillRopeRows(const RopeSpec& spec, int64_t begin, int64_t count, float* rows);

}  // namespace baram

#endif  // BARAM_ENGINE_MODEL_ROPE_H_
