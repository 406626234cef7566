#include "common/net/probe.hpp"

#include "tests/mpi_test.hpp"

using namespace weir;

MPI_TEST_CASE("a probe agrees at both ends and finds some speed", 3) {
  if (ranks.rank == 1) return;  // others need not take part
  const Probe probe = probe_messages(ranks.comm, 2 - ranks.rank, true);
  CHECK(probe.bytes_per_second > 1e6);
  CHECK((probe.path == MessagePath::single_copy) ==
        (probe.mechanism != "none" && probe.mechanism != "unknown" &&
         (probe.mechanism != "cma" || probe.refusal.empty())));
  double at_0 = probe.bytes_per_second, at_2 = at_0;
  if (ranks.rank == 0) {
    check_mpi(MPI_Recv(&at_2, 1, MPI_DOUBLE, 2, 0, ranks.comm.raw(), MPI_STATUS_IGNORE), "");
  } else {
    check_mpi(MPI_Send(&at_0, 1, MPI_DOUBLE, 0, 0, ranks.comm.raw()), "");
  }
  CHECK(at_0 == at_2);
  CHECK(probe_messages(ranks.comm, 2 - ranks.rank, false).path == MessagePath::other);
}
