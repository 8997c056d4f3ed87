// Other formats: two tables, of names and of first bytes.
#include "engine/model/other_formats.h"

#include <algorithm>
#include <filesystem>
#include <system_error>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/model/config_fields.h"

namespace baram {
namespace {

struct Format {
  std::string_view mark;  // part of a file's name, or the start of its content
  const char* advice;
};
constexpr Format kByName[] = {
    {"adapter_config.json", "merge the adapter into its base model, and serve that"},
    {".gguf", "serve the model that it was made of, or convert it to safetensors"},
    {"consolidated.", "fetch the model's files as Hugging Face lays them out"},
    {"pytorch_model", "convert it to safetensors"},
};
constexpr Format kByBeginning[] = {
    {"version ", "a Git LFS pointer, not the file itself: fetch it with git lfs pull"},
    {"GGUF", "a GGUF file: convert it to safetensors"},
    {"PK\3\4", "a file of PyTorch: convert it to safetensors"},
    {"\x1f\x8b", "compressed by gzip: unpack it"},
    {"<", "a web page, not the file itself: fetch it again"},
};

}  // namespace

std::string OtherFormatInFolder(const std::string& folder) {
  std::vector<std::string> names;
  std::error_code failed;
  for (std::filesystem::directory_iterator entry(folder, failed), end; !failed && entry != end;
       entry.increment(failed)) {
    names.push_back(entry->path().filename().string());
  }
  std::sort(names.begin(), names.end());
  for (const Format& format : kByName) {
    for (const std::string& name : names) {
      if (name.find(format.mark) == std::string::npos) continue;
      return absl::StrCat("; it holds ", Quote(name), ": ", format.advice);
    }
  }
  return "";
}

const char* AdviceForContent(std::string_view begin) {
  for (const Format& format : kByBeginning) {
    if (begin.starts_with(format.mark)) return format.advice;
  }
  return nullptr;
}

}  // namespace baram
