#include "common/job/layout.hpp"

#include <doctest/doctest.h>

#include "common/base/error.hpp"

using namespace weir;

static std::string message_of(const Layout& layout, index_t ranks) {
  try {
    layout.check(ranks);
  } catch (const UsageError& error) {
    return error.what();
  }
  return "";
}

TEST_CASE("every rank is one worker or one server, in the order replica, stage, context, shard") {
  const Layout layout = {.replicas = 2, .stages = 3, .contexts = 2, .shards = 4, .servers = 3};
  index_t rank = 0;
  for (index_t replica = 0; replica < 2; ++replica)
    for (index_t stage = 0; stage < 3; ++stage)
      for (index_t context = 0; context < 2; ++context)
        for (index_t shard = 0; shard < 4; ++shard, ++rank) {
          const WorkerPlace place = {replica, stage, context, shard};
          CHECK(layout.worker(rank) == place);
          CHECK(layout.rank_of(place) == rank);
          CHECK_FALSE(layout.is_server(rank));
        }
  for (index_t server = 0; server < 3; ++server, ++rank) {
    CHECK(layout.is_server(rank));
    CHECK(layout.server(rank) == server);
    CHECK(layout.rank_of_server(server) == rank);
  }
  CHECK(layout.rank_count() == rank);
}

TEST_CASE("a wrong number of ranks is answered with the arithmetic and the way out") {
  const Layout layout = {.replicas = 2, .shards = 3, .servers = 2};
  CHECK(message_of(layout, 8).empty());
  const std::string message = message_of(layout, 5);
  CHECK(message ==
        "8 ranks needed: 2 replicas x 1 stage x 3 shards = 6 workers + 2 servers; mpirun started "
        "5. Start mpirun with -n 8, or set --replicas 1");
  CHECK(message_of(layout, 7).find("or set --servers 1") != std::string::npos);
  CHECK(message_of(layout, 1).find("--placement local") != std::string::npos);
}

TEST_CASE("local is one worker in one process") {
  Layout layout = {.placement = Placement::local};
  CHECK(message_of(layout, 1).empty());
  CHECK(message_of(layout, 3).find("without mpirun") != std::string::npos);
  layout.replicas = 2;
  CHECK(message_of(layout, 1).find("--placement dedicated and start 3 ranks") != std::string::npos);
}
