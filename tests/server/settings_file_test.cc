// The --config file: its syntax, and its errors with their lines.
#include <gmock/gmock.h>

#include <string>
#include <utility>
#include <vector>

#include "server/exit_codes.h"
#include "tests/model/scratch_folder.h"
#include "tests/server/settings_fixture.h"

namespace baram::server {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

using SettingsFileTest = SettingsTest;

TEST_F(SettingsFileTest, FilesThatCantBeUsed) {
  EXPECT_TRUE(absl::IsNotFound(Parse({"--config", "/no/such/file"}).status()));
  const baram::testing::ScratchFolder folder;
  const std::string unknown = folder.Write("unknown.toml",
                                           "# ours\n\nserved-model-name = [\n  \"a#1\",  # first\n"
                                           "  \"b\"]  # last\nmax-num-seq = 3\n");
  EXPECT_EQ(Error({"--config", unknown}),
            "--config " + unknown +
                ", line 6: there is no setting \"max-num-seq\". Did you mean max-num-seqs?");
  EXPECT_EQ(ExitCode(Parse({"--config", unknown}).status()), kExitConfig);
  const std::string section = folder.Write("section.toml", "max-n = 3\n[serve]\n");
  EXPECT_EQ(Error({"--config", section}),
            "--config " + section + ", line 2: \"[serve]\" is not of the form name = value.");
  const std::string yaml = folder.Write("config.yaml", "max-n: 3\n");
  EXPECT_THAT(Error({"--config", yaml}), HasSubstr("line 1: \"max-n: 3\" is not of the form"));
  const std::string twice = folder.Write("twice.toml", "max-n = 3\n\nthreads = 1\nmax-n = 4\n");
  EXPECT_EQ(Error({"--config", twice}),
            "--config " + twice + ", line 4: max-n is already set on line 1; remove one of them.");
  const std::string both =
      folder.Write("both.toml", "prefix-cache = true\nno-prefix-cache = true\n");
  EXPECT_THAT(Error({"--config", both}),
              HasSubstr("line 2: prefix-cache is already set on line 1"));
  const std::string open = folder.Write("open.toml", "served-model-name = [\"a\",\n\"b\"\n");
  EXPECT_THAT(Error({"--config", open}), HasSubstr("line 1: the list has no ] at its end."));
  const std::string quote = folder.Write("quote.toml", "device = \"cpu\n");
  EXPECT_THAT(Error({"--config", quote}), HasSubstr("line 1: the quote of \"cpu has no end."));
  const std::string endless = folder.Write("endless.toml", std::string((1 << 20) + 1, '\n'));
  EXPECT_THAT(Error({"--config", endless}), HasSubstr("there are more than 1048576 bytes"));
  const std::string nul =
      folder.Write("nul.toml", std::string("max-n = 3\n\ndevice = c") + '\0' + "pu\n");
  EXPECT_EQ(Error({"--config", nul}),
            "--config " + nul + ", line 3: there is a NUL byte; save the file as text in UTF-8.");
  EXPECT_EQ(ExitCode(Parse({"--config", nul}).status()), kExitConfig);
  const std::string list = folder.Write("list.toml", "max-n = [3, 4]\n");
  EXPECT_THAT(Error({"--config", list}), HasSubstr("line 1: max-n takes one value, not a list."));
  EXPECT_EQ(ExitCode(Parse({"--config", folder.path()}).status()), kExitNoInput);
}

TEST_F(SettingsFileTest, ValuesOfAFile) {
  const baram::testing::ScratchFolder folder;
  const std::string file = folder.Write(
      "baram.toml",
      "served-model-name = [ \"a#1\", # one\n  'b, c',\n]\nchat-template = \"/my folder/x#y\" # "
      "two\n"
      "http-allowed-origins = http://a, http://b # three\ndevice = cpu#1 # four\nno-prefix-cache = "
      "true\npin-threads = "
      "ON\n"
      "; three\n\"max-n\" = 7\nisa=avx2\n");
  const auto config = Parse({"--config=" + file});
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_THAT(config->served_model_names, ElementsAre("a#1", "b, c"));
  EXPECT_EQ(config->chat_template, "/my folder/x#y");
  EXPECT_THAT(config->http_allowed_origins, ElementsAre("http://a", "http://b"));
  EXPECT_EQ(config->device, "cpu#1");
  EXPECT_FALSE(config->prefix_cache);
  EXPECT_TRUE(config->pin_threads);
  EXPECT_EQ(config->max_n, 7);
  EXPECT_EQ(config->isa, "avx2");
}

TEST_F(SettingsFileTest, ABracketIsNoListWhereOneValueIsWanted) {
  const baram::testing::ScratchFolder folder;
  const std::string file = folder.Write(
      "baram.toml", "grpc-listen = [::1]:50051\nhttp-listen = \"[::1]:8000\"\nmax-n = 3\n");
  const auto config = Parse({"--config", file});
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->grpc_listen, "[::1]:50051");
  EXPECT_EQ(config->http_listen, "[::1]:8000");
  EXPECT_EQ(config->max_n, 3);
}

// A malformed list consumes no line that follows, and none of its items is guessed.
TEST_F(SettingsFileTest, ListsOfAFileThatAreWrittenWrong) {
  const baram::testing::ScratchFolder folder;
  const auto error = [&](const std::string& text) {
    const std::string message = Error({"--config", folder.Write("list.toml", text)});
    return message.substr(std::min(message.size(), message.find("line ")));
  };
  EXPECT_EQ(error("served-model-name = [a] x\nhttp-allowed-origins = [b]\n"),
            "line 1: \"x\" follows the list's ]; a bracket inside an item needs quotes around "
            "it.");
  EXPECT_EQ(error("served-model-name = [a,\nhttp-allowed-origins = [b]\n"),
            "line 2: the list opened on line 1 is not closed before this [; a bracket inside an "
            "item needs quotes around it.");
  EXPECT_EQ(error("served-model-name = [\n\"a\"\n\"b\"]\n"),
            "line 1: a comma is missing in the list after \"a\".");
  EXPECT_EQ(error("served-model-name = [a\nb]\n"),
            "line 1: a comma is missing in the list after a.");
  EXPECT_EQ(error("served-model-name = [\"a\" b]\n"),
            "line 1: \"a\" b continues after its closing quote.");
  EXPECT_EQ(error("served-model-name = [a,\n\"b]\n"), "line 2: the quote of \"b] has no end.");
  EXPECT_EQ(error("served-model-name = [a,, b]\n"),
            "line 1: served-model-name is \"a, , b\" but must have no empty item.");
}

TEST_F(SettingsFileTest, ListsOfAFile) {
  const baram::testing::ScratchFolder folder;
  const auto names = [&](const std::string& value) {
    const auto config =
        Parse({"--config", folder.Write("list.toml", "served-model-name = " + value + "\n")});
    EXPECT_TRUE(config.ok()) << config.status();
    return config.ok() ? config->served_model_names : std::vector<std::string>{};
  };
  EXPECT_THAT(names("[\"a\",\n; one\n\n\"b\"\n]"), ElementsAre("a", "b"));
  EXPECT_THAT(names("[\"a,b\"]"), ElementsAre("a,b"));
  EXPECT_THAT(names("\"a,b\""), ElementsAre("a,b"));
  EXPECT_THAT(names("\"a,b\", c"), ElementsAre("a,b", "c"));
  EXPECT_THAT(names("[\"a]\", '[b']"), ElementsAre("a]", "[b"));
  EXPECT_THAT(names("a, b,"), ElementsAre("a", "b"));
}

TEST_F(SettingsFileTest, QuotesOfAFile) {
  const baram::testing::ScratchFolder folder;
  const auto error = [&](const std::string& value) {
    return Error({"--config", folder.Write("quote.toml", "chat-template = " + value + "\n")});
  };
  EXPECT_THAT(error("\"x\" \"y\""),
              HasSubstr("line 1: \"x\" \"y\" continues after its closing quote."));
  EXPECT_THAT(error("\"x\" junk"),
              HasSubstr("line 1: \"x\" junk continues after its closing quote."));
  // There are no escapes.
  const std::string file =
      folder.Write("plain.toml", "chat-template = \"바람\\n\"\ndevice = 'say \"cpu\"'\n");
  const auto config = Parse({"--config", file});
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->chat_template, "바람\\n");
  EXPECT_EQ(config->device, "say \"cpu\"");
}

TEST_F(SettingsFileTest, FilesOfOtherEditors) {
  const baram::testing::ScratchFolder folder;
  const std::string file =
      folder.Write("baram.toml",
                   "\xef\xbb\xbfmax-n = 3\r\nserved-model-name = [\"a\",\r\n\"b\"]\r\n"
                   "device = cpu\r\n");
  const auto config = Parse({"--config", file});
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->max_n, 3);
  EXPECT_THAT(config->served_model_names, ElementsAre("a", "b"));
  EXPECT_EQ(config->device, "cpu");
}

}  // namespace
}  // namespace baram::server
