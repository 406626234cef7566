#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "common/base/error.hpp"
#include "common/net/mpi.hpp"

namespace weir {

/// An Error that all ranks of a group throw together, with one message and one exit code. Main
/// prints it only where it speaks, which is on one rank; all ranks may then return from main.
class AgreedError : public Error {
 public:
  AgreedError(const std::string& message, ExitCode code, bool speaks)
      : Error(message, code), speaks_(speaks) {}
  bool speaks() const { return speaks_; }

 private:
  bool speaks_;
};

/// For what one rank alone can find out at start-up: a file, a number. If any rank comes with an
/// error, all throw AgreedError with the message and the exit code of the lowest such rank.
/// Collective; not for use within a step.
void agree(const Comm& comm, const std::optional<Error>& found);

/// What `work()` throws, for agree().
template <class Work>
std::optional<Error> error_of(Work&& work) {
  try {
    work();
  } catch (const Error& error) {
    return error;
  } catch (const std::exception& error) {
    return Error(error.what());
  }
  return std::nullopt;
}

/// All ranks must bring the same digest of `what` ("the binary", "the configuration"). If they do
/// not, all throw AgreedError, which names the first rank that differs from rank 0. Collective.
void agree_digest(const Comm& comm, std::string_view what, const std::string& digest);

}  // namespace weir
