#pragma once

#include <string>
#include <vector>

namespace weir {

/// The name that another program has for an option of weir.
struct Habit {
  std::string name;    ///< without dashes; case and separators do not matter
  std::string option;  ///< what weir calls it
  std::string advice;  ///< what else they must know; mostly empty
};

const std::vector<Habit>& habits();

/// What an unknown option was probably meant to be: ` (did you mean --rate.peak?)`, out of the
/// habits or, if none names a known option, by its spelling. Empty if nothing is near. `known` and
/// `prefix` as did_you_mean has them.
std::string option_hint(const std::string& name, const std::vector<std::string>& known,
                        const std::string& prefix = "");

}  // namespace weir
