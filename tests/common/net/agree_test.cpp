#include "common/net/agree.hpp"

#include <stdexcept>

#include "tests/mpi_test.hpp"

namespace weir {

MPI_TEST_CASE("ranks without an error agree in silence", 4) {
  agree(ranks.comm, std::nullopt);
  agree_digest(ranks.comm, "the configuration", "0123");
}

MPI_TEST_CASE("all ranks throw what the lowest rank found, and one of them speaks", 4) {
  for (const int lowest : {0, 1, 3}) {
    std::optional<Error> found;
    if (ranks.rank >= lowest) {
      found = Error(text("reading x: rank ", ranks.rank, " cannot"), ExitCode::usage);
    }
    bool spoke = false;
    try {
      agree(ranks.comm, found);
      FAIL("agreed");
    } catch (const AgreedError& error) {
      spoke = error.speaks();
      CHECK(error.code() == ExitCode::usage);
      const std::string message = error.what();
      CHECK(message.starts_with(text("reading x: rank ", lowest, " cannot")));
      CHECK(message.ends_with("(found by rank 3 of 4)") == (lowest == 3));
      CHECK(message.ends_with("(found by rank 1 and others: 3 of 4)") == (lowest == 1));
    }
    CHECK(spoke == (ranks.rank == lowest));
  }
}

MPI_TEST_CASE("ranks that disagree over a digest end with one message", 5) {
  int spoke = 0;
  try {
    agree_digest(ranks.comm, "the configuration", ranks.rank == 2 ? "beef" : "cafe");
    FAIL("agreed");
  } catch (const AgreedError& error) {
    spoke = error.speaks();
    CHECK(error.code() == ExitCode::usage);
    CHECK(std::string(error.what()).find("rank 2 differs from rank 0 in the configuration") !=
          std::string::npos);
  }
  CHECK(ranks.comm.sum(index_t{spoke}) == 1);
}

TEST_CASE("error_of keeps the message and the exit code of what was thrown") {
  CHECK(!error_of([] {}));
  CHECK(error_of([] { throw UsageError("no"); })->code() == ExitCode::usage);
  const auto other = error_of([] { throw std::runtime_error("disk on fire"); });
  CHECK(std::string(other->what()) == "disk on fire");
  CHECK(other->code() == ExitCode::error);
}

}  // namespace weir
