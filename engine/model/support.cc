// CheckSupport: a traced step followed by Sample.
#include "engine/model/support.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "engine/model/trace_step.h"

namespace baram {

absl::Status CheckSupport(const ModelSpec& spec, const Device& device, int32_t page_tokens) {
  TraceDevice trace(device);
  // A prompt chunk with decodes: more tokens than rows, so that no shape is special.
  const TracedStep traced = TraceStep(spec, page_tokens, 40, 3, trace);
  trace.Sample({.step = traced.step, .logits = traced.logits, .valid_vocab = spec.vocab_size});
  const std::string sentences = trace.UnsupportedSentences();
  if (sentences.empty()) return absl::OkStatus();
  return absl::UnimplementedError(absl::StrCat("the device ", device.Info().name, " cannot run ",
                                               spec.architecture, ": ",
                                               absl::StripSuffix(sentences, "\n")));
}

}  // namespace baram
