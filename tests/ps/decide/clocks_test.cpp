#include "ps/decide/clocks.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <random>

#include "common/base/error.hpp"

using namespace weir;
using namespace weir::ps;

namespace {

constexpr index_t kStep = 40;  ///< replicas meet there and at its multiples

/// Replicas of random speed around Clocks, in a made-up time; what a user may rely on is checked
/// here, from outside: steps are counted by the replicas themselves.
struct Race {
  Race(const ConsistencyConfig& config, index_t replicas, unsigned seed)
      : config(config),
        clocks(config, replicas, [](index_t step) { return step % kStep == 0; }),
        random(seed),
        done(replicas, 0),
        finish_at(done.size()),
        working(done.size(), true),
        speed(done.size()) {
    clocks.begin(0, 0);
    std::uniform_real_distribution<double> draw(0.2, 5);
    for (double& each : speed) each = draw(random);
    for (std::size_t replica = 0; replica < done.size(); ++replica) begin_step(replica);
  }

  void begin_step(std::size_t replica) {
    working[replica] = true;
    std::exponential_distribution<double> draw(speed[replica]);
    finish_at[replica] = now + draw(random);
  }

  index_t slowest() const { return std::ranges::min(done); }

  /// The next replica that computes comes to its end; then all that follows from it.
  void advance() {
    double next = 1e300;
    std::size_t who = done.size();
    for (std::size_t replica = 0; replica < done.size(); ++replica) {
      if (working[replica] && finish_at[replica] < next) {
        next = finish_at[replica];
        who = replica;
      }
    }
    // With a grace the time may be up before anybody comes.
    now = who == done.size() ? now + 0.01 : std::min(next, now + 0.05);
    if (who < done.size() && now >= next) {
      working[who] = false;
      clocks.arrived(who, now);
    }
    settle();
  }

  void settle() {
    while (const auto decision = clocks.next(now)) {
      decisions.push_back(*decision);
      REQUIRE(std::ranges::is_sorted(decision->replicas));
      if (decision->kind == Decision::Kind::close) {
        ++updates;
        if (config.mode == Consistency::bsp) ++open_step;
      } else {
        dropped += std::ssize(decision->replicas);
      }
      for (index_t at : decision->replicas) {
        REQUIRE(!working[at]);
        if (config.mode != Consistency::bsp) ++done[at];
      }
      const std::vector<index_t> released = clocks.release(now);
      for (index_t replica : released) {
        if (config.mode == Consistency::bsp) done[replica] = open_step - 1;
      }
      for (index_t at : released) {
        REQUIRE(!working[at]);
        CHECK(clocks.step(at) == done[at]);
        const bool meets = done[at] % kStep == 0;
        if (meets) CHECK(std::ranges::all_of(done, [&](index_t d) { return d == done[at]; }));
        if (config.mode == Consistency::ssp) CHECK(done[at] - slowest() <= config.staleness);
        begin_step(at);
      }
      // Nobody waits who need not.
      for (std::size_t at = 0; at < done.size(); ++at) {
        if (working[at] || config.mode != Consistency::asp) continue;
        const bool to_meet = done[at] % kStep == 0;
        const bool has_arrived_only = clocks.step(at) == done[at];
        CHECK((to_meet || has_arrived_only));
      }
    }
  }

  ConsistencyConfig config;
  Clocks clocks;
  std::mt19937 random;
  double now = 1;
  std::vector<index_t> done;  ///< steps
  std::vector<double> finish_at;
  std::vector<bool> working;
  std::vector<double> speed;
  index_t updates = 0;
  index_t open_step = 1;
  index_t dropped = 0;
  std::vector<Decision> decisions;
};

}  // namespace

TEST_CASE("ssp: nobody begins a step farther ahead of the slowest than the bound, and all go on") {
  const unsigned seed = std::random_device()();
  CAPTURE(seed);
  std::mt19937 random(seed);
  for (index_t replicas = 2; replicas <= 8; ++replicas) {
    for (index_t staleness : {0, 1, 3, 10}) {
      CAPTURE(replicas);
      CAPTURE(staleness);
      Race race({.mode = Consistency::ssp, .staleness = staleness}, replicas,
                static_cast<unsigned>(random()));
      for (int look = 0; race.slowest() < 300; ++look) {
        REQUIRE(look < 1'000'000);
        race.advance();
      }
      CHECK(race.updates >= 300 * replicas);
      CHECK(race.dropped == 0);
    }
  }
}

TEST_CASE("asp: whoever has pushed goes on at once, but where all meet") {
  const unsigned seed = std::random_device()();
  CAPTURE(seed);
  Race race({.mode = Consistency::asp}, 5, seed);
  index_t farthest = 0;
  for (int look = 0; race.slowest() < 1000; ++look) {
    REQUIRE(look < 1'000'000);
    race.advance();
    for (std::size_t at = 0; at < race.done.size(); ++at) {
      const bool waits = !race.working[at];
      if (waits) CHECK(race.done[at] % kStep == 0);
      farthest = std::max(farthest, race.done[at] - race.slowest());
    }
  }
  CHECK(farthest > 2);  // they do drift apart
}

TEST_CASE("bsp with backups never stands still") {
  const unsigned seed = std::random_device()();
  CAPTURE(seed);
  std::mt19937 random(seed);
  index_t dropped = 0;
  for (index_t replicas = 2; replicas <= 8; ++replicas) {
    for (index_t backup = 1; backup < replicas; ++backup) {
      CAPTURE(replicas);
      CAPTURE(backup);
      Race race({.mode = Consistency::bsp, .backup = backup, .grace = 0.2}, replicas,
                static_cast<unsigned>(random()));
      for (int look = 0; race.open_step <= 200; ++look) {
        REQUIRE(look < 1'000'000);
        race.advance();
      }
      for (const Decision& decision : race.decisions) {
        if (decision.kind == Decision::Kind::drop) continue;
        CHECK(std::ssize(decision.replicas) >= replicas - backup);
      }
      dropped += race.dropped;
    }
  }
  CHECK(dropped > 0);
}

TEST_CASE("a grace over before the last one comes closes the step, one that is not waits for it") {
  const auto closes_with = [](double late_by) {
    Clocks clocks({.mode = Consistency::bsp, .backup = 1, .grace = 0.5}, 3,
                  [](index_t) { return false; });
    clocks.begin(0, 0);
    double now = 100;
    const auto step = [&](double last) {
      clocks.arrived(0, now);
      clocks.arrived(2, now);
      CHECK((clocks.next(now).has_value() == false));
      now += last;
      std::optional<Decision> decision = clocks.next(now);
      if (!decision) {
        clocks.arrived(1, now);
        decision = clocks.next(now);
      }
      clocks.release(now);
      return decision.value().replicas;
    };
    // Two steps of 2 s: the first is never closed early, the second gives the median.
    CHECK(step(0) == std::vector<index_t>{0, 1, 2});
    now += 2;
    CHECK(step(0) == std::vector<index_t>{0, 1, 2});
    now += 2;
    return step(late_by);
  };
  CHECK(closes_with(0.9) == std::vector<index_t>{0, 1, 2});
  CHECK(closes_with(1.1) == std::vector<index_t>{0, 2});
}

TEST_CASE("a late one is not waited for, and joins where it comes in time") {
  Clocks clocks({.mode = Consistency::bsp, .backup = 1, .grace = 0.25}, 3,
                [](index_t) { return false; });
  clocks.begin(0, 0);
  using Released = std::vector<index_t>;
  const auto close = [&](const std::vector<index_t>& arriving, double now) {
    for (index_t replica : arriving) clocks.arrived(replica, now);
    const std::optional<Decision> decision = clocks.next(now);
    REQUIRE(decision);
    CHECK(decision->kind == Decision::Kind::close);
    if (!arriving.empty()) CHECK(decision->replicas == arriving);
    return clocks.release(now);
  };
  close({0, 1, 2}, 100);
  close({0, 1, 2}, 104);  // a step takes 4 s, the grace is 1 s

  // Replica 1 is in this step, so the grace counts.
  clocks.arrived(0, 108);
  clocks.arrived(2, 108);
  CHECK_FALSE(clocks.next(108.9));
  CHECK(close({}, 109.1) == Released{0, 2});
  // It is still in the step before: no grace.
  CHECK(close({0, 2}, 113) == Released{0, 2});
  // It comes in the middle of a step that it could not finish with the others: it waits for them.
  clocks.arrived(1, 115);
  CHECK_FALSE(clocks.next(115));
  CHECK(clocks.release(115).empty());
  CHECK(close({0, 2}, 117) == Released{0, 2});
  const std::optional<Decision> dropped = clocks.next(119);  // the server was busy meanwhile
  REQUIRE(dropped);
  CHECK(*dropped == Decision{Decision::Kind::drop, {1}});
  CHECK(clocks.release(119) == Released{1});
  CHECK(clocks.step(1) == clocks.step(0));
  CHECK(close({0, 1, 2}, 121) == Released{0, 1, 2});

  // This time it comes soon after the step has begun, and joins it at once.
  clocks.arrived(0, 125);
  clocks.arrived(2, 125);
  CHECK(close({}, 126.5) == Released{0, 2});
  clocks.arrived(1, 127);
  CHECK(clocks.next(127) == Decision{Decision::Kind::drop, {1}});
  CHECK(clocks.release(127) == Released{1});
  CHECK(close({0, 1, 2}, 130) == Released{0, 1, 2});
}

TEST_CASE("decisions followed again are the same, whatever the speeds now") {
  const unsigned seed = std::random_device()();
  CAPTURE(seed);
  const std::vector<ConsistencyConfig> modes = {{.mode = Consistency::ssp, .staleness = 2},
                                                {.mode = Consistency::asp},
                                                {.mode = Consistency::bsp, .backup = 2}};
  for (const ConsistencyConfig& mode : modes) {
    Race first(mode, 5, seed);
    while (first.decisions.size() < 1000) first.advance();
    Race second(mode, 5, seed + 1);
    second.clocks.follow({first.decisions.begin(), first.decisions.begin() + 1000});
    for (int look = 0; second.decisions.size() < 1000; ++look) {
      REQUIRE(look < 1'000'000);
      second.advance();
    }
    for (std::size_t at = 0; at < 1000; ++at) {
      REQUIRE(first.decisions[at] == second.decisions[at]);
    }
  }
}

TEST_CASE("a log of more backups, followed to its end, leaves nobody waiting for a step in vain") {
  Clocks clocks({.mode = Consistency::bsp, .backup = 1}, 4, [](index_t) { return false; });
  clocks.begin(0, 0);
  const Decision all = {Decision::Kind::close, {0, 1, 2, 3}};
  clocks.follow({all, all, {Decision::Kind::close, {0, 1}}});
  for (const double now : {100, 104}) {
    for (index_t replica = 0; replica < 4; ++replica) clocks.arrived(replica, now);
    CHECK(clocks.next(now) == all);
    clocks.release(now);
  }
  clocks.arrived(0, 108);
  clocks.arrived(1, 108);
  CHECK(clocks.next(108));
  clocks.release(108);
  // From here on three are needed, and only two are on the way.
  clocks.arrived(0, 112);
  clocks.arrived(1, 112);
  clocks.arrived(2, 112);
  CHECK(clocks.next(112) == Decision{Decision::Kind::drop, {2}});
}

TEST_CASE("decisions that cannot be repeated are an error that says why") {
  Clocks clocks({.mode = Consistency::asp}, 2, [](index_t) { return false; });
  clocks.begin(0, 0);
  clocks.follow({{Decision::Kind::close, {2}}});
  CHECK_THROWS_WITH_AS(clocks.next(0), doctest::Contains("name replica 2, there are 2"), Error);
  clocks.follow({{Decision::Kind::drop, {1}}});
  CHECK_THROWS_WITH_AS(clocks.next(0), doctest::Contains("of a run with the same settings"), Error);
}

TEST_CASE("settings that do not go together are refused") {
  CHECK_NOTHROW(check({.mode = Consistency::bsp, .backup = 3}, 4));
  CHECK_THROWS_WITH_AS(check({.mode = Consistency::bsp, .backup = 4}, 4),
                       doctest::Contains("take at most 3"), UsageError);
  CHECK_THROWS_WITH_AS(check({.mode = Consistency::asp, .backup = 1}, 4),
                       doctest::Contains("only --consistency bsp"), UsageError);
}
