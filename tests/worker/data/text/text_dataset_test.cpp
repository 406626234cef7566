#include "worker/data/text/text_dataset.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <set>
#include <vector>

#include "common/base/error.hpp"
#include "tests/worker/data/scratch.hpp"

using namespace weir;
using namespace weir::worker;

namespace {

/// A dataset over a text in which every window of eight bytes or more tells where it is from.
struct Text {
  Text(std::size_t size, index_t length, index_t held_out, index_t stride, std::uint64_t seed = 1)
      : bytes(random_text(size, 11)),
        dataset(Corpus({scratch.write("text", bytes)}), length, held_out, stride, seed),
        tokens(length, -9),
        targets(length, -9),
        sample{.columns = {{"tokens", tokens}, {"targets", targets}}} {}

  index_t byte(index_t at) const { return static_cast<std::uint8_t>(bytes.at(at)); }

  /// Where the sample's tokens stand in the text.
  index_t offset() const {
    const std::string window(tokens.begin(), tokens.end());
    const auto found = bytes.find(window);
    REQUIRE(found != std::string::npos);
    return static_cast<index_t>(found);
  }

  Scratch scratch;
  std::string bytes;
  TextDataset dataset;
  std::vector<std::int32_t> tokens;
  std::vector<std::int32_t> targets;
  Sample sample;
};

/// The offsets of an epoch's windows in the order of the epoch.
std::vector<index_t> epoch_offsets(Text& text, index_t epoch) {
  std::vector<index_t> offsets;
  const index_t count = text.dataset.epoch_size();
  for (index_t i = 0; i < count; ++i) {
    text.dataset.training_sample(epoch * count + i, text.sample);
    offsets.push_back(text.offset());
  }
  return offsets;
}

}  // namespace

TEST_CASE(
    "an epoch's training windows are side by side, each once, and end before the held-out text") {
  struct Case {
    std::size_t size;
    index_t length, held_out, windows;
  };
  for (const Case& c : {Case{1'000, 8, 100, 111}, Case{1'001, 16, 90, 55}, Case{1'000, 100, 77, 8},
                        Case{120, 100, 12, 1}, Case{112, 100, 11, 1}, Case{400, 100, 40, 2}}) {
    CAPTURE(c.size);
    CAPTURE(c.length);
    Text text(c.size, c.length, c.held_out, 0);
    const auto training = static_cast<index_t>(c.size) - c.held_out;
    CHECK(text.dataset.epoch_size() == c.windows);
    for (index_t epoch = 0; epoch < 5; ++epoch) {
      auto offsets = epoch_offsets(text, epoch);
      std::sort(offsets.begin(), offsets.end());
      for (std::size_t i = 1; i < offsets.size(); ++i) {
        CHECK(offsets[i] == offsets[i - 1] + c.length);
      }
      CHECK(offsets.front() >= 0);
      // The target of the last token is the last byte a training sample may know.
      CHECK(offsets.back() + c.length <= training - 1);
    }
  }
}

TEST_CASE("each target of a training window is the byte after its token") {
  Text text(1'000, 64, 100, 0);
  for (index_t cursor = 0; cursor < 40; ++cursor) {
    text.dataset.training_sample(cursor, text.sample);
    const index_t offset = text.offset();
    for (std::size_t i = 0; i < 64; ++i) {
      CHECK(text.tokens[i] == text.byte(offset + static_cast<index_t>(i)));
      CHECK(text.targets[i] == text.byte(offset + static_cast<index_t>(i) + 1));
    }
    CHECK(text.sample.length == 64);
  }
}

TEST_CASE(
    "epochs and seeds differ in order and cuts, and in time every training byte is a target") {
  Text text(500, 16, 50, 0);
  Text other(500, 16, 50, 0, 2);
  std::set<index_t> seen;
  std::set<std::vector<index_t>> orders;
  for (index_t epoch = 0; epoch < 300; ++epoch) {
    const auto offsets = epoch_offsets(text, epoch);
    orders.insert(offsets);
    for (const index_t offset : offsets) {
      for (index_t i = 1; i <= 16; ++i) seen.insert(offset + i);
    }
  }
  CHECK(orders.size() == 300);
  CHECK(seen.size() == 449);  // all of 450 but the first byte, which nothing comes before
  CHECK(epoch_offsets(text, 0) != epoch_offsets(other, 0));
  CHECK(epoch_offsets(text, 7) == epoch_offsets(text, 7));
}

TEST_CASE("every held-out byte is scored exactly once, from the text before it, at any stride") {
  struct Case {
    index_t length, held_out, stride;
    index_t windows;
  };
  // Windows: 1 + ceil((held_out - length) / stride), by hand.
  for (const Case& c : {Case{16, 100, 8, 12}, Case{16, 100, 16, 7}, Case{16, 100, 5, 18},
                        Case{16, 100, 1, 85}, Case{16, 100, 0, 12}, Case{64, 64, 32, 1},
                        Case{64, 65, 32, 2}, Case{64, 20, 32, 1}, Case{9, 100, 4, 24}}) {
    CAPTURE(c.length);
    CAPTURE(c.held_out);
    CAPTURE(c.stride);
    Text text(1'000, c.length, c.held_out, c.stride);
    const index_t training = 1'000 - c.held_out;
    CHECK(text.dataset.validation_size() == c.windows);
    std::vector<int> scored(1'000, 0);
    for (index_t index = 0; index < text.dataset.validation_size(); ++index) {
      text.dataset.validation_sample(index, text.sample);
      const index_t offset = text.offset();
      CHECK(text.sample.length == c.length);
      for (index_t i = 0; i < c.length; ++i) {
        const index_t target = text.targets[i];
        if (target == -1) continue;
        CHECK(target == text.byte(offset + i + 1));
        ++scored[offset + i + 1];
        // Context: all but `stride` of the window, for any byte after the first window's.
        const index_t stride = c.stride == 0 ? c.length / 2 : c.stride;
        if (index > 0) CHECK(i >= c.length - stride);
      }
    }
    for (index_t at = 0; at < 1'000; ++at) {
      CHECK(scored[at] == (at >= training ? 1 : 0));
    }
  }
}

TEST_CASE(
    "every byte but the first of a validation text is scored exactly once, and none trained") {
  const Scratch scratch;
  const std::string training = random_text(1'000, 11), scored = random_text(203, 12);
  for (const index_t stride : {1, 5, 8, 16}) {
    CAPTURE(stride);
    const TextDataset dataset(Corpus({scratch.write("t", training)}), 16, 100, stride, 1,
                              Corpus({scratch.write("v", scored)}));
    CHECK(dataset.epoch_size() == 999 / 16 - 1);  // of all bytes
    std::vector<std::int32_t> tokens(16, -9), targets(16, -9);
    Sample sample{.columns = {{"tokens", tokens}, {"targets", targets}}};
    std::vector<int> count(203, 0);
    for (index_t index = 0; index < dataset.validation_size(); ++index) {
      dataset.validation_sample(index, sample);
      const auto at = scored.find(std::string(tokens.begin(), tokens.end()));
      REQUIRE(at != std::string::npos);
      for (std::size_t i = 0; i < 16; ++i) {
        if (targets[i] == -1) continue;
        CHECK(targets[i] == static_cast<std::uint8_t>(scored[at + i + 1]));
        ++count[at + i + 1];
      }
    }
    CHECK(count[0] == 0);
    CHECK(std::ranges::count(count, 1) == 202);
  }
}

TEST_CASE("the held-out end is at most a tenth of a small text") {
  Text text(1'000, 10, 262'144, 10);
  CHECK(text.dataset.validation_size() == 10);
  text.dataset.validation_sample(0, text.sample);
  CHECK(text.offset() == 899);
}

TEST_CASE("a text that is too short, or a stride too long, is an error that shows the numbers") {
  const auto error = [](std::size_t size, index_t length, index_t held_out, index_t stride) {
    return message_of<UsageError>([&] { Text(size, length, held_out, stride); });
  };
  CHECK(error(112, 100, 11, 0) == "");
  const std::string message = error(111, 100, 11, 0);
  INFO(message);
  for (const char* part :
       {"text", "111 bytes", "11 held out", "100 are left", "needs 101", "data.files", "length"}) {
    CHECK(contains(message, part));
  }
  CHECK(contains(error(9, 1, 5, 0), "0 held out"));
  const Scratch scratch;
  const auto validated = [&](std::size_t trained, std::size_t scored) {
    return message_of<UsageError>([&] {
      TextDataset(Corpus({scratch.write("t", random_text(trained, 1))}), 100, 50, 0, 1,
                  Corpus({scratch.write("v", random_text(scored, 2))}));
    });
  };
  CHECK(validated(101, 101) == "");
  CHECK(contains(validated(100, 101), "the text (t) has 100 bytes, and a window of length 100"));
  CHECK(contains(validated(101, 100), "the text to validate on (v) has 100 bytes"));
  CHECK(contains(error(1'000, 16, 100, 17), "data.stride is 17"));
}
