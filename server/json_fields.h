// JsonFields: reads the fields of a client's JSON object by type; the first that is wrong names
// itself.
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
// read in OpenAI's order. Its look-up is linear in the keys of an object, which are therefore
// bounded.
using Json = nlohmann::ordered_json;

// How many strings, keys among them, arrays and objects may still be parsed: some hundred bytes
// each in whatever tree they become. Negative once there were more.
struct JsonBudget {
  int nodes = 1 << 18;
};

// Parses a body. InvalidArgument, with a sentence for the client, for what is not JSON, not UTF-8,
// nested deeper than 64, has an object of more than 512 keys, or more than 262,144 strings, arrays
// and objects, or is not an object. If a key stands twice, its last value counts. Linear in the
// body's bytes. `subject` is what the sentence calls the body. Where a `budget` is given, what is
// parsed with it has that many together.
absl::StatusOr<Json> ParseBody(std::string_view body, std::string_view subject = "The body",
                               JsonBudget* budget = nullptr);

// As text. Never fails: bytes that are no character become U+FFFD.
std::string Dump(const Json& json);
// Dump of a string, in a fraction of the time where no character of it needs an escape.
std::string DumpText(std::string_view text);

// Absent and null are the same. Where a field is wrong its getter records the error, unless there
// is one already, and returns the default: a reader asks for all it knows and looks at status()
// once.
class JsonFields {
 public:
  // `object` must be an object and outlive this; `path` stands before names in errors
  // ("messages[2].").
  explicit JsonFields(const Json& object, std::string path = "");

  const Json* Find(const char* name) const;  // null if absent
  std::optional<double> Number(const char* name);
  std::optional<int64_t> Integer(const char* name);
  std::optional<bool> Bool(const char* name);
  // At most `max_bytes`; more is an error.
  std::optional<std::string> String(const char* name, size_t max_bytes = SIZE_MAX);
  const Json* Object(const char* name);
  const Json* Array(const char* name);
  // A string or an array of strings: at most `max`, each of at most `max_bytes`. What is more is an
  // error, and is not copied.
  std::vector<std::string> Strings(const char* name, size_t max, size_t max_bytes);
  std::vector<int64_t> Integers(const char* name, size_t max);

  // Records an error of the field unless there is one already.
  void Fail(std::string_view name, std::string_view message);
  const absl::Status& status() const { return status_; }

 private:
  template <typename T>
  std::optional<T> WrongType(const char* name, const char* wanted, const Json& got);
  void FailItem(const char* name, size_t index, const char* wanted, const Json& got);
  // False, and an error, for more than `max`.
  bool AtMost(const char* name, size_t count, size_t max, const char* what);

  const Json& object_;
  const std::string path_;
  absl::Status status_;
};

// The value as an integer: 16 and 16.0 are, 16.5 and true are not.
std::optional<int64_t> AsInteger(const Json& value);

}  // namespace baram::server

#endif  // BARAM_SERVER_JSON_FIELDS_H_
