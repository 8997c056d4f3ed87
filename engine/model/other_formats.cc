// OtherFormat: what a folder that is no model as we read it holds instead.
#include "engine/model/other_formats.h"

#include <algorithm>
#include <filesystem>
#include <system_error>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "engine/model/config_fields.h"

namespace baram {
namespace {

struct Format {
  const char* mark;  // in a file's name
  const char* advice;
};
constexpr Format kFormats[] = {
    {"adapter_config.json", "merge the adapter into its base model, and serve that"},
    {".gguf", "serve the model that it was made of, or convert it to safetensors"},
    {"consolidated.", "fetch the model's files as Hugging Face lays them out"},
    {"pytorch_model", "convert it to safetensors"},
};

}  // namespace

std::string OtherFormat(const std::string& folder) {
  std::vector<std::string> names;
  std::error_code failed;
  for (std::filesystem::directory_iterator entry(folder, failed), end; !failed && entry != end;
       entry.increment(failed)) {
    names.push_back(entry->path().filename().string());
  }
  std::sort(names.begin(), names.end());
  for (const Format& format : kFormats) {
    for (const std::string& name : names) {
      if (!absl::StrContains(name, format.mark)) continue;
      return absl::StrCat("; it holds ", Quote(name), ": ", format.advice);
    }
  }
  return "";
}

}  // namespace baram
