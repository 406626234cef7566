#pragma once

#include <iostream>
#include <memory>
#include <streambuf>
#include <string>

#include "common/net/mpi.hpp"

namespace weir::test {

/// Passes rank 0's lines on. For the others puts the rank in front of every line, so that failures
/// of eight ranks can be told apart, and drops doctest's summary, which rank 0 prints for all.
class RankLines : public std::streambuf {
 public:
  RankLines(std::streambuf* out, int rank) : out_(out), rank_(rank) {}

 protected:
  int overflow(int character) override;
  int sync() override;

 private:
  std::streambuf* out_;
  int rank_;
  std::string line_;
};

/// What the cases for mpirun share: there is one a program, made by main under mpirun alone.
struct MpiRunner {
  MpiRunner(int& argument_count, char**& arguments, unsigned alarm_s);
  ~MpiRunner();

  Session session;
  Comm world = Comm::world();
  unsigned alarm_s;
  int cases_without_ranks = 0;
  RankLines lines;
  std::ostream out{&lines};
};

}  // namespace weir::test
