// Sets a field of Config from text.
#ifndef BARAM_SERVER_SETTING_ASSIGN_H_
#define BARAM_SERVER_SETTING_ASSIGN_H_

#include "absl/status/status.h"
#include "server/settings_table.h"

namespace baram::server {

// Also records `source` in the configuration. `texts`: the items of a list; for any other setting
// the last one counts. The error has the code of `source`, and says where the value comes from and
// what would be valid.
absl::Status AssignSetting(const Setting& setting, const std::vector<std::string>& texts,
                           const SettingSource& source, Config& config);

}  // namespace baram::server

#endif  // BARAM_SERVER_SETTING_ASSIGN_H_
