// JsonFields: see the header.
#include "server/json_fields.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <iterator>

#include "absl/strings/str_cat.h"
#include "server/errors.h"
#include "server/text/utf8.h"
#include "server/text_piece.h"

namespace baram::server {

namespace {

constexpr int kMaxDepth = 64;  // deeper than any hand-written message or schema
constexpr int kMaxKeys = 512;  // per object; OpenAI's limit for logit_bias is 300

// Looks only at brackets, quotes and colons, before a parser that would build whatever it is given.
// (The parser's own callback is unsuitable: with one, closing an element walks over all its
// preceding siblings.)
absl::Status CheckShape(std::string_view body, std::string_view subject, JsonBudget& budget) {
  std::array<int, kMaxDepth + 1> keys{};  // of the object open at each depth
  int depth = 0;
  for (size_t i = 0; i < body.size(); ++i) {
    const char c = body[i];
    if ((c == '"' || c == '{' || c == '[') && --budget.nodes < 0) {
      return absl::InvalidArgumentError(absl::StrCat(Piece(subject), " has more than ",
                                                     JsonBudget().nodes,
                                                     " strings, arrays and objects; send fewer."));
    }
    switch (c) {
      case '"':
        for (++i; i < body.size() && body[i] != '"'; ++i) i += body[i] == '\\';
        break;
      case '{':
      case '[':
        if (++depth > kMaxDepth) {
          return absl::InvalidArgumentError(absl::StrCat(Piece(subject), " is nested deeper than ",
                                                         kMaxDepth, " levels; send it flatter."));
        }
        keys[depth] = 0;
        break;
      case '}':
      case ']':
        if (--depth < 0) return absl::OkStatus();  // not JSON, as the parser will report
        break;
      case ':':
        if (++keys[depth] > kMaxKeys) {
          return absl::InvalidArgumentError(
              absl::StrCat(Piece(subject), " has an object of more than ", kMaxKeys, " keys."));
        }
        break;
      default:
        break;
    }
  }
  return absl::OkStatus();
}

// Shortens "[json.exception.parse_error.101] parse error at line 1, column 8: syntax error while
// parsing value - invalid literal; last read: ..." to "invalid literal": what was read may be long,
// and the position is counted in bytes elsewhere.
std::string Detail(std::string_view what) {
  constexpr std::string_view kBefore = " - ";
  constexpr size_t kMaxBytes = 200;
  const size_t begin = what.find(kBefore);
  if (begin == std::string_view::npos) return "it breaks off or goes wrong";
  what.remove_prefix(begin + kBefore.size());
  return std::string(what.substr(0, std::min(what.find("; "), kMaxBytes)));
}

// JSON types as error sentences name them.
std::string KindOf(const Json& value) {
  if (value.is_number()) return absl::StrCat("the number ", value.dump());
  if (value.is_boolean()) return value.get<bool>() ? "true" : "false";
  if (value.is_string()) return "a string";
  if (value.is_array()) return "an array";
  return value.is_object() ? "an object" : "null";
}

}  // namespace

bool ParsesQuickly(std::string_view body) {
  constexpr size_t kSmallBytes = 8 << 10;
  constexpr int kFewNodes = 1024;
  if (body.size() <= kSmallBytes) return true;
  int nodes = 0;
  for (size_t i = 0; i < body.size() && nodes <= kFewNodes; ++i) {
    const char c = body[i];
    nodes += c == '"' || c == '{' || c == '[';
    if (c != '"') continue;
    for (++i; i < body.size() && body[i] != '"'; ++i) i += body[i] == '\\';
  }
  return nodes <= kFewNodes;
}

absl::StatusOr<Json> ParseBody(std::string_view body, std::string_view subject,
                               JsonBudget* budget) {
  JsonBudget of_body;
  const auto wrong = [&](const std::string& what) {
    return absl::InvalidArgumentError(absl::StrCat(Piece(subject), what));
  };
  if (body.empty()) return wrong(" is empty; send a JSON object.");
  if (!text::IsValidUtf8(body)) return wrong(" is not valid UTF-8.");
  absl::Status shape = CheckShape(body, subject, budget == nullptr ? of_body : *budget);
  if (!shape.ok()) return shape;
  try {
    Json json = Json::parse(body);
    if (!json.is_object()) return wrong(" must be a JSON object.");
    return json;
  } catch (const Json::parse_error& error) {
    return wrong(
        absl::StrCat(" is not JSON: at byte ", error.byte, ", ", Detail(error.what()), "."));
  } catch (const Json::exception&) {
    return wrong(" holds a number that is too large.");
  }
}

std::string Dump(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::string DumpText(std::string_view text) {
  std::string json;
  json.reserve(text.size() + 2);
  AppendText(&json, text);
  return json;
}

void AppendText(std::string* json, std::string_view text) {
  const bool plain = std::all_of(text.begin(), text.end(), [](char c) {
    return static_cast<unsigned char>(c) >= ' ' && c != '"' && c != '\\';
  });
  if (!plain || !text::IsValidUtf8(text)) {
    *json += Dump(text);
    return;
  }
  *json += '"';
  json->append(text);
  *json += '"';
}

void AppendFloat(std::string* json, float value) {
  char digits[32];
  const std::to_chars_result end = std::to_chars(std::begin(digits), std::end(digits), value);
  const std::string_view text(digits, end.ptr - digits);
  json->append(text);
  if (text.find_first_of(".e") == std::string_view::npos) *json += ".0";
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

std::nullopt_t JsonFields::WrongType(const char* name, const char* wanted, const Json& got) {
  Fail(name, absl::StrCat(path_, name, " must be ", wanted, ", but is ", KindOf(got), "."));
  return std::nullopt;
}

void JsonFields::FailItem(const char* name, size_t index, const char* wanted, const Json& got) {
  Fail(name,
       absl::StrCat(path_, name, "[", index, "] must be ", wanted, ", but is ", KindOf(got), "."));
}

bool JsonFields::AtMost(const char* name, size_t count, size_t max, const char* what) {
  if (count <= max) return true;
  if (status_.ok()) status_ = TooMany(path_ + name, count, max, what);
  return false;
}

std::optional<double> JsonFields::Number(const char* name) {
  const Json* value = Find(name);
  if (value == nullptr) return std::nullopt;
  if (!value->is_number()) return WrongType(name, "a number", *value);
  return value->get<double>();
}

std::optional<int64_t> JsonFields::Integer(const char* name) {
  const Json* value = Find(name);
  if (value == nullptr) return std::nullopt;
  const std::optional<int64_t> n = AsInteger(*value);
  return n ? n : WrongType(name, "an integer", *value);
}

std::optional<bool> JsonFields::Bool(const char* name) {
  const Json* value = Find(name);
  if (value == nullptr) return std::nullopt;
  if (!value->is_boolean()) return WrongType(name, "true or false", *value);
  return value->get<bool>();
}

std::optional<std::string> JsonFields::String(const char* name, size_t max_bytes) {
  const Json* value = Find(name);
  if (value == nullptr) return std::nullopt;
  if (!value->is_string()) return WrongType(name, "a string", *value);
  const auto& text = value->get_ref<const std::string&>();
  if (!AtMost(name, text.size(), max_bytes, "bytes")) return std::nullopt;
  return text;
}

const Json* JsonFields::Object(const char* name) {
  const Json* value = Find(name);
  if (value != nullptr && !value->is_object()) {
    WrongType(name, "an object", *value);
    return nullptr;
  }
  return value;
}

const Json* JsonFields::Array(const char* name) {
  const Json* value = Find(name);
  if (value != nullptr && !value->is_array()) {
    WrongType(name, "an array", *value);
    return nullptr;
  }
  return value;
}

std::vector<std::string> JsonFields::Strings(const char* name, size_t max, size_t max_bytes) {
  const Json* value = Find(name);
  std::vector<std::string> strings;
  if (value == nullptr) return strings;
  const auto take = [&](const Json& item) {
    const auto& text = item.get_ref<const std::string&>();
    const bool fits = AtMost(name, text.size(), max_bytes, "bytes in one string");
    if (fits) strings.push_back(text);
    return fits;
  };
  if (value->is_string()) {
    take(*value);
    return strings;
  }
  if (!value->is_array()) {
    WrongType(name, "a string or an array of strings", *value);
    return strings;
  }
  if (!AtMost(name, value->size(), max, "strings")) return strings;
  for (const Json& item : *value) {
    if (!item.is_string()) {
      FailItem(name, strings.size(), "a string", item);
      break;
    }
    if (!take(item)) break;
  }
  return strings;
}

std::vector<int64_t> JsonFields::Integers(const char* name, size_t max) {
  const Json* value = Array(name);
  std::vector<int64_t> integers;
  if (value == nullptr || !AtMost(name, value->size(), max, "ids")) return integers;
  for (const Json& item : *value) {
    const std::optional<int64_t> n = AsInteger(item);
    if (!n) {
      FailItem(name, integers.size(), "an integer", item);
      break;
    }
    integers.push_back(*n);
  }
  return integers;
}

}  // namespace baram::server
