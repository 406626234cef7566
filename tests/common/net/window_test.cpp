#include "common/net/window.hpp"

#include <algorithm>
#include <cstdint>
#include <random>
#include <string>

#include "common/base/machine.hpp"
#include "common/base/wait.hpp"
#include "common/net/agree.hpp"
#include "tests/common/net/made_up_frames.hpp"
#include "tests/common/net/random_delay.hpp"
#include "tests/mpi_test.hpp"

namespace weir {
namespace {

using test::fill;
using test::random_delay;
using test::wrong_values;
std::span<float> floats_of(std::span<std::byte> part, index_t offset, index_t count) {
  return {reinterpret_cast<float*>(part.data() + offset), static_cast<std::size_t>(count)};
}

WindowLine& line_of(std::span<std::byte> part) {
  return *reinterpret_cast<WindowLine*>(part.data());
}

constexpr index_t kFloatsBegin = 4096;

/// Frames without gaps, from kFloatsBegin of a part.
std::vector<std::span<float>> frames_in(std::span<std::byte> part,
                                        const std::vector<index_t>& sizes) {
  std::vector<std::span<float>> frames;
  index_t offset = kFloatsBegin;
  for (const index_t size : sizes) {
    frames.push_back(floats_of(part, offset, size));
    offset += size * 4;
  }
  return frames;
}

std::vector<std::span<const float>> read_only(const std::vector<std::span<float>>& frames) {
  return {frames.begin(), frames.end()};
}

}  // namespace

MPI_TEST_CASE("each rank's part begins at a page, is zero, and is seen by all", 8) {
  const Comm host = ranks.comm.host();
  REQUIRE(host.size() == 8);  // mpirun has started all of them here
  const auto bytes_of = [](int rank) { return index_t{rank} * 5000; };  // the first has none
  const SharedWindow window(host, bytes_of(host.rank()));
  for (int rank = 0; rank < host.size(); ++rank) {
    const std::span<std::byte> part = window.part(rank);
    CHECK(std::ssize(part) == bytes_of(rank));
    CHECK(reinterpret_cast<std::uintptr_t>(part.data()) % 4096 == 0);
    CHECK(std::ranges::all_of(part, [](std::byte each) { return each == std::byte{0}; }));
  }
  host.barrier();
  std::ranges::fill(window.part(host.rank()), std::byte(1 + host.rank()));
  host.barrier();
  for (int rank = 0; rank < host.size(); ++rank) {
    CHECK(std::ranges::all_of(window.part(rank),
                              [&](std::byte each) { return each == std::byte(1 + rank); }));
  }
  host.barrier();
}

MPI_TEST_CASE("a window that does not fit ends all ranks with one message, before its first touch",
              3) {
  const index_t bytes = ranks.rank == 1 ? index_t{1} << 50 : 100;
  CHECK_THROWS_WITH_AS(SharedWindow(ranks.comm, bytes),
                       doctest::Contains("a window of 1073741824 MiB for the ranks of this host"),
                       AgreedError);
}

MPI_TEST_CASE("frames in a window arrive whole and in order, and are written only when opened", 4) {
  const auto seed =
      static_cast<unsigned>(std::stoul(ranks.comm.broadcast(text(std::random_device()()), 0)));
  CAPTURE(seed);
  std::mt19937 common_random(seed), random(seed + 1 + static_cast<unsigned>(ranks.rank));
  std::vector<index_t> sizes;
  for (auto frames = 1 + common_random() % 12; frames > 0; --frames) {
    const std::vector<index_t> kinds = {0, 1, index_t(common_random() % 3000),
                                        index_t(common_random() % 100000)};
    sizes.push_back(kinds[common_random() % 4]);
  }
  index_t bytes = kFloatsBegin;
  for (const index_t size : sizes) bytes += size * 4;
  const auto frame_count = std::ssize(sizes);
  constexpr index_t kRounds = 30;
  // Two pairs at once: 0 sends to 1, and 2 to 3.
  const SharedWindow window(ranks.comm, ranks.rank % 2 == 0 ? bytes : 0);
  const std::span<std::byte> part = window.part(ranks.rank / 2 * 2);
  const std::vector<std::span<float>> frames = frames_in(part, sizes);
  if (ranks.rank % 2 == 0) {
    WindowSender sender(line_of(part), frames_of(read_only(frames)),
                        std::vector<std::span<std::byte>>(frames.size()));
    for (index_t round = 0; round < kRounds; ++round) {
      wait_until([&] { return !sender.read_by_peer(); });
      for (index_t frame = 0; frame < frame_count; ++frame) {
        fill(frames[frame], round, frame);
        random_delay(random);
        sender.offer(frame);
        CHECK(sender.idle());
      }
    }
  } else {
    WindowReceiver receiver(line_of(part), frame_count);
    receiver.open_round();
    index_t arrived = 0, wrong = 0;
    std::vector<index_t> to_open;
    while (arrived < kRounds * frame_count) {
      for (const index_t frame : receiver.progress()) {
        wrong += frame != arrived % frame_count;
        const index_t round = arrived / frame_count;
        random_delay(random);
        wrong += wrong_values(frames[frame], round, frame);
        to_open.push_back(frame);
        ++arrived;
      }
      if (std::ssize(to_open) < frame_count) continue;
      // One by one in any order, or all at once: all were still as they had been offered.
      for (const index_t frame : to_open) {
        wrong += wrong_values(frames[frame], arrived / frame_count - 1, frame);
      }
      std::ranges::shuffle(to_open, random);
      if (random() % 2 == 0) {
        receiver.open_round();
      } else {
        for (const index_t frame : to_open) receiver.open(frame);
      }
      to_open.clear();
    }
    CHECK(wrong == 0);
  }
  ranks.comm.barrier();
}

MPI_TEST_CASE("a frame that was not opened does not arrive, and holds its sender back", 2) {
  const SharedWindow window(ranks.comm, ranks.rank == 0 ? 8192 : 0);
  const std::span<std::byte> part = window.part(0);
  const std::vector<std::span<float>> frames = frames_in(part, {3, 5});
  if (ranks.rank == 0) {
    WindowSender sender(line_of(part), frames_of(read_only(frames)), {{}, {}});
    CHECK(sender.read_by_peer());  // it begins closed
    sender.offer(0);
    sender.offer(1);
    ranks.comm.barrier();
    ranks.comm.barrier();  // both are opened once
    CHECK(sender.read_by_peer());
    ranks.comm.barrier();
    ranks.comm.barrier();  // the second is opened again
    CHECK(sender.read_by_peer());
    ranks.comm.barrier();
    ranks.comm.barrier();  // and the first
    CHECK_FALSE(sender.read_by_peer());
  } else {
    WindowReceiver receiver(line_of(part), 2);
    ranks.comm.barrier();
    CHECK(receiver.progress().empty());
    receiver.open(1);
    CHECK(receiver.progress().empty());  // the first comes first
    receiver.open(0);
    ranks.comm.barrier();
    CHECK(std::ranges::equal(receiver.progress(), std::vector<index_t>{0, 1}));
    CHECK(receiver.progress().empty());
    ranks.comm.barrier();
    receiver.open(1);
    ranks.comm.barrier();
    ranks.comm.barrier();
    receiver.open(0);
    ranks.comm.barrier();
  }
  ranks.comm.barrier();
}

MPI_TEST_CASE("a frame with another place in the window is copied there when it is offered", 2) {
  const SharedWindow window(ranks.comm, ranks.rank == 1 ? 8192 : 0);
  const std::span<std::byte> part = window.part(1);
  const std::vector<std::span<float>> places = frames_in(part, {3, 5});
  if (ranks.rank == 0) {
    std::vector<float> first(3), second(5);
    // The second is copied by somebody else.
    WindowSender sender(line_of(part),
                        {std::as_bytes(std::span(first)), std::as_bytes(std::span(second))},
                        {std::as_writable_bytes(places[0]), {}});
    fill(first, 7, 0);
    fill(second, 7, 1);
    sender.offer(0);
    sender.offer(1);
  } else {
    WindowReceiver receiver(line_of(part), 2);
    receiver.open_round();
    std::size_t arrived = 0;
    wait_until([&] { return arrived == 2; }, [&] { arrived += receiver.progress().size(); });
    CHECK(wrong_values(places[0], 7, 0) == 0);
    CHECK(std::ranges::all_of(places[1], [](float value) { return value == 0; }));
  }
  ranks.comm.barrier();
}

}  // namespace weir
