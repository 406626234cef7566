#pragma once

#include <doctest/doctest.h>

#include "common/net/mpi.hpp"

namespace weir::test {

/// What the body of an MPI_TEST_CASE sees.
struct Ranks {
  const Comm& comm;  ///< exactly as many ranks as the case asked for
  int rank;          ///< this one, in comm
};

void run_on_ranks(const char* claim, int rank_count, void (*body)(const Ranks&));

/// The name of the doctest suite that holds the cases for mpirun.
inline constexpr const char* kMpiSuite = "mpi";

}  // namespace weir::test

/// A case for exactly `rank_count` ranks, run under mpirun alone:
///
///   MPI_TEST_CASE("every rank knows the sum", 4) { CHECK(ranks.comm.sum(1.0) == 4); }
///
/// CHECK may fail on any rank: all ranks then end with exit code 1. What throws on one rank (a
/// failed REQUIRE, too) or lasts longer than the alarm ends the whole job at once. See
/// tests/main.cpp.
#define MPI_TEST_CASE(claim, rank_count) \
  WEIR_MPI_TEST_CASE(DOCTEST_ANONYMOUS(mpi_test_body_), claim, rank_count)

#define WEIR_MPI_TEST_CASE(body, claim, rank_count)                \
  static void body(const ::weir::test::Ranks& ranks);              \
  TEST_CASE(claim* doctest::test_suite(::weir::test::kMpiSuite)) { \
    ::weir::test::run_on_ranks(claim, rank_count, body);           \
  }                                                                \
  static void body([[maybe_unused]] const ::weir::test::Ranks& ranks)
