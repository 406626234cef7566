#include "worker/groups/mpi_tensor_group.hpp"

#include <algorithm>
#include <random>
#include <span>
#include <vector>

#include "tests/mpi_test.hpp"

namespace weir::worker {

namespace {

std::vector<float> values_of(unsigned shard, std::size_t count) {
  std::mt19937 random(1000 + shard);
  std::normal_distribution<float> normal;
  std::vector<float> values(count);
  for (float& value : values) value = normal(random);
  return values;
}

void sum_and_compare(const test::Ranks& ranks) {
  MpiTensorGroup group(ranks.comm.duplicate());
  CHECK(group.size() == ranks.comm.size());
  CHECK(group.index() == ranks.rank);
  for (const std::size_t count : {0, 1, 7, 1000, 300001}) {
    CAPTURE(count);
    std::vector<double> sums(count, 0), magnitudes(count, 0);
    std::vector<float> maxima(count, -1e30f);
    for (int shard = 0; shard < ranks.comm.size(); ++shard) {
      const auto values = values_of(unsigned(shard), count);
      for (std::size_t i = 0; i < count; ++i) {
        sums[i] += values[i];
        magnitudes[i] += std::abs(values[i]);
        maxima[i] = std::max(maxima[i], values[i]);
      }
    }
    auto values = values_of(unsigned(ranks.rank), count);
    auto again = values, highest = values;
    group.sum(values);
    group.sum(again);
    group.max(highest);
    CHECK(highest == maxima);
    CHECK(std::ranges::equal(std::as_bytes(std::span(values)), std::as_bytes(std::span(again))));
    index_t wrong = 0;
    for (std::size_t i = 0; i < count; ++i) {
      wrong += !(std::abs(values[i] - sums[i]) <= 1e-6 * magnitudes[i]);
    }
    CHECK(wrong == 0);
    const std::string mine(reinterpret_cast<const char*>(values.data()), count * sizeof(float));
    CHECK(mine == ranks.comm.broadcast(mine, 0));  // the same bits on all shards
  }
}

}  // namespace

MPI_TEST_CASE("a shard that waits for another serves it, and the bits are the same", 3) {
  index_t calls = 0, needed = 0;
  // Shard 2 comes to each call only when shard 0 has served it there.
  MpiTensorGroup group(ranks.comm.duplicate(), [&] {
    if (ranks.rank != 0 || calls == needed) return false;
    MPI_Send(nullptr, 0, MPI_BYTE, 2, 7, ranks.comm.raw());
    return ++calls > 0;
  });
  const auto served = [&](auto call) {
    ++needed;
    if (ranks.rank == 2) MPI_Recv(nullptr, 0, MPI_BYTE, 0, 7, ranks.comm.raw(), MPI_STATUS_IGNORE);
    call();
  };
  MpiTensorGroup plain(ranks.comm.duplicate());
  auto values = values_of(unsigned(ranks.rank), 10001), expected = values, highest = values;
  plain.sum(expected);
  served([&] { group.sum(values); });
  CHECK(std::ranges::equal(std::as_bytes(std::span(values)), std::as_bytes(std::span(expected))));
  auto maxima = highest;
  plain.max(maxima);
  served([&] { group.max(highest); });
  CHECK(highest == maxima);
}

MPI_TEST_CASE("two shards sum to the same bits, again and again", 2) { sum_and_compare(ranks); }
MPI_TEST_CASE("three shards sum to the same bits, again and again", 3) { sum_and_compare(ranks); }
MPI_TEST_CASE("eight shards sum to the same bits, again and again", 8) { sum_and_compare(ranks); }

MPI_TEST_CASE("a sum and a maximum show values that are not finite", 3) {
  MpiTensorGroup group(ranks.comm.duplicate());
  std::vector<float> values{ranks.rank == 1 ? NAN : 1.0f, ranks.rank == 2 ? INFINITY : 1.0f};
  group.sum(values);
  CHECK(std::isnan(values[0]));
  CHECK(values[1] == INFINITY);
}

}  // namespace weir::worker
