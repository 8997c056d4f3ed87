// /v1/models and /v1/models/NAME: the names of the one model.
#ifndef BARAM_SERVER_OPENAI_MODELS_H_
#define BARAM_SERVER_OPENAI_MODELS_H_

#include <string>

#include "absl/status/statusor.h"
#include "server/http_server.h"
#include "server/openai.h"

namespace baram::server {

// The body of the answer.
absl::StatusOr<std::string> ListModels(const OpenAiContext& context, const HttpRequest& request);
// For the name at the end of the request's path; without one, same as ListModels.
absl::StatusOr<std::string> FindModel(const OpenAiContext& context, const HttpRequest& request);

}  // namespace baram::server

#endif  // BARAM_SERVER_OPENAI_MODELS_H_
