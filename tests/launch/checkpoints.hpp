#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "common/base/options.hpp"
#include "launch/command.hpp"
#include "launch/run_config.hpp"

namespace weir::test {

/// Whole parameters by name.
using Arrays = std::map<std::string, std::vector<float>>;

/// A language model of two layers and length 24 on this text; what follows from the data is set.
RunConfig tiny_language(const std::filesystem::path& text);

/// Random weights, larger than initial ones, so that layers matter.
Arrays random_parameters(const RunConfig& config);

/// Everything that a checkpoint says of the run.
std::map<std::string, std::string> settings_of(RunConfig config);

/// Writes and commits a checkpoint of these parameters as several servers would: each tensor in
/// pieces. What the model does not have is written as a vector. Returns its folder,
/// `checkpoints`/step-…
std::filesystem::path write_checkpoint(const std::filesystem::path& checkpoints, index_t step,
                                       const RunConfig& config, const Arrays& parameters,
                                       const std::map<std::string, std::string>& settings);
std::filesystem::path write_checkpoint(const std::filesystem::path& checkpoints, index_t step,
                                       const RunConfig& config, const Arrays& parameters);

/// What a command prints to standard output.
std::string output_of(int (*command)(const Arguments&), const Arguments& arguments);

}  // namespace weir::test
