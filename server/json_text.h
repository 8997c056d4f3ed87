// JSON written piece by piece, so that long values never exist as a tree.
#ifndef BARAM_SERVER_JSON_TEXT_H_
#define BARAM_SERVER_JSON_TEXT_H_

#include <concepts>
#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "server/json_fields.h"

namespace baram::server {

// An object, member by member; its owner takes the text once, at the end. A key must be new and
// need no escapes: neither is checked.
class JsonObjectText {
 public:
  void Add(std::string_view key, const Json& value) { AddText(key, Dump(value)); }
  // The same without building a tree for one string.
  void Add(std::string_view key, const std::convertible_to<std::string_view> auto& text) {
    AddText(key, DumpText(text));
  }
  void AddNull(std::string_view key) { AddText(key, "null"); }
  // The same for a value that is JSON text already.
  void AddText(std::string_view key, std::string_view json) {
    text_ += text_.empty() ? "{\"" : ",\"";
    text_.append(key).append("\":").append(json);
  }
  // An array of JSON texts, which may be large: each is freed as soon as it is copied. The array is
  // not copied again if what follows is short, so add members that may be long before it.
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
  static constexpr size_t kRest = 1024;  // room for what follows an array

  std::string text_;
};

// An array, item by item; its owner takes the text once, at the end.
class JsonArrayText {
 public:
  void Add(const Json& value) { AddText(Dump(value)); }
  void AddText(std::string_view json) { *Next() += json; }
  // Begins an item: append its JSON text here, before any other call.
  std::string* Next() {
    text_ += text_.empty() ? '[' : ',';
    return &text_;
  }
  // Appends the items of another array.
  void AddAll(const JsonArrayText& other) {
    if (!other.text_.empty()) AddText(std::string_view(other.text_).substr(1));
  }
  size_t size() const { return text_.size(); }  // in bytes
  std::string Take() {
    text_ += text_.empty() ? "[]" : "]";
    return std::exchange(text_, "");
  }

 private:
  std::string text_;
};

}  // namespace baram::server

#endif  // BARAM_SERVER_JSON_TEXT_H_
