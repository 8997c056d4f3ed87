// ConfigFields: typed, range-checked access to a JSON object from an untrusted source.
#include "engine/model/config_fields.h"

#include <algorithm>
#include <cmath>
#include <sstream>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/model/regular_file.h"

namespace baram {
namespace {

using nlohmann::json;

// "line 3, column 7" of the last of the first `bytes` bytes; columns count characters.
std::string ShowPosition(const std::string& text, size_t bytes) {
  size_t line = 1, column = 0;
  for (size_t i = 0; i < bytes; ++i) {
    if (i > 0 && text[i - 1] == '\n') {
      ++line;
      column = 0;
    }
    const bool goes_on = i < text.size() && (static_cast<unsigned char>(text[i]) & 0xC0) == 0x80;
    if (!goes_on) ++column;
  }
  return absl::StrCat("line ", line, ", column ", column);
}

// Looks at brackets and quotes alone, before a parser that would build whatever it is given. (The
// parser's own callback is unsuitable: with one, closing an element walks over all its preceding
// siblings.)
bool NestedDeeper(const std::string& text, int max_depth) {
  int depth = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (c == '"') {
      for (++i; i < text.size() && text[i] != '"'; ++i) i += text[i] == '\\';
    } else if (c == '{' || c == '[') {
      if (++depth > max_depth) return true;
    } else if (c == '}' || c == ']') {
      if (--depth < 0) return false;  // not JSON, as the parser will report
    }
  }
  return false;
}

// A number as a person would write it.
std::string ShowNumber(double value) { return json(value).dump(); }

}  // namespace

absl::StatusOr<std::string> ReadSmallFile(const std::string& path, int64_t max_bytes) {
  const absl::StatusOr<RegularFile> file = RegularFile::Open(path);
  if (!file.ok()) return file.status();
  if (file->bytes() > max_bytes) {
    return absl::DataLossError(
        absl::StrCat(path, ": ", file->bytes(), " bytes long, at most ", max_bytes, " are read"));
  }
  std::string text(file->bytes(), '\0');
  absl::Status status = file->ReadAt(0, file->bytes(), text.data());
  if (!status.ok()) return status;
  return text;
}

absl::StatusOr<json> ParseJsonFile(const std::string& path, const std::string& text,
                                   int max_depth) {
  if (NestedDeeper(text, max_depth)) {
    return absl::DataLossError(absl::StrCat(path, ": nested more than ", max_depth, " deep"));
  }
  const auto complain = [&](const char* what, size_t at) {
    return absl::DataLossError(
        absl::StrCat(path, ": not valid JSON: ", what, ShowPosition(text, at)));
  };
  json value;
  std::istringstream stream(text);
  try {
    value = json::parse(stream);
  } catch (const json::parse_error& error) {
    // `byte` counts from 1, and is one past the end if the text ends too early.
    const size_t at = std::min(error.byte, text.size() + 1);
    return complain(at > text.size() ? "it ends too early, at " : "", at);
  } catch (const json::exception&) {
    // The parser has read one character past the number, and does not report where that is.
    const auto read = stream.rdbuf()->pubseekoff(0, std::ios::cur, std::ios::in);
    return complain("a number is too large, at ", static_cast<size_t>(read) - 1);
  }
  // The parser takes a NUL as the end.
  if (const size_t nul = text.find('\0'); nul != std::string::npos) return complain("", nul + 1);
  if (!value.is_object()) {
    return absl::DataLossError(absl::StrCat(path, ": not a JSON object"));
  }
  return value;
}

std::string Quote(const json& foreign) {
  constexpr size_t kLongest = 80;
  std::string text = foreign.dump(-1, ' ', true, json::error_handler_t::replace);
  if (text.size() > kLongest) text = text.substr(0, kLongest) + "...";
  return text;
}

ConfigFields::ConfigFields(std::string path, json object)
    : path_(std::move(path)),
      root_(std::make_shared<const json>(std::move(object))),
      object_(root_.get()),
      status_(std::make_shared<absl::Status>()) {}

ConfigFields::ConfigFields(std::string path, std::string prefix, const json* object,
                           std::shared_ptr<const json> root, std::shared_ptr<absl::Status> status)
    : path_(std::move(path)),
      prefix_(std::move(prefix)),
      root_(std::move(root)),
      object_(object),
      status_(std::move(status)) {}

const json* ConfigFields::Find(const std::string& name) const {
  const auto found = object_->find(name);
  return found == object_->end() || found->is_null() ? nullptr : &*found;
}

bool ConfigFields::Has(const std::string& name) const { return Find(name) != nullptr; }

bool ConfigFields::IsNull(const std::string& name) const {
  const auto found = object_->find(name);
  return found != object_->end() && found->is_null();
}

void ConfigFields::Complain(absl::StatusCode code, const std::string& sentence) const {
  if (status_->ok()) *status_ = absl::Status(code, absl::StrCat(path_, ": ", sentence));
}

void ConfigFields::Fail(const std::string& name, const std::string& complaint) const {
  Complain(absl::StatusCode::kDataLoss, absl::StrCat(prefix_, name, " ", complaint));
}

void ConfigFields::FailUnsupported(const std::string& name,
                                   const std::string& what_is_supported) const {
  Complain(
      absl::StatusCode::kUnimplemented,
      absl::StrCat(prefix_, name, " = ", Show(name), " is not supported; ", what_is_supported));
}

std::string ConfigFields::Show(const std::string& name) const {
  const json* value = Find(name);
  return value == nullptr ? "null" : Quote(*value);
}

int64_t ConfigFields::Integer(const std::string& name, int64_t least, int64_t most) const {
  if (!Has(name)) {
    Fail(name, "is missing");
    return least;
  }
  return IntegerOr(name, least, most, least);
}

int64_t ConfigFields::IntegerOr(const std::string& name, int64_t least, int64_t most,
                                int64_t fallback) const {
  const json* value = Find(name);
  if (value == nullptr) return fallback;
  // Some writers write large integers as floats with a whole value.
  const double number = value->is_number() ? value->get<double>() : std::nan("");
  if (!(number >= static_cast<double>(least) && number <= static_cast<double>(most)) ||
      number != std::floor(number)) {
    Fail(name,
         absl::StrCat("must be a whole number from ", least, " to ", most, ", not ", Show(name)));
    return fallback;
  }
  return static_cast<int64_t>(number);
}

double ConfigFields::NumberOr(const std::string& name, double least, double most,
                              double fallback) const {
  const json* value = Find(name);
  if (value == nullptr) return fallback;
  const double number = value->is_number() ? value->get<double>() : std::nan("");
  if (!(number >= least && number <= most)) {
    Fail(name, absl::StrCat("must be a number from ", ShowNumber(least), " to ", ShowNumber(most),
                            ", not ", Show(name)));
    return fallback;
  }
  return number;
}

bool ConfigFields::BoolOr(const std::string& name, bool fallback) const {
  const json* value = Find(name);
  if (value == nullptr) return fallback;
  if (!value->is_boolean()) {
    Fail(name, absl::StrCat("must be true or false, not ", Show(name)));
    return fallback;
  }
  return value->get<bool>();
}

std::string ConfigFields::StringOr(const std::string& name, const std::string& fallback) const {
  const json* value = Find(name);
  if (value == nullptr) return fallback;
  if (!value->is_string()) {
    Fail(name, absl::StrCat("must be a text, not ", Show(name)));
    return fallback;
  }
  return value->get<std::string>();
}

std::vector<std::string> ConfigFields::Strings(const std::string& name) const {
  std::vector<std::string> texts;
  const json* value = Find(name);
  if (value == nullptr) return texts;
  bool good = value->is_array();
  if (good) {
    for (const json& element : *value) {
      good = good && element.is_string();
      if (good) texts.push_back(element.get<std::string>());
    }
  }
  if (!good) Fail(name, absl::StrCat("must be a list of texts, not ", Show(name)));
  return texts;
}

std::vector<int64_t> ConfigFields::Integers(const std::string& name, int64_t least,
                                            int64_t most) const {
  std::vector<int64_t> numbers;
  const json* value = Find(name);
  if (value == nullptr) return numbers;
  const json list = value->is_array() ? *value : json::array({*value});
  for (const json& element : list) {
    const bool good =
        element.is_number_integer() &&
        !(element.is_number_unsigned() && element.get<uint64_t>() > static_cast<uint64_t>(most)) &&
        element.get<int64_t>() >= least && element.get<int64_t>() <= most;
    if (!good) {
      Fail(name,
           absl::StrCat("must be whole numbers from ", least, " to ", most, ", not ", Show(name)));
      break;
    }
    numbers.push_back(element.get<int64_t>());
  }
  return numbers;
}

bool ConfigFields::IsObject(const std::string& name) const {
  const json* value = Find(name);
  return value != nullptr && value->is_object();
}

bool ConfigFields::IsString(const std::string& name) const {
  const json* value = Find(name);
  return value != nullptr && value->is_string();
}

ConfigFields ConfigFields::Nothing() const {
  static const json kNothing = json::object();
  return ConfigFields(path_, prefix_, &kNothing, root_, status_);
}

ConfigFields ConfigFields::Object(const std::string& name) const {
  const json* value = Find(name);
  if (value == nullptr) return Nothing();
  if (!value->is_object()) {
    Fail(name, absl::StrCat("must be an object, not ", Show(name)));
    return Nothing();
  }
  return ConfigFields(path_, absl::StrCat(prefix_, name, "."), value, root_, status_);
}

}  // namespace baram
