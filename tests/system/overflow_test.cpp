#include <doctest/doctest.h>

#include "tests/system/job.hpp"

using namespace weir;
using namespace weir::test;

TEST_CASE(
    "an infinite element of one shard leaves no trace: weights and moments of the step before") {
  const TemporaryFolder folder;
  write_corpus(folder / "corpus.txt", 60000, 8);
  struct Case {
    const char* name;
    int ranks;
    std::vector<std::string> more;
  };
  for (const Case& each :
       {Case{"replicas", 4, {"--replicas=2", "--servers=2"}},
        Case{"shards", 3, {"--shards=2", "--servers=1", "--wire-push=bf16"}},
        Case{"stages", 2, {"--stages=2", "--placement=colocated", "--optimizer.kind=lamb"}}}) {
    CAPTURE(each.name);
    std::vector<std::string> more = each.more;
    more.insert(more.end(), {"--steps=12", "--checkpoint-every=11", "--inject=overflow=12-12"});
    const Ended ended = run_weir(each.ranks, small_job(folder, each.name, more));
    CAPTURE(ended.output);
    REQUIRE(ended.exit_code == 0);
    CHECK(ended.output.find("step 12 is skipped: the gradient is not finite") != std::string::npos);
    CHECK(read_steps(folder / each.name).size() == 12);
    CHECK(digests_of(folder / each.name, 12) == digests_of(folder / each.name, 11));
  }
}
