#include "common/net/part_exchange.hpp"

#include <algorithm>
#include <random>
#include <vector>

#include "tests/common/net/random_delay.hpp"
#include "tests/mpi_test.hpp"

namespace weir {
namespace {

constexpr index_t kRowBytes = 6;
constexpr index_t kRowsMost = 50;

/// What rank `rank` brings to a swap, as bytes of its own.
std::vector<std::byte> matrix_of(int rank, int swap, index_t rows) {
  std::vector<std::byte> matrix(static_cast<std::size_t>(rows * kRowBytes));
  for (std::size_t i = 0; i < matrix.size(); ++i) {
    matrix[i] = std::byte(static_cast<unsigned char>(31 * rank + 7 * swap + 3 * int(i)));
  }
  return matrix;
}

std::span<const std::byte> part_of(const std::vector<std::byte>& matrix, index_t rows, int rank,
                                   int ranks) {
  const Interval part = even_part(rows, rank, ranks);
  return std::span(matrix).subspan(part.begin * kRowBytes, part.count() * kRowBytes);
}

/// Swaps of all sizes one after the other, at ranks that come and read early or late.
void swap_and_compare(const test::Ranks& ranks) {
  const int size = ranks.comm.size();
  for (const bool may_share : {true, false}) {
    CAPTURE(may_share);
    const Comm comm = ranks.comm.duplicate();
    const auto exchange = make_part_exchange(comm, kRowsMost * kRowBytes, may_share, {});
    std::mt19937 random(static_cast<unsigned>(ranks.rank));
    index_t wrong = 0;
    for (int swap = 0; swap < 80; ++swap) {
      const index_t rows = swap * 17 % (kRowsMost + 1);
      std::vector<std::byte> own = matrix_of(ranks.rank, swap, rows);
      if (swap % 3 == 0) {
        const auto mine = part_of(own, rows, ranks.rank, size);
        std::vector<std::byte> all(own.size());
        std::ranges::copy(mine, all.begin() + (mine.data() - own.data()));
        exchange->gather(all, rows);
        for (int rank = 0; rank < size; ++rank) {
          const std::vector<std::byte> truth = matrix_of(rank, swap, rows);
          wrong +=
              !std::ranges::equal(part_of(all, rows, rank, size), part_of(truth, rows, rank, size));
        }
        continue;
      }
      exchange->start_scatter(own, rows);
      std::ranges::fill(own, std::byte{0});  // it has been copied
      test::random_delay(random);
      exchange->progress();
      const auto parts = exchange->finish_scatter();
      REQUIRE(std::ssize(parts) == size);
      test::random_delay(random);
      for (int rank = 0; rank < size; ++rank) {
        const std::vector<std::byte> truth = matrix_of(rank, swap, rows);
        wrong += !std::ranges::equal(parts[static_cast<std::size_t>(rank)],
                                     part_of(truth, rows, ranks.rank, size));
      }
    }
    CHECK(wrong == 0);
  }
}

}  // namespace

MPI_TEST_CASE("one rank keeps its parts", 1) { swap_and_compare(ranks); }
MPI_TEST_CASE("two ranks get their parts, in memory and by messages", 2) {
  swap_and_compare(ranks);
}
MPI_TEST_CASE("eight ranks get their parts, in memory and by messages", 8) {
  swap_and_compare(ranks);
}

MPI_TEST_CASE("a rank that waits for the others moves other traffic on", 2) {
  const Comm comm = ranks.comm.duplicate();
  for (const bool may_share : {true, false}) {
    index_t calls = 0;
    // Rank 1 comes only when rank 0, which waits for it, has called this.
    const auto exchange = make_part_exchange(comm, 8, may_share, [&] {
      if (ranks.rank == 0 && ++calls == 1) {
        check_mpi(MPI_Send(nullptr, 0, MPI_BYTE, 1, 7, ranks.comm.raw()), "telling");
      }
      return false;
    });
    if (ranks.rank == 1) {
      check_mpi(MPI_Recv(nullptr, 0, MPI_BYTE, 0, 7, ranks.comm.raw(), MPI_STATUS_IGNORE),
                "being told");
    }
    std::vector<std::byte> bytes(8);
    exchange->gather(bytes, 2);
    if (ranks.rank == 0) CHECK(calls > 0);
  }
}

}  // namespace weir
