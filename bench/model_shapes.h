// Shapes of models for benchmarks with random weights.
#ifndef BARAM_BENCH_MODEL_SHAPES_H_
#define BARAM_BENCH_MODEL_SHAPES_H_

#include <string>

#include "engine/model/spec.h"

namespace baram::bench {

// "llama-1b": 1.07 B, the shape of the reference measurements of other engines on CPUs.
// "llama-3.2-1b": Llama 3.2 1B. "exaone-1.2b": EXAONE 4.0 1.2B. "llama-8b": Llama 3.1 8B. "tiny":
// for trying a program out. False if there is no such shape.
bool FindModelShape(const std::string& name, ModelSpec* spec);

}  // namespace baram::bench

#endif  // BARAM_BENCH_MODEL_SHAPES_H_
