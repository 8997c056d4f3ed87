// /v1/models: see the header.
#include "server/openai_models.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "server/errors.h"
#include "server/json_fields.h"

namespace baram::server {

namespace {

Json ModelEntry(const OpenAiContext& context, const std::string& name) {
  return {{"id", name},
          {"object", "model"},
          {"created", context.start_time},
          {"owned_by", "baram"},
          {"root", context.serving.model_root()},
          {"parent", nullptr},
          {"max_model_len", context.serving.info().max_model_len},
          {"permission", Json::array()}};
}

}  // namespace

absl::StatusOr<std::string> ListModels(const OpenAiContext& context, const HttpRequest&) {
  Json list = Json::array();
  for (const std::string& name : context.serving.served_names()) {
    list.push_back(ModelEntry(context, name));
  }
  return Dump({{"object", "list"}, {"data", std::move(list)}});
}

absl::StatusOr<std::string> FindModel(const OpenAiContext& context, const HttpRequest& request) {
  const std::string name = request.path.substr(sizeof("/v1/models/") - 1);
  if (name.empty()) return ListModels(context, request);  // after a base URL's slash
  const std::vector<std::string>& served = context.serving.served_names();
  if (std::find(served.begin(), served.end(), name) == served.end()) {
    return UnknownModel(name, served);
  }
  return Dump(ModelEntry(context, name));
}

}  // namespace baram::server
