// ConfigFields: typed, range-checked access to a JSON object from an untrusted source.
#ifndef BARAM_ENGINE_MODEL_CONFIG_FIELDS_H_
#define BARAM_ENGINE_MODEL_CONFIG_FIELDS_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "nlohmann/json.hpp"

namespace baram {

// The content of a regular file. The errors of RegularFile::Open and ReadAt; also DataLoss: it is
// longer than `max_bytes`.
absl::StatusOr<std::string> ReadSmallFile(const std::string& path, int64_t max_bytes);

// Parses `text`, which came from `path`, as one JSON object nested at most `max_depth` deep.
absl::StatusOr<nlohmann::json> ParseJsonFile(const std::string& path, const std::string& text,
                                             int max_depth);

// A value from a model folder, safe to show in a message: as ASCII JSON, strings in quotes, so that
// it cannot send control sequences to a terminal; cut after 80 characters.
std::string Quote(const nlohmann::json& foreign);

// The fields of one object. The first error is kept and later ones are dropped, so a reader reads
// every field it wants and then checks status() once; until then it gets harmless values. Nested
// objects share the error of the outermost one. Copies are views of the same object.
class ConfigFields {
 public:
  // `path` names the file in messages.
  ConfigFields(std::string path, nlohmann::json object);

  // Whether there are no fields.
  bool IsEmpty() const { return object_->empty(); }
  // Whether the field is present and not null.
  bool Has(const std::string& name) const;
  // Whether the field is present and null.
  bool IsNull(const std::string& name) const;

  // Whole numbers from `least` to `most`. Without a fallback the field must be present.
  int64_t Integer(const std::string& name, int64_t least, int64_t most) const;
  int64_t IntegerOr(const std::string& name, int64_t least, int64_t most, int64_t fallback) const;
  // Finite numbers from `least` to `most`.
  double NumberOr(const std::string& name, double least, double most, double fallback) const;
  bool BoolOr(const std::string& name, bool fallback) const;
  std::string StringOr(const std::string& name, const std::string& fallback) const;
  // Lists; empty if absent. Integers also accepts one bare number.
  std::vector<std::string> Strings(const std::string& name) const;
  std::vector<int64_t> Integers(const std::string& name, int64_t least, int64_t most) const;
  bool IsObject(const std::string& name) const;
  bool IsString(const std::string& name) const;
  // The object under `name`; an empty one if absent.
  ConfigFields Object(const std::string& name) const;
  // An object without fields.
  ConfigFields Nothing() const;

  // The field's value for messages, see Quote; "null" if absent.
  std::string Show(const std::string& name) const;

  // Records an error about the field: DataLoss "config.json: hidden_size ...", or Unimplemented.
  void Fail(const std::string& name, const std::string& complaint) const;
  void FailUnsupported(const std::string& name, const std::string& what_is_supported) const;

  absl::Status status() const { return *status_; }

 private:
  ConfigFields(std::string path, std::string prefix, const nlohmann::json* object,
               std::shared_ptr<const nlohmann::json> root, std::shared_ptr<absl::Status> status);
  const nlohmann::json* Find(const std::string& name) const;
  void Complain(absl::StatusCode code, const std::string& sentence) const;

  std::string path_;
  std::string prefix_;  // "rope_scaling." inside an object
  std::shared_ptr<const nlohmann::json> root_;
  const nlohmann::json* object_;  // inside *root_
  std::shared_ptr<absl::Status> status_;
};

}  // namespace baram

#endif  // BARAM_ENGINE_MODEL_CONFIG_FIELDS_H_
