#include "common/net/clocks.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <random>
#include <vector>

#include "common/base/machine.hpp"
#include "tests/mpi_test.hpp"

namespace weir {
namespace {

/// Two clocks: the true time is rank 0's, and the other one runs ahead and at another speed.
struct TwoClocks {
  double ahead_s;
  double speed;
  std::mt19937 random{7};

  double other(double true_s) const { return ahead_s + speed * true_s; }
  /// Asks from `true_s` on. Either way takes between 20 us and 2 ms, and none is like another.
  ClockReading read(double true_s) {
    std::lognormal_distribution<double> extra_s(-9, 1.5);
    const auto way_s = [&] { return 20e-6 + std::min(extra_s(random), 2e-3); };
    std::vector<ClockExchange> exchanges;
    for (int round = 0; round < 20; ++round) {
      ClockExchange& exchange = exchanges.emplace_back();
      exchange.sent_s = true_s;
      true_s += way_s();
      exchange.there_s = other(true_s);
      true_s += way_s();
      exchange.back_s = true_s;
    }
    return reading_of(exchanges);
  }
};

}  // namespace

TEST_CASE("the offset of a clock is found within the error that is stated, over a whole job") {
  for (const double ahead_s : {0.0, 3.5, -1e5}) {
    for (const double speed : {1.0, 1 + 50e-6, 1 - 50e-6}) {
      TwoClocks clocks{ahead_s, speed};
      const double begin_s = 1000, end_s = 1600;
      const ClockLine line(clocks.read(begin_s), clocks.read(end_s));
      CHECK(line.error_s() > 20e-6);
      CHECK(line.error_s() < 1e-3);
      // The clocks move apart by 1.5 us while one question is on its way, which is no error of it.
      const double slack_s = 50e-6 * 30e-3 + 1e-9;
      for (double true_s = begin_s; true_s <= end_s; true_s += 7) {
        const double found_s = line.to_rank_0(clocks.other(true_s));
        CHECK(std::abs(found_s - true_s) <= line.error_s() + slack_s);
      }
    }
  }
}

TEST_CASE("of several exchanges the fastest counts") {
  const std::vector<ClockExchange> exchanges = {{.sent_s = 1, .there_s = 11.9, .back_s = 2},
                                                {.sent_s = 3, .there_s = 13.05, .back_s = 3.1},
                                                {.sent_s = 4, .there_s = 14.4, .back_s = 4.5}};
  const ClockReading reading = reading_of(exchanges);
  CHECK(reading.at_s == 13.05);
  CHECK(reading.ahead_s == doctest::Approx(10));
  CHECK(reading.error_s == doctest::Approx(0.05));
  CHECK(ClockLine().to_rank_0(5) == 5);
}

MPI_TEST_CASE("ranks that are asked find the one clock of their host within the error they state",
              4) {
  const ClockReading reading = read_clock(ranks.comm, ranks.comm.split(ranks.rank, 0));
  CHECK(std::abs(reading.ahead_s) <= reading.error_s + 1e-9);
  CHECK((ranks.rank == 0) == (reading.error_s == 0));
  CHECK(std::abs(reading.at_s - seconds_now()) < 10);
}

MPI_TEST_CASE("ranks on the host of rank 0 have its clock, and only the others are asked", 4) {
  const ClockReading reading = read_clock(ranks.comm, ranks.comm.split(ranks.rank / 2, ranks.rank));
  CHECK((ranks.rank < 2) == (reading.error_s == 0));
  CHECK(std::abs(reading.ahead_s) <= reading.error_s + 1e-9);
  CHECK(read_clock(ranks.comm, ranks.comm.host()).error_s == 0);
}

MPI_TEST_CASE("rank 0 collects the texts of all ranks in their order", 4) {
  const std::string own(static_cast<std::size_t>(ranks.rank * 300'000),
                        static_cast<char>('a' + ranks.rank));
  std::string all;
  ranks.comm.collect(text("<", own, ">"), [&](std::string_view part) { all += part; });
  if (ranks.rank > 0) return;
  CHECK(all.size() == 8 + 1'800'000);
  CHECK(all.starts_with("<><bb"));
  CHECK(all.ends_with("dd>"));
  CHECK(all.find("bb><cc") == 300'001);
}

}  // namespace weir
