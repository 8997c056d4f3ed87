// LoadProgress: reports how far the loading of weights is.
#ifndef BARAM_ENGINE_MODEL_LOAD_PROGRESS_H_
#define BARAM_ENGINE_MODEL_LOAD_PROGRESS_H_

#include <cstdint>
#include <functional>

namespace baram {

// Called from the loading thread: with 0 once everything that can be checked before reading the
// weights has been, then at most a few times per second. May be empty.
using LoadProgress = std::function<void(int64_t bytes_done, int64_t bytes_in_all)>;

}  // namespace baram

#endif  // BARAM_ENGINE_MODEL_LOAD_PROGRESS_H_
