#pragma once

#include <stdexcept>
#include <string>

#include "common/base/text.hpp"

namespace weir {

/// What `weir` returns to the shell (and mpirun passes on). The supervisor reads these.
enum class ExitCode {
  done = 0,
  error = 1,
  usage = 2,
  diverged = 3,      ///< done, but the loss is not finite: the model is of no use
  internal = 70,     ///< a bug of ours: an assertion does not hold
  storage = 74,      ///< the last checkpoint, or three in a row, could not be written
  stopped = 75,      ///< ended on request, after a committed checkpoint
  hang = 86,         ///< a watchdog ended a job that stood still
  no_progress = 93,  ///< `weir run` alone: three starts in a row have committed no step
};

/// Anything that a user, a file, a message or another rank can cause. Says what was being done, to
/// which thing, what is wrong and what to do. Caught by main alone, which prints it once and ends
/// the whole job (MPI_Abort). Bugs of our own are WEIR_ASSERT instead.
class Error : public std::runtime_error {
 public:
  explicit Error(const std::string& message, ExitCode code = ExitCode::error)
      : std::runtime_error(message), code_(code) {}
  ExitCode code() const { return code_; }

 private:
  ExitCode code_;
};

/// An Error in what the user asked for: options, configuration, layout. Exit code 2.
class UsageError : public Error {
 public:
  explicit UsageError(const std::string& message) : Error(message, ExitCode::usage) {}
};

[[noreturn]] void assert_failed(const char* condition, const char* file, int line);

}  // namespace weir

/// A bug of ours if it fails, in every build type; no input may reach one.
#define WEIR_ASSERT(condition) \
  ((condition) ? void() : ::weir::assert_failed(#condition, __FILE__, __LINE__))
#define WEIR_UNREACHABLE() ::weir::assert_failed("unreachable", __FILE__, __LINE__)
