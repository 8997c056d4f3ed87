// The one table of settings: what each is called, what it takes, what it means.
#ifndef BARAM_SERVER_SETTINGS_TABLE_H_
#define BARAM_SERVER_SETTINGS_TABLE_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "server/settings.h"

namespace baram::server {

using Names = std::vector<std::string>;
using Member = std::variant<std::string Config::*, bool Config::*, int32_t Config::*,
                            int64_t Config::*, double Config::*, Names Config::*>;

enum class Kind { kText, kChoice, kEndpoint, kNumber, kShare, kBytes, kSeconds, kSwitch, kList };

struct Setting {
  std::string_view name;  // the flag without its dashes, and the key in a file
  Kind kind;
  Member member;
  double min = 0, max = 0;      // of numbers
  std::string_view value = "";  // what help calls the value; the choices of a kChoice
  std::string_view unset = "";  // what an empty or zero value means; empty: it means itself
  std::string_view help = "";
  bool inspect = false;  // taken by `baram inspect` too
  // A further check of a number from min to max: null if it passes, else what it must be.
  const char* (*check)(double value) = nullptr;
  // The same of each item of a list.
  const char* (*check_item)(std::string_view item) = nullptr;
};

struct Group {
  std::string_view title;
  std::vector<Setting> settings;
};

// Every setting, in the order in which people read them.
const std::vector<Group>& SettingsTable();

bool Takes(Command command, const Setting& setting);
// Those that `command` takes, in that order.
std::vector<const Setting*> SettingsOf(Command command);

// The setting of `command` that a flag without its dashes, or a key in a file, names; null if there
// is none. A switch may have "no-" in front.
struct NamedSetting {
  const Setting* setting = nullptr;
  bool negated = false;
};
NamedSetting FindNamed(Command command, std::string_view name);

// "max-n" as "BARAM_MAX_N".
std::string Variable(std::string_view name);

}  // namespace baram::server

#endif  // BARAM_SERVER_SETTINGS_TABLE_H_
