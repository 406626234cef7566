#pragma once

#include <vector>

#include "common/base/attribute.hpp"
#include "worker/models/transformer/config.hpp"

namespace weir::worker {

/// What a reader who has only the weights must know to compute the same function, as attributes of
/// the file that holds them: the options that decide the function, each under its name (a bool is 0
/// or 1), and the constants that are no options. common/io/README.md says what each means.
std::vector<Attribute> description(const ModelConfig& config);

}  // namespace weir::worker
