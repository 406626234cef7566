#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace weir {

/// ` (did you mean NAME?)` with the known name that `name` was probably meant to be: one that
/// begins with it, ends with it after a dot, or is a few letters away, whatever the case and the
/// separators (dots, dashes, underscores). Empty if there is none. `prefix` is written before the
/// name: `--` of an option.
std::string did_you_mean(const std::string& name, const std::vector<std::string>& known,
                         const std::string& prefix = "");

/// The known name nearest to `name`, however far it is. `known` is not empty.
std::string nearest_name(const std::string& name, const std::vector<std::string>& known);

/// Names that differ in case and separators alone are the same: lower case, with dots.
std::string canonical_name(std::string_view name);

}  // namespace weir
