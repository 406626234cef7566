#include "launch/run/live.hpp"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>

#include "common/base/machine.hpp"
#include "launch/run/watchdog.hpp"
#include "tests/temporary_folder.hpp"

namespace weir::test::live_test {
namespace {

LiveRecord some_record() {
  LiveRecord record;
  record.rank = 1;
  record.ranks = 3;
  record.role = "replica 1, stage 0, shard 0";
  record.host = "anna";
  record.process = 4711;
  record.phase = "train";
  record.step = 12;
  record.need = {"weights", 2, 17};
  record.file_work = "a save";
  record.still_s = 0.5;
  record.deadline_s = 30;
  record.in_time = false;
  record.steps_a_second = 2.5;
  record.waiting_share = 0.25;
  return record;
}

}  // namespace

TEST_CASE("a record is read as it was written") {
  const LiveRecord record = some_record();
  const auto read = live_record_of(json_of(record) + "   ");
  REQUIRE(read);
  CHECK(json_of(*read) == json_of(record));
  CHECK(read->need == record.need);
  CHECK(read->server_need == LiveNeed{});
  CHECK_FALSE(read->in_time);
  CHECK(read->process == 4711);
}

TEST_CASE("hosts are known where a rank was not seen to end, unless there is no other host") {
  const TemporaryFolder scratch;
  const fs::path folder = live_folder(scratch.path());
  note_end(folder, 0);  // without the folder: nothing happens
  CHECK(hosts_without_end(folder).empty());
  fs::create_directory(folder);
  for (const index_t rank : {0, 1, 2}) {
    LiveRecord record = some_record();
    record.rank = rank;
    record.host = rank == 2 ? "berta" : "anna";
    show_file(folder / live_name(rank), json_of(record));
  }
  using Hosts = std::vector<std::string>;
  CHECK(hosts_without_end(folder) == Hosts{});
  note_end(folder, 0);
  CHECK(hosts_without_end(folder) == Hosts{});
  note_end(folder, 1);
  CHECK(hosts_without_end(folder) == Hosts{"berta"});
  note_end(folder, 2);
  CHECK(hosts_without_end(folder) == Hosts{});
  CHECK(read_live_records(folder).size() == 3);
  remove_live_records(folder);
  CHECK_FALSE(fs::exists(folder));
}

TEST_CASE("what is no record is left out, and only records are removed") {
  const TemporaryFolder scratch;
  const fs::path folder = live_folder(scratch.path());
  fs::create_directory(folder);
  show_file(folder / live_name(1), json_of(some_record()));
  std::ofstream(folder / live_name(0)) << "{\"rank\": 0}";
  std::ofstream(folder / "rank-2.json") << "[[[";
  std::ofstream(folder / "rank-7.json") << json_of([] {
    LiveRecord beyond = some_record();
    beyond.rank = 7;  // of three
    return beyond;
  }());
  std::ofstream(folder / ".tmp-rank-1.json-0123") << "half";
  const std::vector<LiveRecord> records = read_live_records(folder);
  REQUIRE(records.size() == 1);
  CHECK(records.front().rank == 1);
  std::ofstream(folder / "mine") << "kept";
  remove_live_records(folder);
  CHECK(read_live_records(folder).empty());
  CHECK(std::distance(fs::directory_iterator(folder), {}) == 1);
  fs::remove(folder / "mine");
  remove_live_records(folder);
  CHECK_FALSE(fs::exists(folder));
  CHECK(read_live_records(folder).empty());
}

TEST_CASE("a record is stale if its process is gone from this host, or after ten seconds") {
  LiveRecord record = some_record();
  record.written_s = 1000;
  CHECK(may_be_alive(record, 1001));  // on another host
  CHECK_FALSE(may_be_alive(record, 1011));
  record.host = host_name();
  record.process = getpid();
  CHECK(may_be_alive(record, 1001));
  const pid_t child = fork();
  if (child == 0) _exit(0);
  waitpid(child, nullptr, 0);
  record.process = child;
  CHECK_FALSE(may_be_alive(record, 1001));
}

TEST_CASE("a watchdog shows what its rank does while it lives, and takes it away then") {
  const TemporaryFolder scratch;
  const fs::path folder = live_folder(scratch.path());
  fs::create_directory(folder);
  {
    const Waiting waiting({"weights", 1, 17});
    note_step(41);
    const Watchdog watchdog({}, {.run = scratch.path(), .rank = 0, .ranks = 2, .role = "server 0"});
    const double begin_s = seconds_now();
    while (read_live_records(folder).empty() && seconds_now() - begin_s < 10) {
      sleep_microseconds(10'000);
    }
    const std::vector<LiveRecord> records = read_live_records(folder);
    REQUIRE(records.size() == 1);
    CHECK(records.front().step == 41);
    CHECK(records.front().need == LiveNeed{"weights", 1, 17});
    CHECK(records.front().process == getpid());
    CHECK(records.front().in_time);
  }
  CHECK_FALSE(fs::exists(folder));
}

TEST_CASE("a watchdog whose run folder cannot be seen watches nothing") {
  const TemporaryFolder scratch;
  const Watchdog watchdog({.on = true, .floor_s = 0.05}, {.run = scratch / "nowhere"});
  const Waiting waiting("nothing");
  sleep_microseconds(400'000);
  CHECK_FALSE(fs::exists(scratch / "nowhere"));  // and the process lives
}

TEST_CASE("a watchdog ends a process that stands still with 86, and tells why in the run folder") {
  const TemporaryFolder scratch;
  fs::create_directory(live_folder(scratch.path()));
  const pid_t child = fork();
  if (child == 0) {
    dup2(open("/dev/null", O_WRONLY), STDERR_FILENO);
    const Watchdog watchdog({.on = true, .floor_s = 0.3},
                            {.run = scratch.path(), .role = "one process"});
    const Waiting waiting("godot", kNobody);
    sleep_microseconds(20'000'000);
    _exit(0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 86);
  const std::vector<LiveRecord> reports = read_live_records(hang_folder(scratch.path()));
  REQUIRE(reports.size() == 1);
  CHECK(reports.front().need.what == "godot");
  CHECK_FALSE(reports.front().in_time);
}

}  // namespace weir::test::live_test
