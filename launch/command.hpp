#pragma once

#include <functional>
#include <string>
#include <vector>

#include "common/base/options.hpp"

namespace weir {

/// The words after the command's name.
using Arguments = std::vector<std::string>;

/// A thing that `weir` can do; its functions return the exit code.
struct Command {
  std::string name;
  std::string summary;
  /// Whether it runs under mpirun: a Session then lives while `run` runs.
  bool speaks_mpi = false;
  std::function<int(const Arguments&)> run;
};

const std::vector<Command>& commands();

/// The command that `name` names. Throws UsageError, with the nearest name, if there is none.
const Command& find_command(const std::string& name);

/// `weir --help`.
std::string help_of_weir();

/// Whether the arguments ask for help: --help anywhere, -h where it cannot be an option's value.
bool asks_for_help(const Arguments& arguments);

/// Takes what the command is about out of the arguments: the one word that is neither an option of
/// `table` nor its value. `kind` is how an error calls it: `a checkpoint or a run folder`. Throws
/// UsageError if there is none or more than one.
std::string take_path(const std::string& command, const std::string& kind,
                      const std::vector<Option>& table, Arguments& arguments);

/// `weir COMMAND --help`: how to write it, what it does, and the options that matter to it.
/// `usage` is what follows the command's name: `[--config FILE] [options]`.
std::string help_of_command(const std::string& name, const std::string& usage,
                            const std::string& description, const std::vector<Option>& table);

int train(const Arguments& arguments);
int eval(const Arguments& arguments);
int generate(const Arguments& arguments);
int plan(const Arguments& arguments);
int inspect(const Arguments& arguments);
int top(const Arguments& arguments);
int report(const Arguments& arguments);
int supervise(const Arguments& arguments);

}  // namespace weir
