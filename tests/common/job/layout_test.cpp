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

TEST_CASE("groups are of neighbouring replicas, and divide them") {
  const Layout layout = {.replicas = 6, .shards = 2, .group_size = 3};
  CHECK_NOTHROW(layout.check_groups());
  CHECK(layout.group_count() == 2);
  CHECK(layout.group_of(2) == 0);
  CHECK(layout.group_of(3) == 1);
  CHECK_THROWS_WITH_AS((Layout{.replicas = 6, .group_size = 4}).check_groups(),
                       "--sum-groups 4 does not divide --replicas 6 into equal groups; take one of "
                       "1, 2, 3, 6",
                       UsageError);
}

TEST_CASE("colocated, every rank is a worker and the server of the same number") {
  const Layout layout = {
      .replicas = 2, .stages = 2, .servers = 4, .placement = Placement::colocated};
  CHECK(layout.rank_count() == 4);
  for (index_t rank = 0; rank < 4; ++rank) {
    CHECK(layout.is_worker(rank));
    CHECK(layout.is_server(rank));
    CHECK(layout.server(rank) == rank);
    CHECK(layout.rank_of_server(rank) == rank);
  }
  CHECK(layout.role(2) == "replica 1, stage 0, shard 0, server 2");
  CHECK(layout.role(layout.worker(2)) == "replica 1, stage 0, shard 0");
  CHECK(message_of(layout, 4).empty());
  CHECK(message_of(layout, 6) ==
        "4 ranks needed: 2 replicas x 2 stages x 1 shard = 4 workers, each a server, too; mpirun "
        "started 6. Start mpirun with -n 4, or set --replicas 3");
  CHECK(message_of(layout, 5).find("or set") == std::string::npos);
  // Whoever forgot the servers' ranks hears that there is a way without.
  Layout dedicated = layout;
  dedicated.placement = Placement::dedicated;
  dedicated.servers = 1;
  CHECK(message_of(dedicated, 4).find("or take --placement colocated") != std::string::npos);
  CHECK(message_of(dedicated, 6).find("colocated") == std::string::npos);
}

TEST_CASE("a context is named, and counted, where there is more than one") {
  const Layout layout = {.replicas = 2, .stages = 2, .contexts = 3, .shards = 2};
  CHECK(layout.role(layout.rank_of({1, 0, 2, 1})) == "replica 1, stage 0, context 2, shard 1");
  CHECK(layout.arithmetic() == "2 replicas x 2 stages x 3 contexts x 2 shards = 24 workers");
  CHECK(Layout{}.role(0) == "replica 0, stage 0, shard 0");
  CHECK(message_of(layout, 13).find("or set --replicas 1") != std::string::npos);
}

TEST_CASE("the parts of a sequence are its tokens, each once, in order, as even as can be") {
  for (const index_t length : {1, 2, 7, 8, 9, 1999}) {
    for (index_t contexts = 1; contexts <= 9; ++contexts) {
      CAPTURE(length);
      CAPTURE(contexts);
      index_t next = 0;
      for (index_t context = 0; context < contexts; ++context) {
        const Interval part = part_of_sequence(length, context, contexts);
        CHECK(part.begin == next);
        CHECK(part.count() >= length / contexts);
        CHECK(part.count() <= longest_part(length, contexts));
        next = part.end;
      }
      CHECK(next == length);
    }
  }
  // Shorter sequences have no longer parts: memory for the longest is enough for all.
  for (index_t length = 1; length <= 40; ++length) {
    for (index_t context = 0; context < 3; ++context) {
      CHECK(part_of_sequence(length, context, 3).count() <= longest_part(40, 3));
    }
  }
}

TEST_CASE("local is one worker in one process") {
  Layout layout = {.placement = Placement::local};
  CHECK(message_of(layout, 1).empty());
  CHECK(message_of(layout, 3).find("without mpirun") != std::string::npos);
  layout.replicas = 2;
  CHECK(message_of(layout, 1) ==
        "--placement local is one worker with the server in its process, but 2 replicas x 1 stage "
        "x 1 shard = 2 workers; take --placement dedicated and start 3 ranks, or set all of "
        "replicas, stages, contexts and shards to 1");
}
