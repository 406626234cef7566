#include "launch/top.hpp"

#include <doctest/doctest.h>
#include <unistd.h>

#include <fstream>

#include "common/base/error.hpp"
#include "common/base/machine.hpp"
#include "tests/temporary_folder.hpp"

namespace weir::test::top_test {
namespace {

LiveRecord record_of(index_t rank) {
  LiveRecord record;
  record.rank = rank;
  record.ranks = 2;
  record.role = rank == 0 ? "replica 0, stage 0, shard 0" : "server 0";
  record.host = host_name();
  record.process = getpid();
  record.phase = "train";
  record.step = 1234;
  record.steps_a_second = 2.5;
  record.waiting_share = 0.25;
  return record;
}

/// A run folder of a job with one rank, which has this record.
void put_job(const fs::path& run, const LiveRecord& record) {
  std::ofstream(run / "LOCK") << "host a, process 7\n";
  fs::create_directories(live_folder(run));
  show_file(live_folder(run) / live_name(record.rank), json_of(record));
}

bool has(const std::string& text, const std::string& words) {
  return text.find(words) != std::string::npos;
}

}  // namespace

TEST_CASE("top shows a row a rank: where it is, how fast, and whom it waits for") {
  LiveRecord worker = record_of(0);
  worker.need = {"weights", 1, 17};
  LiveRecord server = record_of(1);
  server.need = {"what its server lacks", -2};
  server.server_need = {"gradients", 0};
  server.age_s = 12;
  const std::string table = top_table({worker, server});
  CHECK(has(table, "replica 0, stage 0, shard 0"));
  CHECK(has(table, "1,234     2.50   25 %"));
  CHECK(has(table, "waits for weights (rank 1, bucket 17)"));
  CHECK(
      has(table, "12.0 s ago  nothing: its record is 12 s old; waits for gradients (rank 0) then"));
}

TEST_CASE("top says that no job runs: nothing is there, the process is gone, or it is no run") {
  const TemporaryFolder scratch;
  CHECK_THROWS_WITH_AS(records_of_job(scratch.path()), doctest::Contains("is not a run folder"),
                       UsageError);
  put_job(scratch.path(), record_of(0));
  CHECK(records_of_job(scratch.path()).size() == 1);
  LiveRecord gone = record_of(0);
  gone.process = 0x3fffffff;  // beyond the ids that Linux gives
  put_job(scratch.path(), gone);
  CHECK_THROWS_WITH_AS(records_of_job(scratch.path()), doctest::Contains("has left its record"),
                       Error);
  fs::remove_all(live_folder(scratch.path()));
  CHECK_THROWS_WITH_AS(records_of_job(scratch.path()), doctest::Contains("no job runs in"), Error);
}

}  // namespace weir::test::top_test
