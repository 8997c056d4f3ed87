// JsonFields: reads the fields of a client's JSON object by type; the first invalid one is reported
// by name.
#ifndef BARAM_SERVER_JSON_FIELDS_H_
#define BARAM_SERVER_JSON_FIELDS_H_

#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace baram::server {

// Keeps the order of keys: chat templates show a client's objects as they were written, and replies
// follow OpenAI's order. Look-up is linear in the keys of an object, whose number is therefore
// bounded.
using Json = nlohmann::ordered_json;

// How many strings (including keys), arrays and objects may still be parsed: each takes a few
// hundred bytes in any tree. Negative once exceeded.
struct JsonBudget {
  int nodes = 1 << 18;
};

// Parses a body. InvalidArgument, with a sentence for the client, if it is not JSON, not UTF-8, not
// an object, nested deeper than 64, has an object with more than 512 keys, or has more than 262,144
// strings, arrays and objects. If a key is repeated, its last value counts. Linear in the body's
// size. `subject` is the sentence's name for the body. A `budget` limits the total over all texts
// parsed with it.
absl::StatusOr<Json> ParseBody(std::string_view body, std::string_view subject = "The body",
                               JsonBudget* budget = nullptr);

// Whether ParseBody takes a millisecond at most: the body is small, or has few strings, arrays and
// objects for its size.
bool ParsesQuickly(std::string_view body);

// As text. Never fails: invalid UTF-8 becomes U+FFFD.
std::string Dump(const Json& json);
// Dump of a string, several times faster if no character needs an escape.
std::string DumpText(std::string_view text);
void AppendText(std::string* json, std::string_view text);
// The shortest decimals that a reader of floats takes for `value`, which must be finite; with a
// point or an exponent, so that a reader in no case takes it for an integer.
void AppendFloat(std::string* json, float value);

// Absent and null are equivalent. If a field is invalid its getter records the error, unless there
// already is one, and returns the default: a reader gets all fields it knows and checks status()
// once.
class JsonFields {
 public:
  // `object` must be an object and outlive this; `path` prefixes names in errors ("messages[2].").
  explicit JsonFields(const Json& object, std::string path = "");

  const Json* Find(const char* name) const;  // null if absent
  std::optional<double> Number(const char* name);
  std::optional<int64_t> Integer(const char* name);
  std::optional<bool> Bool(const char* name);
  // At most `max_bytes`; more is an error.
  std::optional<std::string> String(const char* name, size_t max_bytes = SIZE_MAX);
  const Json* Object(const char* name);
  const Json* Array(const char* name);
  // A string or an array of strings: at most `max`, each of at most `max_bytes`. Exceeding a limit
  // is an error, and nothing is copied.
  std::vector<std::string> Strings(const char* name, size_t max, size_t max_bytes);
  std::vector<int64_t> Integers(const char* name, size_t max);

  // Records an error for the field unless there already is one.
  void Fail(std::string_view name, std::string_view message);
  const absl::Status& status() const { return status_; }

 private:
  std::nullopt_t WrongType(const char* name, const char* wanted, const Json& got);
  void FailItem(const char* name, size_t index, const char* wanted, const Json& got);
  // False, with an error recorded, for more than `max`.
  bool AtMost(const char* name, size_t count, size_t max, const char* what);

  const Json& object_;
  const std::string path_;
  absl::Status status_;
};

// The value as an integer: 16 and 16.0 qualify, 16.5 and true do not.
std::optional<int64_t> AsInteger(const Json& value);

}  // namespace baram::server

#endif  // BARAM_SERVER_JSON_FIELDS_H_
