#include "launch/run/hang.hpp"

#include <doctest/doctest.h>

#include <algorithm>

#include "common/base/activity.hpp"

namespace weir::test::hang_test {
namespace {

LiveRecord worker(index_t rank, LiveNeed need, double still_s = 31) {
  LiveRecord record;
  record.rank = rank;
  record.ranks = 4;
  record.role = text("replica ", rank, ", stage 0, shard 0");
  record.host = "anna";
  record.phase = "train";
  record.step = 12;
  record.need = std::move(need);
  record.still_s = still_s;
  record.in_time = false;
  return record;
}

LiveRecord server(index_t rank, LiveNeed lacks, double still_s = 31) {
  LiveRecord record = worker(rank, {"what its server lacks", kSeveralRanks}, still_s);
  record.role = text("server ", rank - 2);
  record.server_need = std::move(lacks);
  return record;
}

bool has(const std::string& words, const std::string& part) {
  return words.find(part) != std::string::npos;
}

const LiveNeed kDirective = {"the directive", 2, -1, true};

}  // namespace

TEST_CASE("a rank that did not report is the odd one out, and its last record is told") {
  const std::vector<LiveRecord> reports = {worker(0, kDirective), server(2, {"gradients", 1}),
                                           server(3, {"the directive", 2})};
  std::vector<LiveRecord> seen = reports;
  seen.push_back(worker(1, {}));
  seen.back().age_s = 41;
  std::ranges::sort(seen, {}, &LiveRecord::rank);
  CHECK(describe_hang(reports, seen) ==
        "all wait for rank 1, replica 1, stage 0, shard 0, on anna, which has written no record "
        "for 41 s: it was stopped, or its host is cut off; its last one says: train, step 12, "
        "computes");
  CHECK(has(describe_hang(reports, reports), "all wait for rank 1, which has never written"));
}

TEST_CASE("several ranks that did not report are named together") {
  const std::vector<LiveRecord> reports = {worker(0, kDirective)};
  CHECK(has(describe_hang(reports, {}), "ranks 1, 2 and 3 have written no record"));
  std::vector<LiveRecord> seen = {worker(0, {}), worker(1, {}), server(2, {}), server(3, {})};
  CHECK(has(describe_hang(reports, seen), "ranks 1, 2 and 3, on anna, have written no record"));
  seen[3].host = "berta";
  CHECK(has(describe_hang(reports, seen), "ranks 1, 2 and 3, on anna and berta, have written"));
}

TEST_CASE("if all reported, the chain of who waits for whom leads to the odd one") {
  LiveRecord saving = server(3, {"its own save", kNobody}, 41);
  saving.file_work = "a save";
  const std::vector<LiveRecord> reports = {worker(0, kDirective), worker(1, {"weights", 3, 17}),
                                           server(2, {"the save", 3}), saving};
  CHECK(describe_hang(reports, reports) ==
        "all wait for rank 3, server 1, on anna, which last moved 41 s ago: train, step 12, waits "
        "for its own save, in a save");
}

TEST_CASE("a server on a worker's rank is asked where the rank waits for itself") {
  std::vector<LiveRecord> reports;
  for (index_t rank = 0; rank < 4; ++rank) {
    reports.push_back(worker(rank, {"the directive", 0, -1, true}));
    reports.back().role += text(", server ", rank);
  }
  reports[0].server_need = {"gradients", 3};
  reports[3].need = {};  // it computes, or is blocked outside of any wait
  CHECK(has(describe_hang(reports, reports), "all wait for rank 3, replica 3"));
  CHECK(has(describe_hang(reports, reports), "computes"));
}

TEST_CASE("a worker and the server on its rank are no circle: each waits for its own thing") {
  std::vector<LiveRecord> reports;
  for (index_t rank = 0; rank < 2; ++rank) {
    reports.push_back(worker(rank, {"weights", 1 - rank, 17, true}));
    reports.back().ranks = 2;
    reports.back().role += text(", server ", rank);
    reports.back().file_work = "a save";
  }
  reports[0].server_need = {"its own save", kNobody};
  reports[1].server_need = {"the save", 0, -1, true};
  const std::string words = describe_hang(reports, reports);
  CHECK(has(words, "all wait for rank 0, replica 0"));
  CHECK(has(words, "waits for its own save, in a save"));
}

TEST_CASE("ranks that wait for each other in a circle are named with what each waits for") {
  const std::vector<LiveRecord> reports = {worker(0, kDirective), worker(1, kDirective),
                                           server(2, {"gradients", 1}),
                                           server(3, {"the directive", 2})};
  CHECK(describe_hang(reports, reports) ==
        "ranks 1 and 2 wait for each other: rank 1 waits for the directive (rank 2); rank 2 waits "
        "for gradients (rank 1)");
}

TEST_CASE("ranks of two hosts that wait for each other may have lost the link between them") {
  std::vector<LiveRecord> reports = {worker(0, kDirective), worker(1, kDirective),
                                     server(2, {"gradients", 1}), server(3, {"the directive", 2})};
  reports[2].host = "berta";
  CHECK(describe_hang(reports, reports)
            .ends_with("; they are on anna and berta: is a link between these hosts cut?"));
}

TEST_CASE("of ranks that wait for several, the one that has been still the longest is named") {
  std::vector<LiveRecord> reports;
  for (index_t rank = 0; rank < 4; ++rank) {
    reports.push_back(worker(rank, {"a sum over ranks", kSeveralRanks}, rank == 1 ? 45 : 40));
  }
  CHECK(has(describe_hang(reports, reports), "rank 1, replica 1"));
}

TEST_CASE("a job of one process is described, and one that left no report is not") {
  LiveRecord alone = worker(0, {"its own server", kNobody}, 300);
  alone.ranks = 1;
  alone.file_work = "a save";
  CHECK(describe_hang({alone}, {alone}) ==
        "the process on anna last moved 300 s ago: train, step 12, waits for its own server, in a "
        "save");
  CHECK(describe_hang({}, {alone}).empty());
}

}  // namespace weir::test::hang_test
