#include "common/net/channel.hpp"

#include <algorithm>
#include <memory>
#include <random>
#include <string>
#include <utility>

#include "common/base/error.hpp"
#include "common/base/machine.hpp"
#include "common/base/wait.hpp"
#include "common/number/memory.hpp"
#include "tests/common/net/made_up_frames.hpp"
#include "tests/common/net/random_delay.hpp"
#include "tests/mpi_test.hpp"

namespace weir {

namespace {

using test::fill;
using test::random_delay;
using test::wrong_values;
using Sizes = std::vector<index_t>;

/// Frames one after the other in one buffer, with a guard float behind each.
struct Frames {
  explicit Frames(const Sizes& sizes) {
    index_t total = 0;
    for (const index_t size : sizes) total += size + 1;
    memory = Buffer(total);
    index_t offset = 0;
    for (const index_t size : sizes) {
      spans.push_back(memory.span().subspan(std::size_t(offset), std::size_t(size)));
      offset += size + 1;
    }
  }
  std::vector<std::span<const std::byte>> read_only() const {
    return frames_of(std::vector<std::span<const float>>(spans.begin(), spans.end()));
  }
  Buffer memory;
  std::vector<std::span<float>> spans;
};

/// Rank 0 sends `rounds` rounds to rank 1; both dawdle at random.
void send_rounds(const test::Ranks& ranks, const Sizes& sizes, int depth, index_t rounds,
                 unsigned seed) {
  std::mt19937 random(seed + static_cast<unsigned>(ranks.rank));
  const index_t frame_count = std::ssize(sizes);
  Frames frames(sizes);
  if (ranks.rank == 0) {
    SendChannel channel(ranks.comm, 1, ChannelKind::push, frames.read_only(), depth);
    for (index_t round = 0; round < rounds; ++round) {
      for (index_t frame = 0; frame < frame_count; ++frame) {
        wait_until([&] { return channel.sent(frame); }, [&] { return channel.progress(); });
        fill(frames.spans[std::size_t(frame)], round, frame);
        random_delay(random);
        channel.offer(frame);
      }
    }
    wait_until([&] { return channel.idle(); }, [&] { return channel.progress(); });
  } else {
    ReceiveChannel channel(ranks.comm, 0, ChannelKind::push, frames_of(frames.spans), depth);
    channel.open_round();
    Sizes rounds_of(sizes.size(), 0);
    index_t arrived = 0, wrong = 0;
    while (arrived < rounds * frame_count) {
      for (const index_t frame : channel.progress()) {
        index_t& round = rounds_of[std::size_t(frame)];
        wrong += wrong_values(frames.spans[std::size_t(frame)], round, frame);
        random_delay(random);
        // Nothing but open() lets the next round in.
        wrong += wrong_values(frames.spans[std::size_t(frame)], round, frame);
        ++arrived;
        if (++round < rounds) channel.open(frame);
      }
    }
    CHECK(wrong == 0);
    for (std::size_t frame = 0; frame < sizes.size(); ++frame) {
      CHECK(rounds_of[frame] == rounds);
      CHECK(*(frames.spans[frame].data() + frames.spans[frame].size()) == 0);  // the guard
    }
  }
}

}  // namespace

MPI_TEST_CASE("frames of any size arrive whole, once a round, at any depth and any delay", 2) {
  const auto seed =
      static_cast<unsigned>(std::stoul(ranks.comm.broadcast(text(std::random_device()()), 0)));
  std::mt19937 random(seed);
  for (const int depth : {1, 2, 4, 8}) {
    Sizes sizes;
    const auto frame_count = 1 + random() % 12;
    for (std::size_t frame = 0; frame < frame_count; ++frame) {
      const Sizes kinds{0, 1, index_t(random() % 3000), index_t(random() % 300000)};
      sizes.push_back(kinds[random() % 4]);
    }
    CAPTURE(seed);
    CAPTURE(depth);
    CAPTURE(frame_count);
    send_rounds(ranks, sizes, depth, 5, seed + static_cast<unsigned>(depth));
  }
}

MPI_TEST_CASE("one frame, empty frames and a frame of 64 MiB", 2) {
  send_rounds(ranks, {1}, 4, 50, 1);
  send_rounds(ranks, {0, 0, 0}, 4, 20, 2);
  send_rounds(ranks, {16 << 20, 1, 0, 70000}, 8, 2, 3);
}

MPI_TEST_CASE("channels between all ranks, in both directions and of all kinds, keep apart", 8) {
  const Sizes sizes{3000, 0, 20000, 1};
  std::vector<std::unique_ptr<Frames>> memory;
  std::vector<std::unique_ptr<SendChannel>> sends;
  std::vector<std::unique_ptr<ReceiveChannel>> receives;
  std::vector<std::pair<int, ChannelKind>> names;
  for (int peer = 0; peer < ranks.comm.size(); ++peer) {
    if (peer == ranks.rank) continue;
    for (const ChannelKind kind : {ChannelKind::push, ChannelKind::pull, ChannelKind::activation}) {
      names.emplace_back(peer, kind);
      auto& out = *memory.emplace_back(std::make_unique<Frames>(sizes));
      auto& in = *memory.emplace_back(std::make_unique<Frames>(sizes));
      for (std::size_t frame = 0; frame < sizes.size(); ++frame) {
        fill(out.spans[frame], ranks.rank * 100 + int(kind), index_t(frame));
      }
      sends.push_back(std::make_unique<SendChannel>(ranks.comm, peer, kind, out.read_only()));
      receives.push_back(
          std::make_unique<ReceiveChannel>(ranks.comm, peer, kind, frames_of(in.spans)));
    }
  }
  for (auto& receive : receives) receive->open_round();
  for (auto& send : sends) {
    for (std::size_t frame = 0; frame < sizes.size(); ++frame) send->offer(index_t(frame));
  }
  std::size_t missing = receives.size() * sizes.size();
  wait_until([&] { return missing == 0; },
             [&] {
               for (auto& send : sends) send->progress();
               for (auto& receive : receives) missing -= receive->progress().size();
             });
  wait_until([&] { return std::ranges::all_of(sends, [](auto& send) { return send->idle(); }); },
             [&] {
               for (auto& send : sends) send->progress();
             });
  for (std::size_t i = 0; i < names.size(); ++i) {
    const auto [peer, kind] = names[i];
    for (std::size_t frame = 0; frame < sizes.size(); ++frame) {
      CHECK(wrong_values(memory[2 * i + 1]->spans[frame], peer * 100 + int(kind), index_t(frame)) ==
            0);
    }
  }
}

MPI_TEST_CASE("a frame is not overwritten before its owner has opened it again", 2) {
  const Sizes sizes{5, 20000};
  Frames frames(sizes);
  if (ranks.rank == 0) {
    SendChannel channel(ranks.comm, 1, ChannelKind::pull, frames.read_only());
    for (index_t round = 0; round < 2; ++round) {
      for (index_t frame = 0; frame < 2; ++frame) {
        wait_until([&] { return channel.sent(frame); }, [&] { channel.progress(); });
        fill(frames.spans[std::size_t(frame)], round, frame);
        channel.offer(frame);
      }
    }
    wait_until([&] { return channel.idle(); }, [&] { channel.progress(); });
    return;
  }
  ReceiveChannel channel(ranks.comm, 0, ChannelKind::pull, frames_of(frames.spans));
  std::size_t arrived = 0;
  const auto look_for = [&](double seconds) {
    for (const double end = seconds_now() + seconds; seconds_now() < end;) {
      arrived += channel.progress().size();
    }
  };
  look_for(0.02);
  CHECK(arrived == 0);  // it begins closed
  channel.open_round();
  wait_until([&] { return arrived == 2; }, [&] { look_for(0.001); });
  channel.open(1);  // frame 0 is first and still closed
  look_for(0.02);
  CHECK(arrived == 2);
  for (index_t frame = 0; frame < 2; ++frame) {
    CHECK(wrong_values(frames.spans[std::size_t(frame)], 0, frame) == 0);
  }
  channel.open(0);
  wait_until([&] { return arrived == 4; }, [&] { look_for(0.001); });
  for (index_t frame = 0; frame < 2; ++frame) {
    CHECK(wrong_values(frames.spans[std::size_t(frame)], 1, frame) == 0);
  }
}

MPI_TEST_CASE("a frame that is longer or shorter than planned is an error with its name", 2) {
  struct Case {
    index_t sent, planned;
    const char* wrong;
  };
  for (const Case& c : {Case{11, 10, "is longer than the 40 bytes of the plan"},
                        Case{300000, 200000, "is longer than the 800000 bytes of the plan"},
                        Case{9, 10, "has 36 bytes, the plan says 40"},
                        Case{200000, 300000, "has 800000 bytes, the plan says 1200000"},
                        Case{0, 1, "has 0 bytes, the plan says 4"}}) {
    Frames frames({4, std::max(c.sent, c.planned)});  // for Open MPI overruns what is too short
    frames.spans[1] = frames.spans[1].first(std::size_t(ranks.rank == 0 ? c.sent : c.planned));
    if (ranks.rank == 0) {
      SendChannel channel(ranks.comm, 1, ChannelKind::push, frames.read_only());
      channel.offer(0);
      channel.offer(1);
      wait_until([&] { return channel.idle(); }, [&] { channel.progress(); });
    } else {
      const auto receive = [&] {
        ReceiveChannel channel(ranks.comm, 0, ChannelKind::push, frames_of(frames.spans));
        channel.open_round();
        std::size_t arrived = 0;
        wait_until([&] { return arrived == 2; }, [&] { arrived += channel.progress().size(); });
      };
      CHECK_THROWS_WITH_AS(receive(), doctest::Contains(c.wrong), Error);
    }
    ranks.comm.barrier();
  }
}

MPI_TEST_CASE("what was opened and never sent can be cancelled", 2) {
  Frames frames({100, 100000, 3});
  ReceiveChannel channel(ranks.comm, 1 - ranks.rank, ChannelKind::gradient,
                         frames_of(frames.spans));
  channel.open_round();
  CHECK(channel.progress().empty());
  channel.cancel();
}

}  // namespace weir
