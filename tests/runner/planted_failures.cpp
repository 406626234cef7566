// Cases that must fail: tests/CMakeLists.txt runs each alone, and must_fail.sh checks how it ends.
#include <stdexcept>

#include "tests/mpi_test.hpp"

namespace weir {

MPI_TEST_CASE("planted: check", 4) {
  CHECK(ranks.rank != 2);
  ranks.comm.barrier();
}

MPI_TEST_CASE("planted: require", 4) {
  REQUIRE(ranks.rank != 1);
  ranks.comm.barrier();
}

MPI_TEST_CASE("planted: throw", 4) {
  if (ranks.rank == 1) throw std::runtime_error("thrown on one rank alone");
  ranks.comm.barrier();
}

MPI_TEST_CASE("planted: hang", 4) {
  for (volatile bool forever = ranks.rank == 1; forever;) {
  }
}

MPI_TEST_CASE("planted: too few ranks", 5) { ranks.comm.barrier(); }

}  // namespace weir
