// JSON written piece by piece, so that what is long is never a tree of values.
#ifndef BARAM_SERVER_JSON_TEXT_H_
#define BARAM_SERVER_JSON_TEXT_H_

#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "server/json_fields.h"

namespace baram::server {

class JsonObjectText {
 public:
  // A key must need no escapes and be new.
  void Add(std::string_view key, const Json& value) { AddText(key, Dump(value)); }
  // The same for a value that is JSON text already.
  void AddText(std::string_view key, std::string_view json) {
    text_ += text_.empty() ? "{\"" : ",\"";
    text_.append(key).append("\":").append(json);
  }
  // An array of JSON texts, which may be large: each is freed as soon as it is copied.
  void AddArray(std::string_view key, std::vector<std::string> items) {
    size_t bytes = 0;
    for (const std::string& item : items) bytes += item.size() + 1;
    AddText(key, "[");
    text_.reserve(text_.size() + bytes + kRest);
    for (size_t i = 0; i < items.size(); ++i) {
      if (i > 0) text_ += ',';
      text_ += std::exchange(items[i], "");
    }
    text_ += ']';
  }
  std::string Take() {
    text_ += text_.empty() ? "{}" : "}";
    return std::exchange(text_, "");
  }

 private:
  static constexpr size_t kRest = 1024;  // what follows an array, if it is short

  std::string text_;
};

class JsonArrayText {
 public:
  void Add(const Json& value) { AddText(Dump(value)); }
  void AddText(std::string_view json) {
    text_ += text_.empty() ? '[' : ',';
    text_ += json;
  }
  std::string Take() {
    text_ += text_.empty() ? "[]" : "]";
    return std::exchange(text_, "");
  }

 private:
  std::string text_;
};

}  // namespace baram::server

#endif  // BARAM_SERVER_JSON_TEXT_H_
