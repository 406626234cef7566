#include "common/net/mpi.hpp"

#include <ctime>
#include <string>

#include "common/base/error.hpp"
#include "common/base/machine.hpp"
#include "tests/mpi_test.hpp"

namespace weir {

TEST_CASE("a program started plainly never speaks MPI") {
  int initialized = 1;
  MPI_Initialized(&initialized);
  CHECK(!initialized);
}

MPI_TEST_CASE("a case gets exactly the ranks it asked for", 3) {
  CHECK(ranks.comm.size() == 3);
  CHECK(ranks.rank == ranks.comm.rank());
  CHECK(ranks.comm.sum(index_t{ranks.rank}) == 0 + 1 + 2);
}

MPI_TEST_CASE("ranks that wait for a late one leave their cores to others", 3) {
  if (ranks.rank == 0) sleep_microseconds(300'000);
  const std::clock_t before = std::clock();
  CHECK(ranks.comm.sum(index_t{1}) == 3);
  CHECK(ranks.comm.max(double(ranks.rank)) == 2);
  CHECK(static_cast<double>(std::clock() - before) / CLOCKS_PER_SEC < 0.1);
}

MPI_TEST_CASE("sums and maxima go over all ranks, in place", 4) {
  const auto r = static_cast<float>(ranks.rank);
  std::vector<float> values{1, r, -r};
  ranks.comm.sum(std::span(values));
  CHECK(values == std::vector<float>{4, 6, -6});
  std::vector<double> maxima{double(r), -double(r)};
  ranks.comm.max(std::span(maxima));
  CHECK(maxima == std::vector<double>{3, 0});
  CHECK(ranks.comm.max(double(r)) == 3);
  CHECK(ranks.comm.max(index_t{ranks.rank} << 40) == index_t{3} << 40);
  CHECK(ranks.comm.sum(0.5) == 2);
  ranks.comm.sum(std::span<float>());
}

MPI_TEST_CASE("ranks that wait serve one that cannot come without them", 3) {
  for (const bool awake : {false, true}) {
    bool served = false;
    const auto serve = [&] {
      if (ranks.rank != 0 || std::exchange(served, true)) return false;
      MPI_Send(&served, 1, MPI_BYTE, 2, 7, ranks.comm.raw());
      return true;
    };
    if (ranks.rank == 2) {
      MPI_Recv(&served, 1, MPI_BYTE, 0, 7, ranks.comm.raw(), MPI_STATUS_IGNORE);
    }
    double one = 1;
    if (awake) {
      ranks.comm.meet(serve);
    } else {
      ranks.comm.sum(std::span(&one, 1), serve);
      CHECK(one == 3);
    }
    CHECK(served == (ranks.rank != 1));
  }
}

MPI_TEST_CASE("a split orders ranks by key and leaves out those without a color", 5) {
  const auto color = ranks.rank == 4 ? std::nullopt : std::optional(ranks.rank % 2);
  const Comm part = ranks.comm.split(color, -ranks.rank);
  CHECK(bool(part) == (ranks.rank != 4));
  if (!part) return;
  CHECK(part.size() == 2);
  CHECK(part.rank() == (ranks.rank < 2 ? 1 : 0));
  CHECK(part.sum(index_t{ranks.rank}) == (ranks.rank % 2 == 0 ? 0 + 2 : 1 + 3));
}

MPI_TEST_CASE("texts of any length are broadcast", 3) {
  for (const std::size_t length : {0, 1, 5000, 1 << 20}) {
    CAPTURE(length);
    const std::string mine(length * static_cast<std::size_t>(ranks.rank), char('a' + ranks.rank));
    const std::string theirs = ranks.comm.broadcast(mine, 1);
    CHECK(theirs == std::string(length, 'b'));
  }
}

MPI_TEST_CASE("a broadcast of more than 64 MiB is an error on all ranks", 2) {
  const std::string text(ranks.rank == 0 ? (64u << 20) + 1 : 0, 'x');
  CHECK_THROWS_WITH_AS(ranks.comm.broadcast(text, 0),
                       doctest::Contains("67108865 bytes, at most 67108864"), Error);
}

MPI_TEST_CASE("a mistake in an MPI call is an Error that names what was being done", 1) {
  CHECK_THROWS_WITH_AS(ranks.comm.broadcast(std::string("x"), 7),
                       doctest::Contains("MPI: broadcasting: "), Error);
}

TEST_CASE("a handle moves and frees what it holds once") {
  static int freed;
  freed = 0;
  struct Traits {
    using Raw = int;
    static Raw none() { return -1; }
    static void release(Raw) { ++freed; }
  };
  static_assert(sizeof(Handle<Traits>) == sizeof(int));
  {
    Handle<Traits> first(1);
    Handle<Traits> second = std::move(first);
    CHECK(!first);
    CHECK(second.get() == 1);
    second = Handle<Traits>(2);
    CHECK(freed == 1);
  }
  CHECK(freed == 2);
}

}  // namespace weir
