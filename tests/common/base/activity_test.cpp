#include "common/base/activity.hpp"

#include <doctest/doctest.h>

#include <optional>
#include <string>
#include <thread>

#include "common/base/machine.hpp"
#include "common/base/wait.hpp"

namespace weir {

TEST_CASE("a wait says what it waits for, and then what was waited for before it holds again") {
  CHECK(activity_now().need.what == nullptr);
  {
    const Waiting outer({"weights", 3, 17});
    {
      const Waiting inner("all ranks");
      CHECK(activity_now().need.what == std::string("all ranks"));
      CHECK(activity_now().need.peer == kSeveralRanks);
      CHECK(activity_now().need.bucket == -1);
    }
    CHECK(activity_now().need.what == std::string("weights"));
    CHECK(activity_now().need.peer == 3);
    CHECK(activity_now().need.bucket == 17);
  }
  CHECK(activity_now().need.what == nullptr);
}

TEST_CASE("what arrives in a wait counts as a move, and looking in vain does not") {
  std::uint64_t before = activity_now().moves;
  int looks = 0;
  wait_until([&] { return ++looks == 10; }, [] { return false; });
  CHECK(activity_now().moves == before);
  wait_until([&] { return ++looks == 20; }, [] { return true; });
  CHECK(activity_now().moves > before);
  before = activity_now().moves;
  { const Waiting waiting("a frame", 1); }
  CHECK(activity_now().moves > before);
}

TEST_CASE("work with files shows until the last of it has ended, in whatever order threads end") {
  std::optional<FileWork> save;
  save.emplace("a save");
  std::optional<FileWork> sync;
  std::thread([&] { sync.emplace("an fsync"); }).join();
  CHECK(activity_now().file_work == std::string("an fsync"));
  save.reset();
  CHECK(activity_now().file_work != nullptr);
  sync.reset();
  CHECK(activity_now().file_work == nullptr);
}

TEST_CASE("what a hidden thread does counts as nothing") {
  const std::uint64_t before = activity_now().moves;
  std::thread([] {
    hide_activity_of_this_thread();
    const FileWork work("a write");
    note_move();
    CHECK(activity_now().file_work == nullptr);
  }).join();
  CHECK(activity_now().moves == before);
}

TEST_CASE("the clock of a thread runs while it computes, and stands still while it sleeps") {
  const ThreadClock clock;
  double before_s = clock.seconds();
  sleep_microseconds(50'000);
  CHECK(clock.seconds() - before_s < 0.02);
  before_s = clock.seconds();
  double seen_s = 0;
  std::thread([&] {  // another thread reads it
    sleep_microseconds(1000);
    seen_s = clock.seconds();
  })
      .join();
  CHECK(seen_s >= before_s);
  for (volatile int turn = 0; turn < 2'000'000;) turn = turn + 1;
  CHECK(clock.seconds() > before_s);
}

}  // namespace weir
