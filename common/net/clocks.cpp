#include "common/net/clocks.hpp"

#include <algorithm>
#include <array>

#include "common/base/activity.hpp"
#include "common/base/error.hpp"
#include "common/base/list.hpp"
#include "common/base/machine.hpp"

namespace weir {
namespace {

constexpr index_t kExchangesMax = 40;
constexpr index_t kExchangesMin = 5;  // the first ones open the way between the two ranks
constexpr double kSecondsMax = 30e-3;
constexpr int kClockTag = 0;
constexpr const char* kComparing = "comparing clocks";

void send(const Comm& comm, int peer, std::span<const double> values) {
  check_mpi(MPI_Send(values.data(), static_cast<int>(values.size()), MPI_DOUBLE, peer, kClockTag,
                     comm.raw()),
            kComparing);
}

void receive(const Comm& comm, int peer, std::span<double> values) {
  check_mpi(MPI_Recv(values.data(), static_cast<int>(values.size()), MPI_DOUBLE, peer, kClockTag,
                     comm.raw(), MPI_STATUS_IGNORE),
            kComparing);
}

/// Rank 0 asks `peer`, and tells it what came out.
void ask(const Comm& comm, int peer) {
  const Waiting waiting("an answer to compare clocks", comm.rank_in_job(peer));
  List<ClockExchange> exchanges;
  const double begin = seconds_now();
  const auto is_enough = [&] {
    return exchanges.size() >= kExchangesMax ||
           (exchanges.size() >= kExchangesMin && seconds_now() - begin > kSecondsMax);
  };
  while (!is_enough()) {
    ClockExchange& exchange = exchanges.emplace_back();
    const double goes_on = 1;
    exchange.sent_s = seconds_now();
    send(comm, peer, std::span(&goes_on, 1));
    receive(comm, peer, std::span(&exchange.there_s, 1));
    exchange.back_s = seconds_now();
  }
  const double goes_on = 0;
  send(comm, peer, std::span(&goes_on, 1));
  const ClockReading reading = reading_of(exchanges);
  send(comm, peer, std::array{reading.at_s, reading.ahead_s, reading.error_s});
}

ClockReading answer(const Comm& comm) {
  const Waiting waiting("its turn to compare clocks", comm.rank_in_job(0));
  while (true) {
    double goes_on = 0;
    receive(comm, 0, std::span(&goes_on, 1));
    if (goes_on == 0) break;
    const double now_s = seconds_now();
    send(comm, 0, std::span(&now_s, 1));
  }
  std::array<double, 3> found{};
  receive(comm, 0, found);
  return {.at_s = found[0], .ahead_s = found[1], .error_s = found[2]};
}

}  // namespace

ClockReading reading_of(std::span<const ClockExchange> exchanges) {
  WEIR_ASSERT(!exchanges.empty());
  const ClockExchange& fastest = *std::ranges::min_element(
      exchanges, {}, [](const ClockExchange& each) { return each.back_s - each.sent_s; });
  return {.at_s = fastest.there_s,
          .ahead_s = fastest.there_s - (fastest.sent_s + fastest.back_s) / 2,
          .error_s = (fastest.back_s - fastest.sent_s) / 2};
}

double ClockLine::ahead_at(double own_s) const {
  const double span_s = last_.at_s - first_.at_s;
  const double share = span_s > 0 ? (own_s - first_.at_s) / span_s : 0;
  return first_.ahead_s + share * (last_.ahead_s - first_.ahead_s);
}

double ClockLine::error_s() const { return std::max(first_.error_s, last_.error_s); }

ClockReading read_clock(const Comm& comm, const Comm& host) {
  comm.barrier();  // asleep, until all are here
  List<index_t> is_far(comm.size(), 0);
  is_far[comm.rank()] = host.max(index_t{comm.rank() == 0}) == 0;
  comm.sum(is_far);
  if (is_far[comm.rank()] != 0) return answer(comm);
  for (int peer = 1; comm.rank() == 0 && peer < comm.size(); ++peer) {
    if (is_far[peer] != 0) ask(comm, peer);
  }
  return {.at_s = seconds_now()};
}

}  // namespace weir
