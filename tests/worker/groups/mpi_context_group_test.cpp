#include "worker/groups/mpi_context_group.hpp"

#include <algorithm>
#include <vector>

#include "tests/mpi_test.hpp"

namespace weir::worker {

namespace {

/// What one context sends for one purpose: different for every context, purpose and place.
std::vector<float> values_of(index_t context, index_t purpose, std::size_t count) {
  std::vector<float> values(count);
  for (std::size_t at = 0; at < count; ++at) {
    values[at] = static_cast<float>(context * 1000 + purpose * 100) + float(at % 97);
  }
  return values;
}

enum Purpose : index_t { kSummed, kGathered, kBack, kOn };

/// All calls in turn, in many sizes: large ones do not fit into the transport's own buffers, so
/// that whoever sends before it receives would wait for ever.
void talk(const test::Ranks& ranks) {
  const index_t size = ranks.comm.size();
  MpiContextGroup group(ranks.comm.duplicate());
  CHECK(group.size() == size);
  CHECK(group.index() == ranks.rank);
  const index_t context = group.index();
  for (const std::size_t count : {0, 1, 7, 1000, 2'000'003}) {
    CAPTURE(count);
    std::vector<float> sum = values_of(context, kSummed, count);
    group.sum(sum);
    std::vector<float> all(count * static_cast<std::size_t>(size), -1);
    group.gather(std::span<const float>(values_of(context, kGathered, count)), all);
    std::vector<float> gathered, summed(count, 0);
    for (index_t each = 0; each < size; ++each) {
      const std::vector<float> part = values_of(each, kGathered, count);
      gathered.insert(gathered.end(), part.begin(), part.end());
      const std::vector<float> term = values_of(each, kSummed, count);
      for (std::size_t at = 0; at < count; ++at) summed[at] += term[at];  // whole numbers: exact
    }
    CHECK(sum == summed);
    CHECK(all == gathered);

    // More to the one side than to the other; twice, as layers do.
    const std::size_t longer = count + 3;
    for (int round = 0; round < 2; ++round) {
      std::vector<float> from_previous(count, -1), from_next(longer, -1);
      const std::vector<float> back = values_of(context, kBack, longer);
      const std::vector<float> on = values_of(context, kOn, count);
      group.exchange(back, on, from_previous, from_next);
      CHECK(from_previous ==
            (context > 0 ? values_of(context - 1, kOn, count) : std::vector<float>(count, -1)));
      CHECK(from_next == (context + 1 < size ? values_of(context + 1, kBack, longer)
                                             : std::vector<float>(longer, -1)));
    }
  }
}

}  // namespace

MPI_TEST_CASE("a context that waits for another serves it, in every call", 2) {
  index_t calls = 0, needed = 0;
  MpiContextGroup group(ranks.comm.duplicate(), [&] {
    if (ranks.rank != 0 || calls == needed) return false;
    MPI_Send(nullptr, 0, MPI_BYTE, 1, 7, ranks.comm.raw());
    return ++calls > 0;
  });
  const auto served = [&](auto call) {
    ++needed;
    if (ranks.rank == 1) MPI_Recv(nullptr, 0, MPI_BYTE, 0, 7, ranks.comm.raw(), MPI_STATUS_IGNORE);
    call();
  };
  std::vector<float> one = {1}, all(2), to = {float(ranks.rank)}, from = {-1};
  served([&] { group.sum(one); });
  CHECK(one[0] == 2);
  served([&] { group.gather(to, all); });
  CHECK(all == std::vector<float>{0, 1});
  served([&] {
    ranks.rank == 0 ? group.exchange({}, to, {}, from) : group.exchange(to, {}, from, {});
  });
  CHECK(from[0] == float(1 - ranks.rank));
}

MPI_TEST_CASE("a context alone sums, gathers and swaps with nobody", 1) { talk(ranks); }
MPI_TEST_CASE("two contexts sum, gather and swap with each other", 2) { talk(ranks); }
MPI_TEST_CASE("three contexts sum, gather and swap with their neighbours", 3) { talk(ranks); }
MPI_TEST_CASE("five contexts sum, gather and swap with their neighbours", 5) { talk(ranks); }
MPI_TEST_CASE("eight contexts sum, gather and swap with their neighbours", 8) { talk(ranks); }

MPI_TEST_CASE("contexts that only look back send one way, and the other spans may be empty", 4) {
  MpiContextGroup group(ranks.comm.duplicate());
  std::vector<float> from_previous(9, -1);
  const std::vector<float> on = values_of(ranks.rank, kOn, 9);
  group.exchange({}, on, from_previous, {});
  CHECK(from_previous ==
        (ranks.rank > 0 ? values_of(ranks.rank - 1, kOn, 9) : std::vector<float>(9, -1)));
}

}  // namespace weir::worker
