// Every setting: its member of Config, and its default.
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "server/settings_table.h"
#include "tests/model/scratch_folder.h"
#include "tests/server/settings_fixture.h"

namespace baram::server {
namespace {

// A setting's member of Config, with its default and another valid value.
struct Wired {
  std::string flag;
  std::string (*shown)(const Config& config);
  std::string by_default, other;
};

template <typename T>
std::string Shown(const T& value) {
  if constexpr (std::is_same_v<T, std::vector<std::string>>) {
    return absl::StrJoin(value, ",");
  } else if constexpr (std::is_same_v<T, bool>) {
    return value ? "true" : "false";
  } else {
    return absl::StrCat(value);
  }
}

template <auto kMember, typename T = std::decay_t<decltype(Config().*kMember)>>
Wired Wire(std::string flag, const std::type_identity_t<T>& by_default,
           const std::type_identity_t<T>& other) {
  return {std::move(flag), [](const Config& config) { return Shown(config.*kMember); },
          Shown<T>(by_default), Shown<T>(other)};
}

// All of them, in the table's order. Operators rely on the defaults, as README.md and
// RELIABILITY.md state them.
std::vector<Wired> AllWired() {
  using C = Config;
  return {
      // The folder's name, and so the served one, stays.
      Wire<&C::model>("model", "/models/some", "/other/some"),
      Wire<&C::served_model_names>("served-model-name", {"some"}, {"another"}),
      Wire<&C::chat_template>("chat-template", "", "other.jinja"),
      Wire<&C::generation_config>("generation-config", "auto", "none"),

      Wire<&C::device>("device", "cpu", "ref"),
      Wire<&C::isa>("isa", "", "avx2"),
      Wire<&C::threads>("threads", 0, 4),
      Wire<&C::pin_threads>("pin-threads", false, true),
      Wire<&C::max_model_len>("max-model-len", 0, 4),
      Wire<&C::kv_cache_bytes>("kv-cache-bytes", 0, 4096),
      Wire<&C::gpu_memory_utilization>("gpu-memory-utilization", 0.9, 0.5),
      Wire<&C::page_tokens>("page-tokens", 0, 4),
      Wire<&C::max_num_seqs>("max-num-seqs", 0, 4),
      Wire<&C::max_num_batched_tokens>("max-num-batched-tokens", 0, 4),
      Wire<&C::mixed_step_tokens>("mixed-step-tokens", 0, 4),
      Wire<&C::short_prompt_share>("short-prompt-share", 0.5, 0.25),
      Wire<&C::max_chunk_tokens>("max-chunk-tokens", 0, 4),
      Wire<&C::max_logit_rows>("max-logit-rows", 256, 4),
      Wire<&C::prefix_cache>("prefix-cache", true, false),
      Wire<&C::enforce_eager>("enforce-eager", false, true),

      Wire<&C::grpc_listen>("grpc-listen", "127.0.0.1:50051", "127.0.0.1:4"),
      Wire<&C::http_listen>("http-listen", "127.0.0.1:8000", "127.0.0.1:4"),
      Wire<&C::metrics_listen>("metrics-listen", "127.0.0.1:8002", "127.0.0.1:4"),
      Wire<&C::http_allowed_origins>("http-allowed-origins", {}, {"http://a"}),

      Wire<&C::max_body_bytes>("max-body-bytes", 8 << 20, 4096),
      Wire<&C::max_reply_bytes>("max-reply-bytes", 4 << 20, 4096),
      Wire<&C::max_http_reply_bytes>("max-http-reply-bytes", 64 << 20, 4096),
      Wire<&C::max_prompt_bytes>("max-prompt-bytes", 0, 4096),
      Wire<&C::max_n>("max-n", 16, 4),
      Wire<&C::min_priority>("min-priority", 0, -4),
      Wire<&C::max_queued_requests>("max-queued-requests", 1024, 4),
      Wire<&C::max_queued_tokens>("max-queued-tokens", 4'000'000, 4),
      Wire<&C::max_connections>("max-connections", 1024, 4),
      Wire<&C::max_streams>("max-streams", 256, 4),
      Wire<&C::max_header_bytes>("max-header-bytes", 16 << 10, 4096),
      Wire<&C::stream_tokens>("stream-tokens", 1024, 4),
      Wire<&C::stream_bytes>("stream-bytes", 256 << 10, 4096),
      Wire<&C::slow_reader_s>("slow-reader", 30, 4),
      Wire<&C::request_timeout_s>("request-timeout", 600, 4),
      Wire<&C::max_request_timeout_s>("max-request-timeout", 3600, 4000),
      Wire<&C::text_threads>("text-threads", 2, 4),
      Wire<&C::text_queue>("text-queue", 1024, 4),
      Wire<&C::http_threads>("http-threads", 2, 4),

      Wire<&C::drain_delay_s>("drain-delay", 5, 4),
      Wire<&C::drain_limit_s>("drain-limit", 120, 4),

      Wire<&C::log_format>("log-format", "text", "json"),
      Wire<&C::log_level>("log-level", "info", "debug"),
  };
}

TEST_F(SettingsTest, EachSetsItsOwnMemberAlone) {
  const std::vector<Wired> wired = AllWired();
  const baram::testing::ScratchFolder folder;
  const auto expect = [&](const std::string& set, const absl::StatusOr<Config>& config) {
    ASSERT_TRUE(config.ok()) << config.status();
    for (const Wired& one : wired) {
      EXPECT_EQ(one.shown(*config), one.flag == set ? one.other : one.by_default)
          << one.flag << ", while " << set << " is set";
    }
  };
  expect("none", Parse({}));
  for (const Wired& one : wired) {
    expect(one.flag, Parse({absl::StrCat("--", one.flag, "=", one.other)}));
    // A flag would take precedence.
    std::vector<std::string> args = {"--model=/models/some"};
    if (one.flag == "model") args.clear();
    variables = {{Variable(one.flag), one.other}};
    expect(one.flag, ParseSettings(args, TestEnvironment));
    variables.clear();
    const std::string file = folder.Write("baram.toml", one.flag + " = " + one.other + "\n");
    args.push_back("--config=" + file);
    expect(one.flag, ParseSettings(args, TestEnvironment));
  }
  for (const Setting* s : AllSettings()) {
    EXPECT_EQ(std::ranges::count(wired, s->name, &Wired::flag), 1) << s->name;
  }
}

}  // namespace
}  // namespace baram::server
