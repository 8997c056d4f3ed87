// Symbolic check of an op's arguments: do its shapes, types and options fit together, on any
// device?
#ifndef BARAM_KERNELS_SHAPE_CHECK_H_
#define BARAM_KERNELS_SHAPE_CHECK_H_

#include <string>

#include "kernels/ops.h"

namespace baram {

// Empty if they fit, else a sentence such as "Gemm: out has 12 columns, the weight 16". Reads no
// data. The only pointer it looks at is RopeTable::data: null means no rotation.
std::string CheckShapes(const OpArgs& args);

#ifdef NDEBUG
inline void DCheckShapes(const OpArgs&) {}
#else
// Aborts with the sentence. Every device that computes calls it at the start of every op.
void DCheckShapes(const OpArgs& args);
#endif

}  // namespace baram

#endif  // BARAM_KERNELS_SHAPE_CHECK_H_
