// BlameSetting and BlamedSetting: the payload.
#include "engine/blame.h"

#include "absl/strings/cord.h"

namespace baram {
namespace {

constexpr char kSettingUrl[] = "baram/setting";

}  // namespace

absl::Status BlameSetting(absl::Status status, std::string_view setting) {
  status.SetPayload(kSettingUrl, absl::Cord(absl::string_view(setting.data(), setting.size())));
  return status;
}

std::string BlamedSetting(const absl::Status& status) {
  const auto setting = status.GetPayload(kSettingUrl);
  return setting ? std::string(*setting) : std::string();
}

}  // namespace baram
