// JsonFields and the parser in front of it: types, names, hostile bodies.
#include "server/json_fields.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "server/errors.h"

namespace baram::server {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::string ErrorOf(std::string_view body) {
  const auto json = ParseJsonObject(body);
  return json.ok() ? "" : std::string(json.status().message());
}

std::string Nested(int depth) {
  std::string body = R"({"a":)";
  for (int i = 1; i < depth; ++i) body += "[";
  for (int i = 1; i < depth; ++i) body += "]";
  return body + "}";
}

std::string Keys(int count) {
  std::string body = "{";
  for (int i = 0; i < count; ++i) body += (i ? ",\"k" : "\"k") + std::to_string(i) + "\":1";
  return body + "}";
}

TEST(ParseJsonObjectTest, RefusesWhatIsNotJson) {
  for (const std::string body : {"", "{", "nonsense", R"({"a":1}x)", R"({"a":NaN})",
                                 R"({"a":1e999})", "{\"a\":\"\xed\xa0\x80\"}", "{\"a\":\"\xff\"}",
                                 R"({"a":"\ud800"})", "]}", R"({"a":"\)", R"({"a)", R"({'a':1})"}) {
    EXPECT_THAT(ErrorOf(body), HasSubstr("not JSON in UTF-8")) << body;
  }
  EXPECT_THAT(ErrorOf("[1]"), HasSubstr("must be a JSON object"));
  EXPECT_EQ(ErrorOf("{}"), "");
  EXPECT_EQ(ErrorOf("\xef\xbb\xbf{\"a\": \"한국어 \\ud55c\"}"), "");
}

TEST(ParseJsonObjectTest, BoundsDepthAndKeys) {
  EXPECT_EQ(ErrorOf(Nested(64)), "");
  EXPECT_THAT(ErrorOf(Nested(65)), HasSubstr("deeper than 64"));
  EXPECT_THAT(ErrorOf(std::string(5'000'000, '[')), HasSubstr("deeper than 64"));
  EXPECT_EQ(ErrorOf(Keys(512)), "");
  EXPECT_THAT(ErrorOf(Keys(513)), HasSubstr("more than 512 keys"));
  // Brackets and colons within strings are text.
  EXPECT_EQ(ErrorOf(R"({"a":"\"\\)" + std::string(1000, '[') + std::string(1000, ':') + "\"}"), "");
  // Objects side by side are counted one by one.
  EXPECT_EQ(ErrorOf(R"({"a":[)" + Keys(400) + "," + Keys(400) + "]}"), "");
}

// A parser that looks back at every sibling would take minutes for this.
TEST(ParseJsonObjectTest, TakesManySiblings) {
  std::string body = R"({"a":[{})";
  for (int i = 0; i < 500'000; ++i) body += ",{}";
  EXPECT_EQ(ErrorOf(body + "]}"), "");
}

TEST(ParseJsonObjectTest, KeepsTheOrderOfKeys) {
  const auto json = ParseJsonObject(R"({"z":1,"a":{"y":2,"b":3}})");
  ASSERT_TRUE(json.ok());
  EXPECT_EQ(Dump(*json), R"({"z":1,"a":{"y":2,"b":3}})");
}

TEST(DumpTest, ReplacesWhatIsNoCharacter) { EXPECT_EQ(Dump(Json("한\xed\x95")), "\"한\uFFFD\""); }

TEST(AsIntegerTest, TakesWholeNumbers) {
  EXPECT_EQ(AsInteger(Json::parse("16")), 16);
  EXPECT_EQ(AsInteger(Json::parse("-16.0")), -16);
  EXPECT_EQ(AsInteger(Json::parse("1e3")), 1000);
  EXPECT_EQ(AsInteger(Json::parse("9223372036854775807")), INT64_MAX);
  EXPECT_EQ(AsInteger(Json::parse("-9223372036854775808")), INT64_MIN);
  for (const char* bad : {"16.5", "true", "null", "\"16\"", "[]", "9223372036854775808", "1e300",
                          "18446744073709551615", "9007199254740994.0"}) {
    EXPECT_EQ(AsInteger(Json::parse(bad)), std::nullopt) << bad;
  }
}

TEST(JsonFieldsTest, ReadsByType) {
  const Json json = Json::parse(
      R"({"n":2,"d":0.5,"b":true,"s":"text","o":{},"a":[1,2.0],"one":"x","many":["x","y"],"nil":null})");
  JsonFields fields(json);
  EXPECT_EQ(fields.Integer("n"), 2);
  EXPECT_EQ(fields.Number("n"), 2.0);
  EXPECT_EQ(fields.Number("d"), 0.5);
  EXPECT_EQ(fields.Bool("b"), true);
  EXPECT_EQ(fields.String("s"), "text");
  EXPECT_NE(fields.Object("o"), nullptr);
  EXPECT_THAT(fields.Integers("a"), ElementsAre(1, 2));
  EXPECT_THAT(fields.Strings("one"), ElementsAre("x"));
  EXPECT_THAT(fields.Strings("many"), ElementsAre("x", "y"));
  for (const char* absent : {"nil", "none"}) {
    EXPECT_EQ(fields.Integer(absent), std::nullopt);
    EXPECT_EQ(fields.Number(absent), std::nullopt);
    EXPECT_EQ(fields.Bool(absent), std::nullopt);
    EXPECT_EQ(fields.String(absent), std::nullopt);
    EXPECT_EQ(fields.Object(absent), nullptr);
    EXPECT_EQ(fields.Array(absent), nullptr);
    EXPECT_TRUE(fields.Strings(absent).empty());
    EXPECT_TRUE(fields.Integers(absent).empty());
  }
  EXPECT_TRUE(fields.status().ok());
}

TEST(JsonFieldsTest, NamesTheFirstWrongField) {
  const Json json = Json::parse(
      R"({"n":true,"d":"0.5","b":1,"s":7,"o":[],"a":{},"ints":[1,"2"],"strings":["x",1]})");
  const auto wrong = [&](auto read) {
    JsonFields fields(json, "outer.");
    read(fields);
    fields.Fail("later", "a later error");
    EXPECT_EQ(fields.status().code(), absl::StatusCode::kInvalidArgument);
    return FactsOf(fields.status()).field + ": " + std::string(fields.status().message());
  };
  EXPECT_EQ(wrong([](JsonFields& f) { f.Integer("n"); }), "outer.n: outer.n must be an integer");
  EXPECT_EQ(wrong([](JsonFields& f) { f.Number("d"); }), "outer.d: outer.d must be a number");
  EXPECT_EQ(wrong([](JsonFields& f) { f.Number("n"); }), "outer.n: outer.n must be a number");
  EXPECT_EQ(wrong([](JsonFields& f) { f.Bool("b"); }), "outer.b: outer.b must be true or false");
  EXPECT_EQ(wrong([](JsonFields& f) { f.String("s"); }), "outer.s: outer.s must be a string");
  EXPECT_EQ(wrong([](JsonFields& f) { f.Object("o"); }), "outer.o: outer.o must be an object");
  EXPECT_EQ(wrong([](JsonFields& f) { f.Array("a"); }), "outer.a: outer.a must be an array");
  EXPECT_THAT(wrong([](JsonFields& f) { f.Integers("ints"); }), HasSubstr("an array of integers"));
  EXPECT_THAT(wrong([](JsonFields& f) { f.Strings("strings"); }), HasSubstr("an array of strings"));
}

}  // namespace
}  // namespace baram::server
