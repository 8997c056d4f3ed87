// JsonFields: see the header.
#include "server/json_fields.h"

#include <array>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "server/errors.h"

namespace baram::server {

namespace {

constexpr int kMaxDepth = 64;  // deeper than any message or schema a person writes
constexpr int kMaxKeys = 512;  // of one object; OpenAI's limit of logit_bias is 300

// Looks at brackets and colons alone, before a parser that would build whatever it is given. (The
// parser's own callback is no place for this: with one, closing an element walks over all its elder
// siblings.)
absl::Status CheckShape(std::string_view body) {
  std::array<int, kMaxDepth + 1> keys{};  // of the object open at each depth
  int depth = 0;
  for (size_t i = 0; i < body.size(); ++i) {
    switch (body[i]) {
      case '"':
        for (++i; i < body.size() && body[i] != '"'; ++i) i += body[i] == '\\';
        break;
      case '{':
      case '[':
        if (++depth > kMaxDepth) {
          return absl::InvalidArgumentError(
              absl::StrCat("the body is nested deeper than ", kMaxDepth, " levels"));
        }
        keys[depth] = 0;
        break;
      case '}':
      case ']':
        if (--depth < 0) return absl::OkStatus();  // not JSON, as the parser will say
        break;
      case ':':
        if (++keys[depth] > kMaxKeys) {
          return absl::InvalidArgumentError(
              absl::StrCat("the body has an object of more than ", kMaxKeys, " keys"));
        }
        break;
      default:
        break;
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Json> ParseJsonObject(std::string_view body) {
  if (absl::Status shape = CheckShape(body); !shape.ok()) return shape;
  Json json = Json::parse(body, nullptr, /*allow_exceptions=*/false);
  if (json.is_discarded()) {
    return absl::InvalidArgumentError("the body is not JSON in UTF-8, or holds a number too large");
  }
  if (!json.is_object()) return absl::InvalidArgumentError("the body must be a JSON object");
  return json;
}

std::string Dump(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::optional<int64_t> AsInteger(const Json& value) {
  if (value.is_number_unsigned()) {
    const uint64_t n = value.get<uint64_t>();
    if (n > static_cast<uint64_t>(INT64_MAX)) return std::nullopt;
    return static_cast<int64_t>(n);
  }
  if (value.is_number_integer()) return value.get<int64_t>();
  if (value.is_number_float()) {
    const double n = value.get<double>();
    // Doubles hold integers exactly up to 2^53.
    if (std::abs(n) <= 9007199254740992.0 && n == std::floor(n)) return static_cast<int64_t>(n);
  }
  return std::nullopt;
}

JsonFields::JsonFields(const Json& object, std::string path)
    : object_(object), path_(std::move(path)) {}

const Json* JsonFields::Find(const char* name) const {
  const auto it = object_.find(name);
  return it == object_.end() || it->is_null() ? nullptr : &*it;
}

void JsonFields::Fail(std::string_view name, std::string_view message) {
  if (status_.ok()) status_ = InvalidField(path_ + std::string(name), message);
}

template <typename T>
std::optional<T> JsonFields::WrongType(const char* name, const char* wanted) {
  Fail(name, absl::StrCat(path_, name, " must be ", wanted));
  return std::nullopt;
}

std::optional<double> JsonFields::Number(const char* name) {
  const Json* value = Find(name);
  if (value == nullptr) return std::nullopt;
  if (!value->is_number()) return WrongType<double>(name, "a number");
  return value->get<double>();
}

std::optional<int64_t> JsonFields::Integer(const char* name) {
  const Json* value = Find(name);
  if (value == nullptr) return std::nullopt;
  const std::optional<int64_t> n = AsInteger(*value);
  return n ? n : WrongType<int64_t>(name, "an integer");
}

std::optional<bool> JsonFields::Bool(const char* name) {
  const Json* value = Find(name);
  if (value == nullptr) return std::nullopt;
  if (!value->is_boolean()) return WrongType<bool>(name, "true or false");
  return value->get<bool>();
}

std::optional<std::string> JsonFields::String(const char* name) {
  const Json* value = Find(name);
  if (value == nullptr) return std::nullopt;
  if (!value->is_string()) return WrongType<std::string>(name, "a string");
  return value->get<std::string>();
}

const Json* JsonFields::Object(const char* name) {
  const Json* value = Find(name);
  if (value != nullptr && !value->is_object()) {
    WrongType<bool>(name, "an object");
    return nullptr;
  }
  return value;
}

const Json* JsonFields::Array(const char* name) {
  const Json* value = Find(name);
  if (value != nullptr && !value->is_array()) {
    WrongType<bool>(name, "an array");
    return nullptr;
  }
  return value;
}

std::vector<std::string> JsonFields::Strings(const char* name) {
  const Json* value = Find(name);
  std::vector<std::string> strings;
  if (value == nullptr) return strings;
  if (value->is_string()) return {value->get<std::string>()};
  bool good = value->is_array();
  for (const Json& item : good ? *value : Json::array()) {
    good &= item.is_string();
    if (good) strings.push_back(item.get<std::string>());
  }
  if (!good) WrongType<bool>(name, "a string or an array of strings");
  return strings;
}

std::vector<int64_t> JsonFields::Integers(const char* name) {
  const Json* value = Array(name);
  std::vector<int64_t> integers;
  if (value == nullptr) return integers;
  for (const Json& item : *value) {
    const std::optional<int64_t> n = AsInteger(item);
    if (!n) {
      WrongType<bool>(name, "an array of integers");
      break;
    }
    integers.push_back(*n);
  }
  return integers;
}

}  // namespace baram::server
