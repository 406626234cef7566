#pragma once

#include <string>

#include "common/base/options.hpp"

namespace weir {

/// How a value of one option is written, read and told.
///
/// Numbers: 1_000, 16k (16,000), 64Ki (65,536), 1e3, with k, M, G, T for powers of 1000 and Ki, Mi,
/// Gi, Ti for powers of 1024. Sizes in bytes also end in B: 1MiB, 512kB.

/// What a value must be, for the help and errors.
std::string expectation(const Option& option);

/// The same after `value` was refused: explains suffixes if it has one.
std::string expectation_after(const Option& option, const std::string& value);

/// Sets the field if the value is as expected.
bool set_field(const Option& option, const std::string& value);

/// The field's present value, as set_field reads it back.
std::string value_of(const Option& option);

}  // namespace weir
