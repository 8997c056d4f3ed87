// Safetensors files and checkpoints, valid and hostile.
#include "engine/model/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <filesystem>

#include "engine/model/checkpoint.h"
#include "tests/model/scratch_folder.h"

namespace baram {
namespace {

using ::testing::HasSubstr;
using testing::SafetensorsBytes;
using testing::ScratchFolder;

// The error from opening a file of these bytes; empty: none.
std::string Complaint(const std::string& bytes) {
  const ScratchFolder folder;
  const auto file = SafetensorsFile::Open(folder.Write("x.safetensors", bytes));
  if (file.ok()) return "";
  EXPECT_EQ(file.status().code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(file.status().message(), HasSubstr("x.safetensors: "));
  return std::string(file.status().message());
}

std::string Complaint(const std::string& header, size_t data_bytes) {
  return Complaint(SafetensorsBytes(header, std::string(data_bytes, '\1')));
}

std::string Tensor(const std::string& name, const std::string& dtype, const std::string& shape,
                   const std::string& offsets) {
  return "\"" + name + R"(":{"dtype":")" + dtype + R"(","shape":)" + shape + R"(,"data_offsets":)" +
         offsets + "}";
}

const char kGood[] =
    R"({"__metadata__":{"format":"pt"},"b":{"dtype":"F32","shape":[2],"data_offsets":[12,20]},)"
    R"("a":{"dtype":"BF16","shape":[2,3],"data_offsets":[0,12]}}   )";

TEST(SafetensorsTest, ReadsWhatIsThere) {
  const ScratchFolder folder;
  std::string data;
  for (char c = 0; c < 20; ++c) data += c;
  const auto file =
      SafetensorsFile::Open(folder.Write("good.safetensors", SafetensorsBytes(kGood, data)));
  ASSERT_TRUE(file.ok()) << file.status();
  ASSERT_EQ(file->tensors().size(), 2u);
  const TensorEntry& a = file->tensors()[0];
  const TensorEntry& b = file->tensors()[1];
  EXPECT_EQ(a.name, "a");
  EXPECT_EQ(a.dtype, "BF16");
  EXPECT_EQ(a.shape, (std::vector<int64_t>{2, 3}));
  EXPECT_EQ(a.bytes, 12);
  EXPECT_EQ(b.bytes, 8);
  std::string read(3, '?');
  ASSERT_TRUE(file->Read(b, 2, 3, read.data()).ok());
  EXPECT_EQ(read, std::string("\x0e\x0f\x10"));
}

TEST(SafetensorsTest, EmptyTensorsAndScalarsAreFine) {
  EXPECT_EQ(Complaint("{" + Tensor("a", "F32", "[0,7]", "[0,0]") + "," +
                          Tensor("b", "F32", "[]", "[0,4]") + "," +
                          Tensor("c", "F32", "[3,0]", "[4,4]") + "}",
                      4),
            "");
  EXPECT_EQ(Complaint("{}", 0), "");
}

// Every proper prefix of a good file is refused, wherever it is cut.
TEST(SafetensorsTest, EveryTruncationIsRefused) {
  const std::string good = SafetensorsBytes(kGood, std::string(20, '\1'));
  ASSERT_EQ(Complaint(good), "");
  for (size_t bytes = 0; bytes < good.size(); ++bytes) {
    EXPECT_NE(Complaint(good.substr(0, bytes)), "") << bytes << " bytes";
  }
  // The same cuts with a matching length, so that the JSON itself ends early.
  const std::string header = kGood;
  for (size_t bytes = 0; bytes + 4 < header.size(); ++bytes) {
    EXPECT_NE(Complaint(header.substr(0, bytes), 20), "") << bytes << " bytes of header";
  }
}

// Changing any byte of a header must not cause a crash.
TEST(SafetensorsTest, EveryFlippedByteIsSurvived) {
  const ScratchFolder folder;
  const std::string good = SafetensorsBytes(kGood, std::string(20, '\1'));
  for (size_t at = 0; at < good.size() - 20; ++at) {
    for (const char other : {'\0', '"', '9', '[', '{', '}', ',', '\xff'}) {
      std::string bad = good;
      bad[at] = other;
      (void)SafetensorsFile::Open(folder.Write("x.safetensors", bad));
    }
  }
}

TEST(SafetensorsTest, OtherFilesAreNamed) {
  EXPECT_THAT(Complaint("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n"),
              HasSubstr("git lfs pull"));
  EXPECT_THAT(Complaint(std::string("GGUF\3\0\0\0\0\0", 10)), HasSubstr("a GGUF file: convert"));
  EXPECT_THAT(Complaint("<!DOCTYPE html>"), HasSubstr("a web page"));
}

TEST(SafetensorsTest, HeaderLengthIsCapped) {
  EXPECT_THAT(Complaint(std::string(8, '\xff')), HasSubstr("longer than the format allows"));
  EXPECT_THAT(Complaint(std::string("\x01\xe1\xf5\x05\0\0\0\0", 8)),
              HasSubstr("a header of 100000001 bytes"));
  EXPECT_THAT(Complaint(std::string("\x10\0\0\0\0\0\0\0{}", 10)), HasSubstr("truncated"));
}

TEST(SafetensorsTest, LyingOffsetsAreNamed) {
  const auto one = [](const char* shape, const char* offsets, size_t data) {
    return Complaint("{" + Tensor("w", "F32", shape, offsets) + "}", data);
  };
  EXPECT_EQ(one("[2]", "[0,8]", 8), "");
  EXPECT_THAT(one("[2]", "[0,4]", 8), HasSubstr("tensor w of shape [2] and dtype F32 does not"));
  EXPECT_THAT(one("[2]", "[8,0]", 8), HasSubstr("tensor w has data_offsets [8, 0]"));
  EXPECT_THAT(one("[2]", "[0,8,8]", 8), HasSubstr("tensor w has data_offsets [0, 8, 8]"));
  EXPECT_THAT(one("[2]", "[4,12]", 12), HasSubstr("tensor w begins at byte 4"));
  EXPECT_THAT(one("[2]", "[0,8]", 7), HasSubstr("tensor w ends past the end"));
  EXPECT_THAT(one("[2]", "[0,8]", 9), HasSubstr("1 bytes at the end belong to no tensor"));
  EXPECT_THAT(one("[2]", "[-8,0]", 8), HasSubstr("tensor w has a negative number"));
  EXPECT_THAT(one("[2]", "[0,8.0]", 8), HasSubstr("tensor w has a fraction"));
  EXPECT_THAT(one("[2]", "[0,18446744073709551615]", 8), HasSubstr("18446744073709551615"));
  EXPECT_THAT(
      one("[2]", "[9223372036854775799,9223372036854775807]", 8),
      HasSubstr("tensor w ends past the end of the file, at byte 9223372036854775807 of 8"));
}

TEST(SafetensorsTest, ALyingOffsetIsNotBlamedOnTheNeighbour) {
  EXPECT_THAT(
      Complaint("{" + Tensor("a", "U8", "[4]", "[4611686018427387904,4611686018427387908]") + "," +
                    Tensor("b", "U8", "[4]", "[4,8]") + "}",
                8),
      HasSubstr("tensor a ends past the end"));
}

TEST(SafetensorsTest, OverlapsAndHolesAreNamed) {
  const auto two = [](const char* a, const char* b) {
    return Complaint("{" + Tensor("a", "U8", "[4]", a) + "," + Tensor("b", "U8", "[4]", b) + "}",
                     9);
  };
  EXPECT_THAT(two("[0,4]", "[2,6]"),
              HasSubstr("tensor b begins at byte 2 of the data, not at 4 where tensor a ends"));
  EXPECT_THAT(two("[0,4]", "[0,4]"), HasSubstr("tensor b begins at byte 0 of the data, not at 4"));
  EXPECT_THAT(two("[0,4]", "[5,9]"),
              HasSubstr("tensor b begins at byte 5 of the data, not at 4 where tensor a ends"));
}

TEST(SafetensorsTest, ShapesThatOverflowAreRefused) {
  for (const char* shape :
       {"[4294967296,4294967296]", "[9223372036854775807,2]", "[4611686018427387904]",
        "[2147483648,2147483648,2147483648]", "[0,9223372036854775807,9223372036854775807]"}) {
    // The last is zero times too much: refused or not, it must not crash.
    (void)Complaint("{" + Tensor("w", "F32", shape, "[0,0]") + "}", 0);
  }
  EXPECT_THAT(Complaint("{" + Tensor("w", "F32", "[4294967296,4294967296]", "[0,0]") + "}", 0),
              HasSubstr("tensor w of shape [4294967296, 4294967296]"));
  EXPECT_THAT(Complaint("{" + Tensor("w", "F32", "[1,1,1,1,1,1,1,1,1]", "[0,4]") + "}", 4),
              HasSubstr("more than 8 numbers"));
}

TEST(SafetensorsTest, DuplicatesAreNamed) {
  const std::string w = Tensor("w", "U8", "[1]", "[0,1]");
  EXPECT_THAT(Complaint("{" + w + "," + w + "}", 1), HasSubstr("tensor w is there twice"));
  EXPECT_THAT(Complaint(R"({"w":{"dtype":"U8","dtype":"U8","shape":[1],"data_offsets":[0,1]}})", 1),
              HasSubstr("tensor w has dtype twice"));
  EXPECT_THAT(Complaint(R"({"__metadata__":{},"__metadata__":{}})", 0), HasSubstr("twice"));
}

TEST(SafetensorsTest, FieldsAreChecked) {
  EXPECT_THAT(Complaint("{" + Tensor("w", "Q4", "[1]", "[0,1]") + "}", 1),
              HasSubstr("tensor w has the unknown dtype \"Q4\""));
  EXPECT_THAT(Complaint(R"({"w":{"dtype":"U8","shape":[1]}})", 0),
              HasSubstr("tensor w lacks data_offsets"));
  EXPECT_THAT(Complaint(R"({"w":{"dtype":"U8","data_offsets":[0,1]}})", 1),
              HasSubstr("tensor w lacks shape"));
  EXPECT_THAT(Complaint(R"({"w":{}})", 0), HasSubstr("tensor w lacks dtype"));
  EXPECT_THAT(Complaint(R"({"w":{"color":1}})", 0), HasSubstr("a field that the format does not"));
  EXPECT_THAT(Complaint(R"({"w":{"dtype":8}})", 0), HasSubstr("tensor w has a number"));
  EXPECT_THAT(Complaint(R"({"w":{"dtype":[8]}})", 0), HasSubstr("tensor w has a list"));
  EXPECT_THAT(Complaint(R"({"w":{"shape":"1"}})", 0), HasSubstr("tensor w has a text"));
  EXPECT_THAT(Complaint(R"({"w":{"shape":[[1]]}})", 0), HasSubstr("tensor w has a list"));
  EXPECT_THAT(Complaint(R"({"w":null})", 0), HasSubstr("tensor w has a null"));
  EXPECT_THAT(Complaint(R"({"w":[1]})", 0), HasSubstr("tensor w has a list"));
  EXPECT_THAT(Complaint(R"({"__metadata__":{"a":{}}})", 0), HasSubstr("has an object"));
  EXPECT_THAT(Complaint(R"({"__metadata__":[]})", 0), HasSubstr("has a list"));
  EXPECT_THAT(Complaint("[]", 0), HasSubstr("the header has a list out of place"));
  EXPECT_THAT(Complaint("7", 0), HasSubstr("the header has a number out of place"));
  EXPECT_THAT(Complaint("{\"\xff\":1}", 0), HasSubstr("not valid JSON"));
  EXPECT_THAT(Complaint("{} x", 0), HasSubstr("not valid JSON"));
  EXPECT_THAT(Complaint(std::string("{} \0x", 5), 0), HasSubstr("not valid JSON at its byte 4"));
  EXPECT_THAT(Complaint("\xef\xbb\xbf{}", 0), HasSubstr("not valid JSON at its byte 1"));
  EXPECT_THAT(Complaint("{\"" + std::string(2000, 'n') + "\":{}}", 0), HasSubstr("too long"));
  for (const char* name : {R"({"\u001b[31m":{}})", R"({"\u009b31m":{}})"}) {
    EXPECT_THAT(Complaint(name, 0), HasSubstr("not printable ASCII"));
  }
}

// Control characters are escaped, and long text is too.
TEST(SafetensorsTest, ForeignTextIsQuoted) {
  EXPECT_THAT(Complaint("{" + Tensor("w", "\\u001b[31m\\u009b", "[1]", "[0,1]") + "}", 1),
              HasSubstr(R"(the unknown dtype "\u001b[31m\u009b")"));
  const std::string broken = Complaint("{\"" + std::string(5000, 'n') + "\x9b\":1}", 0);
  EXPECT_THAT(broken, HasSubstr("not valid JSON at its byte 500"));
  EXPECT_LT(broken.size(), 200u);
}

TEST(SafetensorsTest, TensorsAreCounted) {
  const ScratchFolder folder;
  const std::string path =
      folder.Write("x.safetensors", SafetensorsBytes({{"a", {1}}, {"b", {1}}, {"c", {1}}}));
  EXPECT_TRUE(SafetensorsFile::Open(path, 3).ok());
  EXPECT_THAT(SafetensorsFile::Open(path, 2).status().message(),
              HasSubstr("x.safetensors: the checkpoint has more than 131072 tensors"));
}

TEST(SafetensorsTest, DeepJsonIsRefusedEarly) {
  EXPECT_THAT(Complaint(std::string(1'000'000, '['), 0), HasSubstr("out of place"));
  std::string objects;
  for (int i = 0; i < 200'000; ++i) objects += "{\"a\":";
  EXPECT_THAT(Complaint(objects, 0), HasSubstr("tensor a has a field"));
}

TEST(SafetensorsTest, OnlyRegularFilesAreOpened) {
  const ScratchFolder folder;
  EXPECT_THAT(SafetensorsFile::Open(folder.path()).status().message(),
              HasSubstr("not a regular file"));
  const std::string pipe = folder.path() + "/pipe.safetensors";
  ASSERT_EQ(mkfifo(pipe.c_str(), 0600), 0);
  EXPECT_THAT(SafetensorsFile::Open(pipe).status().message(), HasSubstr("not a regular file"));
  EXPECT_EQ(SafetensorsFile::Open(folder.path() + "/none").status().code(),
            absl::StatusCode::kNotFound);
  const std::string link = folder.path() + "/link.safetensors";
  std::filesystem::create_symlink("../../blobs/x", link);
  const absl::Status lost = SafetensorsFile::Open(link).status();
  EXPECT_EQ(lost.code(), absl::StatusCode::kPermissionDenied);
  EXPECT_THAT(lost.message(), HasSubstr("a link to what is not there"));
}

TEST(SafetensorsTest, TooManyOpenFilesAreTheMachinesFault) {
  const ScratchFolder folder;
  const std::string path = folder.Write("x.safetensors", SafetensorsBytes({{"w", {1}, 1.0f}}));
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  const rlimit none{.rlim_cur = 0, .rlim_max = before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
  const absl::Status status = SafetensorsFile::Open(path).status();
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(status.message(), HasSubstr("raise the limit of open files (ulimit -n)"));
}

TEST(SafetensorsTest, AFileThatShrinksIsAnError) {
  const ScratchFolder folder;
  const std::string path = folder.Write("x.safetensors", SafetensorsBytes({{"w", {4096}, 1.0f}}));
  const auto file = SafetensorsFile::Open(path);
  ASSERT_TRUE(file.ok());
  std::filesystem::resize_file(path, 1000);
  std::string out(8192, '\0');
  EXPECT_THAT(file->Read(file->tensors()[0], 0, 8192, out.data()).message(),
              HasSubstr("ends early"));
}

std::string OpenComplaint(const ScratchFolder& folder) {
  return std::string(Checkpoint::Open(folder.path()).status().message());
}

TEST(CheckpointTest, AFolderWithoutTensorsSaysSo) {
  const ScratchFolder folder;
  EXPECT_EQ(Checkpoint::Open(folder.path()).status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(OpenComplaint(folder), HasSubstr("neither model.safetensors nor model.safetensors."));
  folder.Write("pytorch_model-00001-of-00002.bin", "");
  EXPECT_THAT(OpenComplaint(folder), HasSubstr("; it holds \"pytorch_model-00001-of-00002.bin\": "
                                               "convert it to safetensors"));
}

TEST(CheckpointTest, ShardsMayBeLinks) {
  const ScratchFolder folder, elsewhere;
  const std::string blob = elsewhere.Write("blob", SafetensorsBytes({{"a", {2}, 1.0f}}));
  std::filesystem::create_symlink(blob, folder.path() + "/1.safetensors");
  folder.Write("2.safetensors", SafetensorsBytes({{"b", {2}, 1.0f}}));
  folder.Write("model.safetensors.index.json",
               R"({"metadata":{"total_size":8},
                   "weight_map":{"a":"1.safetensors","b":"2.safetensors"}})");
  const auto checkpoint = Checkpoint::Open(folder.path());
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  EXPECT_EQ(checkpoint->tensors().size(), 2u);
  EXPECT_EQ(checkpoint->Find("a").file->path(), folder.path() + "/1.safetensors");
  EXPECT_EQ(checkpoint->Find("c").entry, nullptr);
}

TEST(CheckpointTest, AnIndexNamesFilesBesideItOnly) {
  for (const std::string name :
       {"../1.safetensors", "/etc/passwd", "sub/1.safetensors", "..", "", ".safetensors",
        "model.bin", "a\\u0000.safetensors", "\\u001b[2J.safetensors"}) {
    const ScratchFolder folder;
    folder.Write("model.safetensors.index.json", R"({"weight_map":{"a":")" + name + "\"}}");
    EXPECT_THAT(OpenComplaint(folder), HasSubstr("gives tensor \"a\" the file \"")) << name;
  }
}

TEST(CheckpointTest, AnIndexThatLiesIsNamed) {
  const ScratchFolder folder;
  const auto index = [&](const char* text) {
    folder.Write("model.safetensors.index.json", text);
    return OpenComplaint(folder);
  };
  folder.Write("1.safetensors", SafetensorsBytes({{"a", {2}, 1.0f}}));
  folder.Write("2.safetensors", SafetensorsBytes({{"a", {2}, 1.0f}, {"b", {2}, 1.0f}}));
  EXPECT_THAT(index(R"({"weight_map":{"a":"3.safetensors"}})"),
              HasSubstr("names 3.safetensors for tensor \"a\", and there is no such file"));
  EXPECT_THAT(index(R"({"weight_map":{"\u001b[2J":"3.safetensors"}})"),
              HasSubstr(R"(for tensor "\u001b[2J", and)"));
  EXPECT_THAT(index(R"({"weight_map":{"c":"1.safetensors"}})"),
              HasSubstr("says that 1.safetensors holds tensor \"c\""));
  EXPECT_THAT(index(R"({"weight_map":{"a":"1.safetensors","b":"2.safetensors"}})"),
              HasSubstr("tensor a is both in"));
  folder.Write("3.safetensors", SafetensorsBytes({{"c", {2}, 1.0f}}));
  EXPECT_THAT(
      index(R"({"weight_map":{"a":"2.safetensors","b":"3.safetensors","c":"3.safetensors"}})"),
      HasSubstr("says that 3.safetensors holds tensor \"b\""));
  EXPECT_THAT(index(R"({"weight_map":{}})"), HasSubstr("weight_map is missing"));
  EXPECT_THAT(index(R"({"weight_map":{"a":7}})"), HasSubstr("gives tensor \"a\" the file 7"));
  EXPECT_THAT(index("[]"), HasSubstr("not a JSON object"));
  EXPECT_THAT(index(R"({"weight_map":{"a":{"b":{"c":{"d":{"e":1}}}}}})"), HasSubstr("nested"));
  EXPECT_THAT(index("{"), HasSubstr("not valid JSON"));
}

// A duplicate name ends it, before further files are read.
TEST(CheckpointTest, OneFileUnderManyNamesIsReadTwiceAtMost) {
  const ScratchFolder folder;
  const std::string file =
      folder.Write("1.safetensors", SafetensorsBytes({{"a", {2}}, {"b", {2}}, {"c", {2}}}));
  std::filesystem::create_symlink(file, folder.path() + "/2.safetensors");
  folder.Write("3.safetensors", "broken");
  folder.Write("model.safetensors.index.json",
               R"({"weight_map":{"a":"1.safetensors","b":"2.safetensors","c":"3.safetensors"}})");
  EXPECT_THAT(OpenComplaint(folder), HasSubstr("tensor a is both in"));
}

TEST(CheckpointTest, TensorsOfAllFilesAreCounted) {
  const ScratchFolder folder;
  const auto write = [&](const std::string& name, size_t tensors) {
    std::string header = "{";
    for (size_t i = 0; i < tensors; ++i) {
      header += (i > 0 ? "," : "") + Tensor(name + std::to_string(i), "U8", "[0]", "[0,0]");
    }
    folder.Write(name + ".safetensors", SafetensorsBytes(header + "}", ""));
  };
  folder.Write("model.safetensors.index.json",
               R"({"weight_map":{"a0":"a.safetensors","b0":"b.safetensors"}})");
  write("a", kMaxTensors - 1);
  write("b", 1);
  EXPECT_EQ(OpenComplaint(folder), "");
  write("b", 2);
  EXPECT_THAT(OpenComplaint(folder), HasSubstr("b.safetensors: the checkpoint has more than"));
}

}  // namespace
}  // namespace baram
