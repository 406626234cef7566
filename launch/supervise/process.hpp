#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "common/io/file.hpp"

namespace weir {

/// What a new process begins with.
struct ProcessStart {
  int ends_with_parent = 0;           ///< the signal that it gets when this process ends; 0: none
  bool has_own_group = false;         ///< a process group of its own
  int in = -1, out = -1, error = -1;  ///< its stdin, stdout, stderr; -1: those of this process
};

/// Starts a program, searched in PATH. `restore` runs in the new process before it becomes the
/// program. If there is no such program, the process says so and ends with 127. Throws Error if
/// there can be no other process.
pid_t start_process(const std::vector<std::string>& words, const ProcessStart& start,
                    void (*restore)());

/// A pipe: what is written to `in` can be read from `out`. Programs that are started do not get it,
/// except as ProcessStart says.
struct Pipe {
  File out, in;
};
Pipe make_pipe();

/// The exit code of a process as a shell has it: 128 + n if signal n ended it.
int exit_code_of(int status);

/// Ends the ranks of an mpirun that has ended and left them to this process (see adopt_orphans). It
/// waits for their end, at most two seconds.
void end_ranks_left();

/// From now on processes that lose their parent become children of this one, if it has started the
/// parent.
void adopt_orphans();

}  // namespace weir
