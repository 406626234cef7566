#pragma once

#include <string>
#include <vector>

#include "common/io/file.hpp"
#include "launch/run_config.hpp"

namespace weir {

/// How a run finds its files again after it was moved or copied, from any working directory.
///
/// A relative path on the command line, in the environment or in a configuration of the user's own
/// starts from the working directory. The config.ini of a run folder and checkpoints hold absolute
/// paths. If the text of a run is no longer where it was, weir looks in the same place relative to
/// the run folder: the project may have been moved as a whole.

/// `--config RUN/config.ini` of a run folder means this run: --run is that folder, --resume is
/// auto,
/// --accept-changed-data false and --trace empty, unless command line or environment say otherwise.
/// Another file changes nothing. What a user should know goes to parsed.remarks.
void settle_run(ParsedConfig& parsed, const fs::path& file);

/// The settings as config.ini and checkpoints keep them.
std::vector<Setting> with_absolute_paths(std::vector<Setting> settings);

/// A list of data files, as --data.files takes it, for a run whose folder was `before` and is
/// `now`. A file that is gone, but exists in the same place relative to the run folder, gets that
/// path, and a line in `remarks` says so.
std::string find_data_again(const std::string& list, const fs::path& before, const fs::path& now,
                            std::vector<std::string>& remarks);

}  // namespace weir
