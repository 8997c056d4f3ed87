// The table of all settings: each one's name, values and meaning.
#ifndef BARAM_SERVER_SETTINGS_TABLE_H_
#define BARAM_SERVER_SETTINGS_TABLE_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "server/settings.h"

namespace baram::server {

using Member =
    std::variant<std::string Config::*, bool Config::*, int32_t Config::*, int64_t Config::*,
                 double Config::*, std::vector<std::string> Config::*>;

enum class Kind { kText, kChoice, kEndpoint, kNumber, kShare, kBytes, kSeconds, kSwitch, kList };

struct Setting {
  std::string_view name;  // the flag without dashes, and the key in a file
  Kind kind;
  Member member;
  double min = 0, max = 0;      // for numbers
  std::string_view value = "";  // help's placeholder for the value; the choices of a kChoice
  std::string_view unset = "";  // the meaning of an empty or zero value; empty: no special meaning
  std::string_view help = "";
  bool inspect = false;  // bears on what `baram inspect` reports: its help shows it
  bool required = false;
  bool may_be_off = false;  // a kEndpoint that may be "off"
  // A further check of a number within [min, max]: null if it passes, else what it must be.
  const char* (*check)(double value) = nullptr;
  // The same for each item of a list.
  const char* (*check_item)(std::string_view item) = nullptr;
};

struct Group {
  std::string_view title;
  std::vector<Setting> settings;
};

// Every setting, in display order.
const std::vector<Group>& SettingsTable();

// The same without their groups.
std::vector<const Setting*> AllSettings();

// The setting with this flag (without dashes) or file key; null if there is none. A
// switch may be prefixed with "no-".
struct NamedSetting {
  const Setting* setting = nullptr;
  bool negated = false;
};
NamedSetting FindNamed(std::string_view name);

// "BARAM_MAX_N" for "max-n".
std::string Variable(std::string_view name);

}  // namespace baram::server

#endif  // BARAM_SERVER_SETTINGS_TABLE_H_
