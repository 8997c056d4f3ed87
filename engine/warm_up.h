// WarmUp: the steps a model runs before the first request, so that requests do not pay for first
// touches.
#ifndef BARAM_ENGINE_WARM_UP_H_
#define BARAM_ENGINE_WARM_UP_H_

#include "absl/status/status.h"
#include "engine/loaded_model.h"

namespace baram {

// Before the first step. A synchronous device, which chooses its kernels itself, runs
// - one step of one token.
// Others run as well
// - steps of 2, 4, 8, ... tokens and the largest: libraries are asked for an algorithm when a
//   number of rows, rounded, first comes up. What lies between is asked for when it comes;
// - one small step of rows of 1, 2, 4, ... tokens: attention has kernels by the tokens of a row.
// These go through one layer of each kind and the last, since kernels depend on a layer's shapes,
// not on its weights; together they cost at most three of the largest. A pool with too few pages
// cuts them short.
//
// Unavailable: the device is lost. DataLoss: the logits of the first step, of token 0, are not
// finite; so would be those of requests.
absl::Status WarmUp(LoadedModel& model);

}  // namespace baram

#endif  // BARAM_ENGINE_WARM_UP_H_
