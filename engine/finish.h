// Finish: how an output ended.
#ifndef BARAM_ENGINE_FINISH_H_
#define BARAM_ENGINE_FINISH_H_

#include <cstdint>
#include <string>

namespace baram {

// Why an output ended, from the best end to the worst. Stop strings are found by delivery, which
// then calls StopAt.
enum class FinishReason : uint8_t {
  kStop,       // an id of Request::stop_ids, in `stop_id`; or StopAt was called
  kLength,     // max_tokens or the context
  kCancelled,  // Cancel()
  kDeadline,
  kDrained,     // the server is going down and the drain limit passed
  kSlowReader,  // its ring stayed full for longest_pause_s
  kFailed,      // see Finish::message
};
inline bool EndedByItself(FinishReason reason) { return reason <= FinishReason::kLength; }
inline constexpr int kFinishReasons = static_cast<int>(FinishReason::kFailed) + 1;

struct Finish {
  FinishReason reason = FinishReason::kStop;
  // The stop id that was drawn, or -1. It counts as output and is the last token of the ring, with
  // its log-probability, as in vLLM; it has no text.
  int32_t stop_id = -1;
  int32_t tokens = 0;        // drawn in total, including the stop id; reported as usage
  bool unavailable = false;  // kFailed: the device is lost; a retry elsewhere can work
  std::string message{};     // kFailed: one sentence, without content of any client
};

}  // namespace baram

#endif  // BARAM_ENGINE_FINISH_H_
