// LoadProgress: who is told how far the loading of weights is.
#ifndef BARAM_ENGINE_MODEL_LOAD_PROGRESS_H_
#define BARAM_ENGINE_MODEL_LOAD_PROGRESS_H_

#include <cstdint>
#include <functional>

namespace baram {

// Called from the loading thread: with 0 once all is checked that can be before the weights are
// read, then a few times a second at most. May be empty.
using LoadProgress = std::function<void(int64_t bytes_done, int64_t bytes_in_all)>;

}  // namespace baram

#endif  // BARAM_ENGINE_MODEL_LOAD_PROGRESS_H_
