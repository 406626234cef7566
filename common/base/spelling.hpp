#pragma once

#include <string>
#include <vector>

namespace weir {

/// ` (did you mean NAME?)` with the known name that `name` was probably meant to be: one that
/// begins with it, ends with it after a dot, or is a few letters away, whatever the case. Empty if
/// there is none. `prefix` is written before the name: `--` of an option.
std::string did_you_mean(const std::string& name, const std::vector<std::string>& known,
                         const std::string& prefix = "");

}  // namespace weir
