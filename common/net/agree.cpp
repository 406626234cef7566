#include "common/net/agree.hpp"

namespace weir {

void agree(const Comm& comm, const std::optional<Error>& found) {
  const index_t errors = comm.sum(index_t{found.has_value()});
  if (errors == 0) return;
  // The lowest rank with an error is the one farthest below size.
  const index_t distance = comm.max(found ? index_t{comm.size() - comm.rank()} : index_t{0});
  const int speaker = comm.size() - static_cast<int>(distance);
  std::string message = comm.broadcast(found ? found->what() : std::string(), speaker);
  const bool code_is_mine = comm.rank() == speaker;
  const index_t code = comm.max(code_is_mine ? static_cast<index_t>(found->code()) : index_t{0});
  if (errors < comm.size()) {
    message += errors == 1 ? text(" (found by rank ", speaker, " of ", comm.size(), ")")
                           : text(" (found by rank ", speaker, " and others: ", errors, " of ",
                                  comm.size(), ")");
  }
  throw AgreedError(message, static_cast<ExitCode>(code), comm.rank() == speaker);
}

void agree_digest(const Comm& comm, std::string_view what, const std::string& digest) {
  const std::string first = comm.broadcast(digest, 0);
  std::optional<Error> found;
  if (digest != first) {
    found = UsageError(text("start: rank ", comm.rank(), " differs from rank 0 in ", what,
                            " (digest ", digest, ", rank 0 has ", first,
                            "); start all ranks with the same program and arguments"));
  }
  agree(comm, found);
}

}  // namespace weir
