// WarmUp: the steps that a model runs before the first request, so that requests do not pay for
// what happens on first use.
#ifndef BARAM_ENGINE_WARM_UP_H_
#define BARAM_ENGINE_WARM_UP_H_

#include "absl/status/status.h"
#include "engine/loaded_model.h"

namespace baram {

// Call before the first step. A synchronous device, which chooses its kernels itself, runs
// - one step of one token.
// Other devices also run
// - steps of 2, 4, 8, ... tokens and the largest: libraries are asked for an algorithm when a
//   number of rows, rounded, first occurs. Numbers in between are asked for when they occur;
// - one small step of rows of 1, 2, 4, ... tokens: attention has kernels by tokens per row.
// These go through one layer of each kind and the last layer, since kernels depend on a layer's
// shapes, not on its weights; together they cost at most as much as three of the largest. A pool
// with too few pages cuts them short.
//
// Unavailable: the device is lost. DataLoss: the logits of the first step, of token 0, are not
// finite, so those of requests would not be either.
absl::Status WarmUp(LoadedModel& model);

}  // namespace baram

#endif  // BARAM_ENGINE_WARM_UP_H_
