#include "worker/groups/mpi_tensor_group.hpp"

#include <algorithm>
#include <random>
#include <span>
#include <vector>

#include "common/number/memory.hpp"
#include "common/wire/narrow.hpp"
#include "tests/mpi_test.hpp"
#include "tests/worker/low_types.hpp"

namespace weir::worker {

namespace {

std::vector<float> values_of(unsigned shard, std::size_t count) {
  std::mt19937 random(1000 + shard);
  std::normal_distribution<float> normal;
  std::vector<float> values(count);
  for (float& value : values) value = normal(random);
  return values;
}

constexpr index_t kBytes = 300001 * 4;

/// Sums through memory and by messages: against double, and against each other.
void sum_and_compare(const test::Ranks& ranks) {
  MpiTensorGroup group(ranks.comm.duplicate(), {.bytes = kBytes});
  MpiTensorGroup by_messages(ranks.comm.duplicate(), {.bytes = kBytes, .may_share = false});
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
    by_messages.sum(again);
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
  const std::function<bool()> serve = [&] {
    if (ranks.rank != 0 || calls == needed) return false;
    MPI_Send(nullptr, 0, MPI_BYTE, 2, 7, ranks.comm.raw());
    return ++calls > 0;
  };
  MpiTensorGroup group(ranks.comm.duplicate(),
                       {.bytes = kBytes, .may_share = true, .progress = serve, .serve = serve});
  const auto served = [&](auto call) {
    ++needed;
    if (ranks.rank == 2) MPI_Recv(nullptr, 0, MPI_BYTE, 0, 7, ranks.comm.raw(), MPI_STATUS_IGNORE);
    call();
  };
  MpiTensorGroup plain(ranks.comm.duplicate(), {.bytes = kBytes});
  auto values = values_of(unsigned(ranks.rank), 10001), expected = values, highest = values;
  plain.sum(expected);
  served([&] { group.sum(values); });
  CHECK(std::ranges::equal(std::as_bytes(std::span(values)), std::as_bytes(std::span(expected))));
  auto maxima = highest;
  plain.max(maxima);
  served([&] { group.max(highest); });
  CHECK(highest == maxima);
}

MPI_TEST_CASE("a shard alone has its own sum", 1) { sum_and_compare(ranks); }
MPI_TEST_CASE("two shards sum to the same bits in memory and by messages", 2) {
  sum_and_compare(ranks);
}
MPI_TEST_CASE("three shards sum to the same bits in memory and by messages", 3) {
  sum_and_compare(ranks);
}
MPI_TEST_CASE("five shards sum to the same bits in memory and by messages", 5) {
  sum_and_compare(ranks);
}
MPI_TEST_CASE("eight shards sum to the same bits in memory and by messages", 8) {
  sum_and_compare(ranks);
}

namespace {

/// Rows that do not divide, in f32 and low types, through memory and by messages, one
/// after the other so that a late reader would be found out.
void rows_and_compare(const test::Ranks& ranks) {
  constexpr index_t kColumns = 6;
  const int size = ranks.comm.size();
  for (const bool may_share : {true, false}) {
    MpiTensorGroup group(ranks.comm.duplicate(),
                         {.bytes = 40 * kColumns * 4, .may_share = may_share});
    for (index_t rows = 0; rows <= 40; ++rows) {
      for (const Dtype dtype : {Dtype::f32, Dtype::bf16, Dtype::fp16}) {
        CAPTURE(rows);
        CAPTURE(name_of(dtype));
        const auto count = static_cast<std::size_t>(rows * kColumns);
        std::vector<float> sums(count, 0);  // in the order of the ring
        const Memory memory(rows * kColumns, bytes_of(dtype));
        const Matrix own(memory.elements(dtype), rows, kColumns);
        for (int step = 1; step <= size; ++step) {
          const int shard = (ranks.rank + step) % size;
          auto values = values_of(unsigned(shard), count);
          round_to(values, own.flat());
          values = test::floats_of(own.flat());
          for (std::size_t i = 0; i < count; ++i)
            sums[i] = step == 1 ? values[i] : sums[i] + values[i];
        }
        group.start_row_sum(own);  // the last one was this rank's
        group.progress();
        group.finish_row_sum(own);
        const Memory truth(rows * kColumns, bytes_of(dtype));
        round_to(sums, truth.elements(dtype));
        const auto own_bytes = [&](const Memory& of) {
          return group.own_rows(Matrix(of.elements(dtype), rows, kColumns)).flat().bytes();
        };
        CHECK(std::ranges::equal(own_bytes(memory), own_bytes(truth)));
        group.gather_rows(own);
        const std::string all(reinterpret_cast<const char*>(memory.data()), memory.bytes());
        CHECK(all == ranks.comm.broadcast(all, 0));
        CHECK(std::ranges::equal(own_bytes(memory), own_bytes(truth)));
      }
    }
  }
}

}  // namespace

MPI_TEST_CASE("two shards get the sums of their own rows, and gather them", 2) {
  rows_and_compare(ranks);
}
MPI_TEST_CASE("seven shards get the sums of their own rows, and gather them", 7) {
  rows_and_compare(ranks);
}

MPI_TEST_CASE("a sum and a maximum show values that are not finite", 3) {
  MpiTensorGroup group(ranks.comm.duplicate(), {.bytes = 8});
  std::vector<float> values{ranks.rank == 1 ? NAN : 1.0f, ranks.rank == 2 ? INFINITY : 1.0f};
  group.sum(values);
  CHECK(std::isnan(values[0]));
  CHECK(values[1] == INFINITY);
}

}  // namespace weir::worker
