// Safetensors: reads one .safetensors file from an untrusted source.
//
// The format: 8 bytes of header length, little-endian; a JSON object
//   {"name": {"dtype": "BF16", "shape": [2, 3], "data_offsets": [begin, end]}, ...,
//    "__metadata__": {"key": "text", ...}}
// padded with spaces; then the data, to which the offsets are relative.
#include "engine/model/safetensors.h"

#include <algorithm>
#include <limits>
#include <unordered_set>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "engine/model/config_fields.h"
#include "engine/model/other_formats.h"
#include "nlohmann/json.hpp"

namespace baram {
namespace {

constexpr int64_t kMaxHeaderBytes = 100'000'000;  // the format's own limit
constexpr size_t kMaxRank = 8;
constexpr size_t kMaxNameBytes = 256;
constexpr char kMetadata[] = "__metadata__";

struct FileType {
  const char* name;
  int64_t bytes;
  std::optional<DType> dtype;
};
constexpr FileType kFileTypes[] = {
    {"BF16", 2, DType::kBF16}, {"F16", 2, DType::kF16},      {"F32", 4, DType::kF32},
    {"F64", 8, std::nullopt},  {"BOOL", 1, std::nullopt},    {"U8", 1, std::nullopt},
    {"I8", 1, std::nullopt},   {"U16", 2, std::nullopt},     {"I16", 2, std::nullopt},
    {"U32", 4, std::nullopt},  {"I32", 4, std::nullopt},     {"U64", 8, std::nullopt},
    {"I64", 8, std::nullopt},  {"F8_E4M3", 1, std::nullopt}, {"F8_E5M2", 1, std::nullopt},
    {"C64", 8, std::nullopt},  {"F8_E8M0", 1, std::nullopt},
};

const FileType* FindType(const std::string& name) {
  const auto* found = std::find_if(std::begin(kFileTypes), std::end(kFileTypes),
                                   [&](const FileType& type) { return name == type.name; });
  return found == std::end(kFileTypes) ? nullptr : found;
}

// Walks the header's JSON without building it, so that a large hostile header costs no more memory
// than its tensors do, and stops at the first thing that the format does not allow.
class HeaderReader final : public nlohmann::json_sax<nlohmann::json> {
 public:
  HeaderReader(std::vector<TensorEntry>& tensors, size_t most_tensors)
      : tensors_(tensors), most_tensors_(most_tensors) {}
  const std::string& complaint() const { return complaint_; }

  bool key(std::string& name) override {
    if (place_ == Place::kTensor) return BeginField(name);
    if (place_ == Place::kMetadata) return true;
    if (name.size() > kMaxNameBytes) return Complain("a tensor's name is too long");
    if (!std::all_of(name.begin(), name.end(), absl::ascii_isprint)) {
      return Complain("a tensor's name is not printable ASCII");  // it appears in messages
    }
    if (!names_.insert(name).second) {
      return Complain(absl::StrCat("tensor ", name, " is there twice"));
    }
    name_ = name;
    return true;
  }

  bool start_object(std::size_t) override {
    if (place_ == Place::kStart) {
      place_ = Place::kTop;
    } else if (place_ == Place::kTop && name_ == kMetadata) {
      place_ = Place::kMetadata;
    } else if (place_ == Place::kTop) {
      place_ = Place::kTensor;
      if (tensors_.size() == most_tensors_) {
        return Complain(absl::StrCat("the checkpoint has more than ", kMaxTensors, " tensors"));
      }
      tensors_.push_back({.name = name_, .dtype = "", .shape = {}});
      has_dtype_ = has_shape_ = has_offsets_ = false;
    } else {
      return Misplaced("an object");
    }
    return true;
  }

  bool end_object() override {
    if (place_ == Place::kTensor && !(has_dtype_ && has_shape_ && has_offsets_)) {
      return Complain(absl::StrCat("tensor ", name_, " lacks ",
                                   !has_dtype_   ? "dtype"
                                   : !has_shape_ ? "shape"
                                                 : "data_offsets"));
    }
    place_ = place_ == Place::kTop ? Place::kEnd : Place::kTop;
    return true;
  }

  bool start_array(std::size_t) override {
    if (place_ != Place::kTensor || field_ == Field::kDtype) return Misplaced("a list");
    place_ = Place::kList;
    numbers_.clear();
    return true;
  }

  bool end_array() override {
    place_ = Place::kTensor;
    if (field_ == Field::kShape) {
      tensors_.back().shape = numbers_;
    } else if (numbers_.size() != 2 || numbers_[0] > numbers_[1]) {
      return Complain(absl::StrCat("tensor ", name_, " has data_offsets ", ShowShape(numbers_),
                                   ", not a begin and an end"));
    } else {
      tensors_.back().begin = numbers_[0];
      tensors_.back().bytes = numbers_[1] - numbers_[0];
    }
    return true;
  }

  bool number_unsigned(uint64_t value) override {
    if (place_ != Place::kList) return Misplaced("a number");
    if (value > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
      return Complain(absl::StrCat("tensor ", name_, " has the number ", value));
    }
    if (numbers_.size() == kMaxRank) {
      return Complain(
          absl::StrCat("tensor ", name_, " has a list of more than ", kMaxRank, " numbers"));
    }
    numbers_.push_back(static_cast<int64_t>(value));
    return true;
  }

  bool string(std::string& value) override {
    if (place_ == Place::kMetadata) return true;
    if (place_ != Place::kTensor || field_ != Field::kDtype) return Misplaced("a text");
    tensors_.back().dtype = value.substr(0, 32);
    return true;
  }

  bool number_integer(int64_t) override { return Misplaced("a negative number"); }
  bool number_float(double, const std::string&) override { return Misplaced("a fraction"); }
  bool boolean(bool) override { return Misplaced("a boolean"); }
  bool null() override { return Misplaced("a null"); }
  bool binary(nlohmann::json::binary_t&) override { return Misplaced("binary"); }
  bool parse_error(std::size_t position, const std::string&,
                   const nlohmann::json::exception&) override {
    return Complain(absl::StrCat("the header is not valid JSON at its byte ", position));
  }

 private:
  enum class Place { kStart, kTop, kMetadata, kTensor, kList, kEnd };
  enum class Field { kDtype, kShape, kOffsets };

  bool Complain(std::string sentence) {
    if (complaint_.empty()) complaint_ = std::move(sentence);
    return false;
  }
  bool Misplaced(const char* what) {
    return Complain(name_.empty() ? absl::StrCat("the header has ", what, " out of place")
                                  : absl::StrCat("tensor ", name_, " has ", what, " out of place"));
  }
  bool BeginField(const std::string& field) {
    bool* seen = nullptr;
    if (field == "dtype") {
      field_ = Field::kDtype;
      seen = &has_dtype_;
    } else if (field == "shape") {
      field_ = Field::kShape;
      seen = &has_shape_;
    } else if (field == "data_offsets") {
      field_ = Field::kOffsets;
      seen = &has_offsets_;
    } else {
      return Complain(absl::StrCat("tensor ", name_, " has a field that the format does not"));
    }
    if (*seen) return Complain(absl::StrCat("tensor ", name_, " has ", field, " twice"));
    *seen = true;
    return true;
  }

  std::vector<TensorEntry>& tensors_;
  const size_t most_tensors_;
  std::unordered_set<std::string> names_;
  Place place_ = Place::kStart;
  Field field_ = Field::kDtype;
  std::string name_;  // of the tensor being read
  bool has_dtype_ = false, has_shape_ = false, has_offsets_ = false;
  std::vector<int64_t> numbers_;
  std::string complaint_;
};

// Bytes of a shape; nullopt if they do not fit into 64 bits.
std::optional<int64_t> ShapeBytes(const std::vector<int64_t>& shape, int64_t element_bytes) {
  int64_t bytes = element_bytes;
  for (const int64_t dimension : shape) {
    if (__builtin_mul_overflow(bytes, dimension, &bytes)) return std::nullopt;
  }
  return bytes;
}

}  // namespace

std::optional<DType> ToDType(const std::string& dtype) {
  const FileType* type = FindType(dtype);
  return type == nullptr ? std::nullopt : type->dtype;
}

std::string ShowShape(const std::vector<int64_t>& shape) {
  return absl::StrCat("[", absl::StrJoin(shape, ", "), "]");
}

absl::StatusOr<SafetensorsFile> SafetensorsFile::Open(const std::string& path,
                                                      size_t most_tensors) {
  absl::StatusOr<RegularFile> opened = RegularFile::Open(path);
  if (!opened.ok()) return opened.status();
  SafetensorsFile file(*std::move(opened));
  const absl::Status status = file.ReadHeader(most_tensors);
  if (!status.ok()) return status;
  return file;
}

absl::Status SafetensorsFile::Read(const TensorEntry& tensor, int64_t begin, int64_t bytes,
                                   void* out) const {
  return file_.ReadAt(tensor.begin + begin, bytes, out);
}

absl::Status SafetensorsFile::ReadHeader(size_t most_tensors) {
  const int64_t file_bytes = file_.bytes();
  constexpr int64_t kLengthBytes = 8;
  if (file_bytes < kLengthBytes) {
    return absl::DataLossError(
        absl::StrCat(path(), ": ", file_bytes, " bytes are too short for a safetensors file"));
  }
  unsigned char prefix[kLengthBytes];
  if (absl::Status status = file_.ReadAt(0, kLengthBytes, prefix); !status.ok()) return status;
  uint64_t header_bytes = 0;
  for (int i = kLengthBytes - 1; i >= 0; --i) header_bytes = header_bytes << 8 | prefix[i];
  if (header_bytes > static_cast<uint64_t>(kMaxHeaderBytes)) {
    const char* other = AdviceForContent({reinterpret_cast<const char*>(prefix), kLengthBytes});
    if (other != nullptr) return absl::DataLossError(absl::StrCat(path(), ": ", other));
    return absl::DataLossError(absl::StrCat(path(), ": a header of ", header_bytes,
                                            " bytes is longer than the format allows"));
  }
  const int64_t header_end = kLengthBytes + static_cast<int64_t>(header_bytes);
  if (header_end > file_bytes) {
    return absl::DataLossError(absl::StrCat(path(), ": truncated: the header ends at byte ",
                                            header_end, " of ", file_bytes));
  }
  std::string header(header_bytes, '\0');
  if (absl::Status status = file_.ReadAt(kLengthBytes, header_end - kLengthBytes, header.data());
      !status.ok()) {
    return status;
  }
  HeaderReader reader(tensors_, most_tensors);
  bool good = false;
  try {
    good = nlohmann::json::sax_parse(header, &reader);
  } catch (const nlohmann::json::exception&) {
    return absl::DataLossError(absl::StrCat(path(), ": the header is not valid JSON"));
  }
  if (!good) return absl::DataLossError(absl::StrCat(path(), ": ", reader.complaint()));
  // The parser accepts a byte order mark before the JSON, and a NUL as its end.
  const bool begins = header.front() == '{';
  if (!begins || header.find('\0') != std::string::npos) {
    return absl::DataLossError(absl::StrCat(path(), ": the header is not valid JSON at its byte ",
                                            begins ? header.find('\0') + 1 : 1));
  }
  return CheckEntries(header_end);
}

absl::Status SafetensorsFile::CheckEntries(int64_t header_end) {
  const int64_t data_bytes = file_.bytes() - header_end;
  const auto complain = [&](const TensorEntry& tensor, auto... words) {
    return absl::DataLossError(absl::StrCat(path(), ": tensor ", tensor.name, " ", words...));
  };
  // Each by itself first: otherwise a wrong entry would be blamed on its neighbours.
  for (const TensorEntry& tensor : tensors_) {
    const FileType* type = FindType(tensor.dtype);
    if (type == nullptr) return complain(tensor, "has the unknown dtype ", Quote(tensor.dtype));
    const std::optional<int64_t> bytes = ShapeBytes(tensor.shape, type->bytes);
    if (!bytes || *bytes != tensor.bytes) {
      return complain(tensor, "of shape ", ShowShape(tensor.shape), " and dtype ", tensor.dtype,
                      " does not fill the ", tensor.bytes, " bytes that data_offsets give it");
    }
    if (tensor.bytes > data_bytes || tensor.begin > data_bytes - tensor.bytes) {
      return complain(tensor, "ends past the end of the file, at byte ",
                      tensor.begin + tensor.bytes, " of ", data_bytes, " of data: truncated?");
    }
  }
  std::stable_sort(tensors_.begin(), tensors_.end(),
                   [](const TensorEntry& a, const TensorEntry& b) {
                     return std::pair(a.begin, a.bytes) < std::pair(b.begin, b.bytes);
                   });
  int64_t filled = 0;
  const TensorEntry* before = nullptr;
  for (TensorEntry& tensor : tensors_) {
    if (tensor.begin != filled) {
      return complain(
          tensor, "begins at byte ", tensor.begin, " of the data, not at ", filled,
          before != nullptr ? absl::StrCat(" where tensor ", before->name, " ends") : "");
    }
    filled += tensor.bytes;
    tensor.begin += header_end;
    before = &tensor;
  }
  if (filled != data_bytes) {
    return absl::DataLossError(
        absl::StrCat(path(), ": ", data_bytes - filled, " bytes at the end belong to no tensor"));
  }
  return absl::OkStatus();
}

}  // namespace baram
