// JsonFields and its parser: types, names, hostile bodies.
#include "server/json_fields.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "server/errors.h"

namespace baram::server {
namespace {

using testing::ElementsAre;
using testing::EndsWith;
using testing::HasSubstr;
using testing::StartsWith;

std::string ErrorOf(std::string_view body) {
  const auto json = ParseBody(body);
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

TEST(ParsesQuicklyTest, ByParts) {
  const auto list = [](const std::string& item, size_t items) {
    std::string body = "[" + item;
    for (size_t i = 1; i < items; ++i) body += "," + item;
    return body + "]";
  };
  EXPECT_TRUE(ParsesQuickly(list("[]", 2000))) << "it is small";
  EXPECT_FALSE(ParsesQuickly(list("[]", 20'000)));
  EXPECT_FALSE(ParsesQuickly(list(R"({"a":1})", 5000)));
  EXPECT_TRUE(ParsesQuickly(list("12345", 10'000))) << "token ids";
  EXPECT_TRUE(ParsesQuickly(list("\"" + std::string(30'000, '[') + R"(\"[")", 2))) << "texts";
}

TEST(ParseBodyTest, SaysWhatIsNotJsonAndWhere) {
  EXPECT_EQ(ErrorOf(""), "The body is empty; send a JSON object.");
  for (const std::string body : {"{\"a\":\"\xed\xa0\x80\"}", "{\"a\":\"\xff\"}", "\xc3"}) {
    EXPECT_EQ(ErrorOf(body), "The body is not valid UTF-8.") << body;
  }
  for (const char* body : {R"({"a":1e999})", R"({"a":-1e999})"}) {
    EXPECT_EQ(ErrorOf(body), "The body holds a number that is too large.") << body;
  }
  for (const std::string body :
       {"{", "nonsense", R"({"a":1}x)", R"({"a":NaN})", R"({"a":Infinity})", R"({"a":\"\ud800\"})",
        R"({"a":"\ud800"})", R"({"a":"\ude00\ud800"})", "]}", R"({"a":"\)", R"({"a)", R"({'a':1})",
        R"({"a":01})", R"({"a":1,})", "{\"a\":\"\n\"}"}) {
    EXPECT_THAT(ErrorOf(body), StartsWith("The body is not JSON: at byte ")) << body;
    EXPECT_THAT(ErrorOf(body), EndsWith(".")) << body;
  }
  EXPECT_EQ(ErrorOf(R"({"a": nope})"), "The body is not JSON: at byte 8, invalid literal.");
  EXPECT_LT(ErrorOf(R"({"a":")" + std::string(100'000, 'x')).size(), 300u);
  EXPECT_EQ(ErrorOf("[1]"), "The body must be a JSON object.");
  EXPECT_EQ(ErrorOf("null"), "The body must be a JSON object.");
  EXPECT_EQ(ErrorOf("{}"), "");
  EXPECT_EQ(ErrorOf("\xef\xbb\xbf{\"a\": \"한국어 \\ud55c\"}"), "");
}

TEST(ParseBodyTest, TakesOddNumbersKeysAndCharacters) {
  const auto json =
      ParseBody(R"({"zero":-0,"large":18446744073709551615,"larger":18446744073709551616,)"
                R"("twice":1,"twice":2,"nul":"a\u0000b","pair":"\ud83d\ude42"})");
  ASSERT_TRUE(json.ok()) << json.status();
  EXPECT_EQ(AsInteger((*json)["zero"]), 0);
  EXPECT_EQ(AsInteger((*json)["large"]), std::nullopt);
  EXPECT_EQ(AsInteger((*json)["larger"]), std::nullopt);
  EXPECT_EQ((*json)["twice"], 2);
  EXPECT_EQ((*json)["nul"], std::string("a\0b", 3));
  EXPECT_EQ((*json)["pair"], "🙂");
}

TEST(ParseBodyTest, BoundsDepthAndKeys) {
  EXPECT_EQ(ErrorOf(Nested(64)), "");
  EXPECT_THAT(ErrorOf(Nested(65)), HasSubstr("deeper than 64"));
  EXPECT_THAT(ErrorOf(std::string(5'000'000, '[')), HasSubstr("deeper than 64"));
  EXPECT_EQ(ErrorOf(Keys(512)), "");
  EXPECT_THAT(ErrorOf(Keys(513)), HasSubstr("more than 512 keys"));
  // Brackets and colons within strings are text.
  EXPECT_EQ(ErrorOf(R"({"a":"\"\\)" + std::string(1000, '[') + std::string(1000, ':') + "\"}"), "");
  std::string nodes = R"({"a":["[{\"")";
  for (int i = 0; i < (1 << 16) - 1; ++i) nodes += R"(,"",[],{"":1})";
  EXPECT_EQ(ErrorOf(nodes + "]}"), "");
  EXPECT_EQ(ErrorOf(nodes + ",[]]}"),
            "The body has more than 262144 strings, arrays and objects; send fewer.");
  // Keys of adjacent objects are counted separately.
  EXPECT_EQ(ErrorOf(R"({"a":[)" + Keys(400) + "," + Keys(400) + "]}"), "");
}

// A parser that scans back over all siblings would take minutes for this.
TEST(ParseBodyTest, TakesManySiblings) {
  std::string body = R"({"a":[{})";
  for (int i = 0; i < 250'000; ++i) body += ",{}";
  EXPECT_EQ(ErrorOf(body + "]}"), "");
}

TEST(ParseBodyTest, KeepsTheOrderOfKeys) {
  const auto json = ParseBody(R"({"z":1,"a":{"y":2,"b":3}})");
  ASSERT_TRUE(json.ok());
  EXPECT_EQ(Dump(*json), R"({"z":1,"a":{"y":2,"b":3}})");
}

TEST(DumpTest, ReplacesWhatIsNoCharacter) { EXPECT_EQ(Dump(Json("한\xed\x95")), "\"한\uFFFD\""); }

TEST(DumpTest, TextIsWrittenAsAnyValue) {
  for (const std::string& text :
       std::vector<std::string>{"", " wind", "바람 🙂", "a\"b", "a\\b", "line\n", "\x1f",
                                "\x7f", std::string("a\0b", 3), "\u2028", "\uFFFD", "한\xed\x95",
                                "\xff", "\xc0\xaf", "\xed\xa0\x80", "\xf5\x80\x80\x80"}) {
    EXPECT_EQ(DumpText(text), Dump(Json(text)));
  }
}

TEST(AppendFloatTest, WritesTheShortestNumberThatIsNoInteger) {
  const auto text = [](float value) {
    std::string json;
    AppendFloat(&json, value);
    return json;
  };
  EXPECT_EQ(text(0), "0.0");
  EXPECT_EQ(text(-0.1f), "-0.1");
  EXPECT_EQ(text(-9999), "-9999.0");
  EXPECT_EQ(text(-1e-7f), "-1e-07");
  EXPECT_EQ(text(-3.4e38f), "-3.4e+38");
  for (float value = -20; value < 0; value += 0.00123f) {
    const Json number = Json::parse(text(value));
    EXPECT_TRUE(number.is_number_float());
    EXPECT_EQ(number.get<float>(), value);
  }
}

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
  EXPECT_THAT(fields.Integers("a", 2), ElementsAre(1, 2));
  EXPECT_THAT(fields.Strings("one", 1, 1), ElementsAre("x"));
  EXPECT_THAT(fields.Strings("many", 2, 1), ElementsAre("x", "y"));
  for (const char* absent : {"nil", "none"}) {
    EXPECT_EQ(fields.Integer(absent), std::nullopt);
    EXPECT_EQ(fields.Number(absent), std::nullopt);
    EXPECT_EQ(fields.Bool(absent), std::nullopt);
    EXPECT_EQ(fields.String(absent), std::nullopt);
    EXPECT_EQ(fields.Object(absent), nullptr);
    EXPECT_EQ(fields.Array(absent), nullptr);
    EXPECT_TRUE(fields.Strings(absent, 1, 1).empty());
    EXPECT_TRUE(fields.Integers(absent, 1).empty());
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
  EXPECT_EQ(wrong([](JsonFields& f) { f.Integer("n"); }),
            "outer.n: outer.n must be an integer, but is true.");
  EXPECT_EQ(wrong([](JsonFields& f) { f.Number("d"); }),
            "outer.d: outer.d must be a number, but is a string.");
  EXPECT_EQ(wrong([](JsonFields& f) { f.Number("n"); }),
            "outer.n: outer.n must be a number, but is true.");
  EXPECT_EQ(wrong([](JsonFields& f) { f.Bool("b"); }),
            "outer.b: outer.b must be true or false, but is the number 1.");
  EXPECT_EQ(wrong([](JsonFields& f) { f.String("s"); }),
            "outer.s: outer.s must be a string, but is the number 7.");
  EXPECT_EQ(wrong([](JsonFields& f) { f.Object("o"); }),
            "outer.o: outer.o must be an object, but is an array.");
  EXPECT_EQ(wrong([](JsonFields& f) { f.Array("a"); }),
            "outer.a: outer.a must be an array, but is an object.");
  EXPECT_EQ(wrong([](JsonFields& f) { f.Integers("ints", 2); }),
            "outer.ints: outer.ints[1] must be an integer, but is a string.");
  EXPECT_EQ(wrong([](JsonFields& f) { f.Strings("strings", 2, 1); }),
            "outer.strings: outer.strings[1] must be a string, but is the number 1.");
  EXPECT_EQ(wrong([](JsonFields& f) { f.Strings("n", 1, 1); }),
            "outer.n: outer.n must be a string or an array of strings, but is true.");
  EXPECT_EQ(wrong([](JsonFields& f) { f.Integers("ints", 1); }),
            "outer.ints: outer.ints has 2 ids but at most 1 are allowed.");
  EXPECT_EQ(wrong([](JsonFields& f) { f.Strings("strings", 1, 1); }),
            "outer.strings: outer.strings has 2 strings but at most 1 are allowed.");
  EXPECT_EQ(wrong([](JsonFields& f) { f.Strings("d", 1, 2); }),
            "outer.d: outer.d has 3 bytes in one string but at most 2 are allowed.");
  EXPECT_EQ(wrong([](JsonFields& f) { f.String("d", 2); }),
            "outer.d: outer.d has 3 bytes but at most 2 are allowed.");
}

}  // namespace
}  // namespace baram::server
