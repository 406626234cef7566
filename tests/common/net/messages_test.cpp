#include "common/net/messages.hpp"

#include <doctest/doctest.h>

#include <cstring>
#include <random>

#include "common/base/error.hpp"
#include "common/base/machine.hpp"

namespace weir {

namespace {

Directive some_directive() {
  Directive directive{.update = 1, .step = 2, .cursor = index_t{1} << 50};
  directive.replicas.contributors = {0, 3};
  directive.replicas.dropped = {2};
  directive.replicas.released = {{.replica = 2, .step = 9, .cursor = 90}, {.replica = 3}};
  directive.replicas.again = {40, 44};
  directive.observed.dropped_count = 12;
  directive.observed.staleness = 4;
  directive.observed.server_times = {{}, {7, 0.25}};
  directive.rule.factor = 0.1;
  directive.rule.rate = 1e-300;
  directive.observed.loss = -0.0;
  directive.observed.count = 7;
  directive.observed.norm = 3.5;
  directive.observed.threshold = 0.99;
  directive.observed.clipped = true;
  directive.rule.skip = SkipReason::not_finite;
  directive.observed.skipped_count = 5;
  directive.order.stop = true;
  directive.order.loss_scale = 0x1p-5;
  return directive;
}

Partials some_partials(std::size_t count) {
  Partials partials{.update = 9, .server = 3, .squares = {}, .time = {2.5, 0.5}};
  for (std::size_t i = 0; i < count; ++i) partials.squares.push_back(1.0 / double(i + 1));
  return partials;
}

SavePrepared some_part(std::size_t count) {
  SavePrepared part{.step = 7, .server = 2, .error = "disk full", .ranges = {}};
  for (std::size_t i = 0; i < count; ++i) {
    const auto at = static_cast<index_t>(i);
    part.ranges.push_back({at, at * 10, at * 10 + 9, 0xfedcba98});
  }
  return part;
}

/// The encoded count of `squares`, after cereal's byte for the order of bytes, two integers and the
/// time.
constexpr std::size_t kCountOffset = 1 + 8 + 8 + 16;

}  // namespace

TEST_CASE("messages come back as they were") {
  const auto report = from_bytes<Report>(to_bytes(Report{.step = 3,
                                                         .replica = 1,
                                                         .context = 2,
                                                         .loss_sum = 0.1 + 0.2,
                                                         .count = 4096,
                                                         .loss_scale = 0x1p17}));
  CHECK(report.step == 3);
  CHECK(report.replica == 1);
  CHECK(report.context == 2);
  CHECK(report.loss_sum == 0.1 + 0.2);
  CHECK(report.count == 4096);
  CHECK(report.loss_scale == 0x1p17);

  const auto arrival = from_bytes<Arrival>(to_bytes(Arrival{.server = 2, .replica = 5}));
  CHECK(arrival.server == 2);
  CHECK(arrival.replica == 5);
  const auto close = from_bytes<Close>(to_bytes(Close{.update = 8, .replicas = {1, 4}}));
  CHECK(close.update == 8);
  CHECK(close.replicas == std::vector<index_t>{1, 4});

  for (const std::size_t count : {0, 1, 1000}) {
    const auto partials = from_bytes<Partials>(to_bytes(some_partials(count)));
    CHECK(partials.update == 9);
    CHECK(partials.server == 3);
    CHECK(partials.squares == some_partials(count).squares);
    CHECK(partials.time.seconds == 2.5);
    CHECK(partials.time.busy_seconds == 0.5);
  }

  const auto directive = from_bytes<Directive>(to_bytes(some_directive()));
  CHECK(directive.update == 1);
  CHECK(directive.replicas.contributors == std::vector<index_t>{0, 3});
  CHECK(directive.replicas.dropped == std::vector<index_t>{2});
  REQUIRE(directive.replicas.released.size() == 2);
  CHECK(directive.replicas.released[0].replica == 2);
  CHECK(directive.replicas.released[0].step == 9);
  CHECK(directive.replicas.released[0].cursor == 90);
  CHECK(directive.replicas.released[1].replica == 3);
  CHECK(directive.replicas.again == std::vector<index_t>{40, 44});
  CHECK(directive.observed.dropped_count == 12);
  CHECK(directive.observed.staleness == 4);
  REQUIRE(directive.observed.server_times.size() == 2);
  CHECK(directive.observed.server_times[1].seconds == 7);
  CHECK(directive.observed.server_times[1].busy_seconds == 0.25);
  CHECK(directive.step == 2);
  CHECK(directive.cursor == index_t{1} << 50);
  CHECK(directive.rule.factor == 0.1);
  CHECK(directive.rule.rate == 1e-300);
  CHECK(std::signbit(directive.observed.loss));
  CHECK(directive.observed.count == 7);
  CHECK(directive.observed.norm == 3.5);
  CHECK(directive.observed.threshold == 0.99);
  CHECK(directive.observed.clipped);
  CHECK(directive.rule.skip == SkipReason::not_finite);
  CHECK(directive.observed.skipped_count == 5);
  CHECK(!directive.order.checkpoint);
  CHECK(directive.order.stop);
  CHECK(directive.order.loss_scale == 0x1p-5);

  const auto partials = from_bytes<DirectionPartials>(to_bytes(DirectionPartials{
      .update = 9, .server = 3, .weights = {1.5, 2.5}, .directions = {0.1, 1e-300}}));
  CHECK(partials.update == 9);
  CHECK(partials.server == 3);
  CHECK(partials.weights == std::vector<double>{1.5, 2.5});
  CHECK(partials.directions == std::vector<double>{0.1, 1e-300});
  const auto trust = from_bytes<TrustRatios>(to_bytes(TrustRatios{.update = 9, .ratios = {0.25}}));
  CHECK(trust.update == 9);
  CHECK(trust.ratios == std::vector<double>{0.25});

  const auto begin = from_bytes<SaveBegin>(to_bytes(SaveBegin{.step = 7, .offsets = {4096, 8192}}));
  CHECK(begin.step == 7);
  CHECK(begin.offsets == std::vector<index_t>{4096, 8192});
  const auto part = from_bytes<SavePrepared>(to_bytes(some_part(3)));
  CHECK(part.step == 7);
  CHECK(part.server == 2);
  CHECK(part.error == "disk full");
  REQUIRE(part.ranges.size() == 3);
  CHECK(part.ranges[2].record == 2);
  CHECK(part.ranges[2].begin == 20);
  CHECK(part.ranges[2].end == 29);
  CHECK(part.ranges[2].crc == 0xfedcba98);
  const auto end = from_bytes<SaveEnd>(to_bytes(SaveEnd{.step = 7, .error = ""}));
  CHECK(end.step == 7);
  CHECK(end.error.empty());
}

TEST_CASE("every kind of message comes back as itself, and only to the tier it is for") {
  const std::vector<Message> all = {Report(),    Partials(),          Directive(),   Finished(),
                                    SaveBegin(), SavePrepared(),      SaveEnd(),     Arrival(),
                                    Close(),     DirectionPartials(), TrustRatios(), Stop()};
  CHECK(all.size() == std::variant_size_v<Message>);
  for (const Message& message : all) {
    CAPTURE(message.index());
    const auto kind =
        std::visit([]<class Content>(const Content&) { return kKindOf<Content>; }, message);
    CHECK(from_bytes(kind, to_bytes(message)).index() == message.index());
  }
  int taken = 0;
  const auto take = [&](const auto&) { ++taken; };
  deliver<Tier::workers>(Directive(), take);
  deliver<Tier::servers>(Directive(), take);
  deliver<Tier::workers>(Finished(), take);
  deliver<Tier::servers>(Stop(), take);
  CHECK(taken == 4);
  CHECK_THROWS_WITH_AS(deliver<Tier::servers>(Finished(), take),
                       doctest::Contains("a server received a message for workers"), Error);
  CHECK_THROWS_WITH_AS(deliver<Tier::workers>(Report(), take),
                       doctest::Contains("a worker received a message for servers: a report"),
                       Error);
  for (const int number : {0, 13, 65535}) {
    CHECK_THROWS_WITH_AS(from_bytes(static_cast<MessageKind>(number), to_bytes(Report())),
                         doctest::Contains(text("the kind ", number, ", which is none").c_str()),
                         Error);
  }
}

TEST_CASE("the messages of a step fit into 4 KiB, which leave at once") {
  CHECK(to_bytes(Report{}).size() < 4000);
  CHECK(to_bytes(Directive{}).size() < 4000);
}

TEST_CASE("a made-up length is refused before anything is allocated") {
  const auto bytes = to_bytes(some_partials(2));
  const index_t before = peak_resident_bytes();
  for (const std::uint64_t count :
       {std::uint64_t{3}, std::uint64_t{1} << 28, std::uint64_t{1} << 40, std::uint64_t{1} << 61,
        (std::uint64_t{1} << 61) + 2, ~std::uint64_t{0}}) {
    CAPTURE(count);
    auto made_up = bytes;
    std::memcpy(made_up.data() + kCountOffset, &count, sizeof count);
    CHECK_THROWS_WITH_AS(
        from_bytes<Partials>(made_up),
        doctest::Contains(text("a count of ", count, " elements, but only 16").c_str()), Error);
  }
  CHECK(peak_resident_bytes() - before < 16 << 20);
}

TEST_CASE("bytes that are cut, left over or out of range are refused by name") {
  const auto bytes = to_bytes(some_directive());
  for (std::size_t length = 0; length < bytes.size(); ++length) {
    CAPTURE(length);
    CHECK_THROWS_WITH_AS(
        from_bytes<Directive>(std::span(bytes).first(length)),
        doctest::Contains(text("reading a directive of ", length, " bytes: ").c_str()), Error);
  }
  CHECK_THROWS_WITH_AS(from_bytes<Directive>(std::span(bytes).first(4)),
                       doctest::Contains("it ends too early"), Error);
  auto longer = bytes;
  longer.push_back(std::byte{0});
  CHECK_THROWS_WITH_AS(from_bytes<Directive>(longer), doctest::Contains("1 bytes are left over"),
                       Error);
  CHECK_THROWS_WITH_AS(from_bytes<Report>(bytes), doctest::Contains("left over"), Error);
  auto untrue = bytes;
  untrue.at(untrue.size() - 1) = std::byte{2};
  CHECK_THROWS_WITH_AS(from_bytes<Directive>(untrue), doctest::Contains("2 is not a truth value"),
                       Error);
}

TEST_CASE("no mutated message does worse than an Error") {
  const unsigned seed = std::random_device()();
  CAPTURE(seed);
  std::mt19937 random(seed);
  const auto partials = to_bytes(some_partials(20));
  const auto directive = to_bytes(some_directive());
  const auto part = to_bytes(some_part(10));
  int refused = 0;
  for (int round = 0; round < 50000; ++round) {
    auto bytes = round % 3 == 0 ? partials : round % 3 == 1 ? directive : part;
    for (auto changes = 1 + random() % 4; changes > 0; --changes) {
      bytes[random() % bytes.size()] = std::byte(random() % 256);
    }
    if (random() % 4 == 0) bytes.resize(random() % (bytes.size() + 8));
    try {
      if (round % 3 == 0) {
        const auto message = from_bytes<Partials>(bytes);
        CHECK(message.squares.size() <= std::ssize(bytes) / index_t{sizeof(double)});
      } else if (round % 3 == 1) {
        const auto message = from_bytes<Directive>(bytes);
        CHECK(message.rule.skip <= SkipReason::overflow);
      } else {
        const auto message = from_bytes<SavePrepared>(bytes);
        CHECK(message.ranges.size() <= bytes.size() / sizeof(SavedRange));
      }
    } catch (const Error&) {
      ++refused;
    }
  }
  CHECK(refused > 4000);
}

}  // namespace weir
