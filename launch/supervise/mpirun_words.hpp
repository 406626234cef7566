#pragma once

#include <string>
#include <utility>
#include <vector>

#include "common/base/index.hpp"

namespace weir {

/// What `weir run` reads out of the words for mpirun: its options, and the command for each rank.
struct MpirunWords {
  std::vector<std::string> options;   ///< mpirun's
  std::vector<std::string> command;   ///< train, eval or plan and what follows; empty without one
  std::string stranger;               ///< the first word that is neither an option nor its value
  index_t ranks = 0;                  ///< 0: the options do not say
  bool one_host = true;               ///< no option names hosts
  std::string hostfile;               ///< the only word that names hosts, if it is a hostfile
  std::string folder;                 ///< where the ranks start; empty: in this working directory
  std::vector<std::string> exported;  ///< NAME=value for the ranks' environment

  bool trains() const { return !command.empty() && command[0] == "train"; }
};

MpirunWords read_mpirun_words(const std::vector<std::string>& words);

/// The same words with another hostfile and number of ranks.
MpirunWords with_hosts(MpirunWords words, const std::string& hostfile, index_t ranks);

/// The words of a command with this value of weir's option `name`, whatever they said of it.
std::vector<std::string> with_option(std::vector<std::string> command, const std::string& name,
                                     const std::string& value);

/// What the environment for mpirun depends on, apart from its words.
struct MpirunHost {
  bool is_root = false;
  bool has_slurm_job = false;
  index_t cores = 1;
  std::string placement = {};   ///< WEIR_PLACEMENT
  std::string components = {};  ///< HWLOC_COMPONENTS
};
/// This machine and this process.
MpirunHost mpirun_host();

/// The variables that mpirun gets, in addition to those of this process or in their place.
std::vector<std::pair<std::string, std::string>> mpirun_environment(const MpirunWords& words,
                                                                    const MpirunHost& host);

}  // namespace weir
