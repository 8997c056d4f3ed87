// /tokenize and /detokenize: a text as the model's tokens, and tokens as text.
#ifndef BARAM_SERVER_OPENAI_TEXT_H_
#define BARAM_SERVER_OPENAI_TEXT_H_

#include <string>

#include "absl/status/statusor.h"
#include "server/http_server.h"
#include "server/serving.h"

namespace baram::server {

// The body of the answer. Both take the exchange's body, and may take long: call on the text pool.
absl::StatusOr<std::string> Tokenize(const Serving& serving, HttpExchange& exchange);
absl::StatusOr<std::string> Detokenize(const Serving& serving, HttpExchange& exchange);

}  // namespace baram::server

#endif  // BARAM_SERVER_OPENAI_TEXT_H_
