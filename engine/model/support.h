// CheckSupport: whether a device can run a model, checked before anything is loaded (I12).
#ifndef BARAM_ENGINE_MODEL_SUPPORT_H_
#define BARAM_ENGINE_MODEL_SUPPORT_H_

#include <cstdint>

#include "absl/status/status.h"
#include "engine/model/spec.h"
#include "kernels/device.h"

namespace baram {

// Runs Forward and Sample on the trace device for `device`. Unimplemented names every op, format,
// head size and page size that is not supported; nothing is loaded or computed. `page_tokens` as
// EngineConfig::page_tokens; 0: the device's choice.
absl::Status CheckSupport(const ModelSpec& spec, const Device& device, int32_t page_tokens);

}  // namespace baram

#endif  // BARAM_ENGINE_MODEL_SUPPORT_H_
