#include "worker/groups/pipeline_link.hpp"

#include <algorithm>
#include <random>
#include <vector>

#include "common/base/error.hpp"
#include "common/base/machine.hpp"
#include "common/net/control.hpp"
#include "common/net/mpi.hpp"
#include "tests/mpi_test.hpp"

namespace weir::worker {

namespace {

float value_of(int stage, Direction direction, index_t step, index_t micro_batch, index_t element) {
  return static_cast<float>((stage * 31 + (direction == Direction::forward ? 7 : 11) + step * 101 +
                             micro_batch * 1009 + element) %
                            (1 << 24));
}

FrameShape shape_of(index_t elements) { return {{Dtype::f32, 1, elements}}; }
Frame frame_of(std::vector<float>& values) {
  return {Matrix(Vector(values), 1, std::ssize(values))};
}

/// Each stage walks the order of gpipe (all forwards, then all backwards, chunk after chunk) and
/// dawdles at random. Returns the number of floats that were not what the neighbour wrote.
index_t walk(const Comm& comm, index_t frame_elements, index_t slots, index_t micro_batches,
             index_t steps, unsigned seed, index_t chunks_a_stage = 1) {
  std::mt19937 random(seed + static_cast<unsigned>(comm.rank()));
  const index_t stages = comm.size(), last = stages * chunks_a_stage - 1;
  index_t calls = 0, wrong = 0;
  const FrameShape shape = shape_of(frame_elements);
  PipelineLink link(comm, std::vector<ChunkBorders>(std::size_t(chunks_a_stage), {shape, shape}),
                    slots, [&] { return ++calls < 0; });
  std::vector<float> frame(std::size_t(frame_elements), 0);

  const auto dawdle = [&] {
    if (random() % 4 == 0) sleep_microseconds(index_t(random() % 1500));
    link.progress();
  };
  const auto receive = [&](Direction direction, index_t step, index_t micro_batch, index_t chunk,
                           index_t sender) {
    const std::span<const float> got =
        as<float>(link.receive(direction, chunk, micro_batch).front().flat());
    dawdle();
    for (index_t i = 0; i < frame_elements; ++i) {
      wrong += got[std::size_t(i)] != value_of(int(sender), direction, step, micro_batch, i);
    }
    link.release(direction, chunk, micro_batch);
  };
  const auto send = [&](Direction direction, index_t step, index_t micro_batch, index_t chunk) {
    dawdle();
    for (index_t i = 0; i < frame_elements; ++i) {
      frame[std::size_t(i)] = value_of(int(chunk), direction, step, micro_batch, i);
    }
    link.send(direction, chunk, micro_batch, frame_of(frame));
    std::ranges::fill(frame, -1.0f);  // it is a copy that travels
  };
  for (index_t step = 0; step < steps; ++step) {
    for (index_t first = 0; first < micro_batches; first += stages) {
      const index_t end = std::min(first + stages, micro_batches);
      for (index_t chunk = comm.rank(); chunk <= last; chunk += stages) {
        for (index_t m = first; m < end; ++m) {
          if (chunk > 0) receive(Direction::forward, step, m, chunk, chunk - 1);
          if (chunk < last) send(Direction::forward, step, m, chunk);
        }
      }
    }
    for (index_t first = 0; first < micro_batches; first += stages) {
      const index_t end = std::min(first + stages, micro_batches);
      for (index_t chunk = last - (stages - 1 - comm.rank()); chunk >= 0; chunk -= stages) {
        for (index_t m = first; m < end; ++m) {
          if (chunk < last) receive(Direction::backward, step, m, chunk, chunk + 1);
          if (chunk > 0) send(Direction::backward, step, m, chunk);
        }
      }
    }
    link.end_step();
  }
  CHECK(link.waited_seconds() >= 0);
  CHECK((calls > 0 || link.waited_seconds() == 0));
  return wrong;
}

}  // namespace

MPI_TEST_CASE("every frame reaches the neighbour in its order, whatever the delays", 4) {
  const auto seed =
      static_cast<unsigned>(std::stoul(ranks.comm.broadcast(text(std::random_device()()), 0)));
  CAPTURE(seed);
  for (const index_t slots : {1, 2, 3}) {
    for (const index_t elements : {1, 1000, 40000}) {
      CAPTURE(slots);
      CAPTURE(elements);
      CHECK(walk(ranks.comm, elements, slots, 5, 3, seed) == 0);
    }
  }
}

MPI_TEST_CASE("two stages, one micro-batch", 2) {
  CHECK(walk(ranks.comm, 300000, 2, 1, 4, 1) == 0);
}

MPI_TEST_CASE("two stages with several chunks are neighbours twice and mix nothing up", 2) {
  for (const index_t chunks : {2, 3}) CHECK(walk(ranks.comm, 40000, 1, 5, 3, 2, chunks) == 0);
}

MPI_TEST_CASE("frames go round three stages with several chunks", 3) {
  for (const index_t chunks : {2, 3}) CHECK(walk(ranks.comm, 1000, 2, 7, 3, 3, chunks) == 0);
}

MPI_TEST_CASE("a single stage has no neighbours and ends its step at once", 1) {
  PipelineLink link(ranks.comm, {{shape_of(10), shape_of(10)}}, 2, [] { return false; });
  link.progress();
  link.end_step();
  CHECK(link.waited_seconds() == 0);
}

MPI_TEST_CASE("a wait for a neighbour moves other traffic on, and is counted", 2) {
  // The other traffic is word that rank 1 has waited for a while: before it rank 0 sends nothing,
  // so that a wait that moves nothing else on would never end.
  constexpr index_t kCalls = 20;
  const Comm others = ranks.comm.duplicate();
  ControlPort port(others, Tier::workers);
  index_t calls = 0;
  PipelineLink link(ranks.comm, {{shape_of(10), shape_of(10)}}, 2, [&] {
    sleep_microseconds(1000);
    if (++calls == kCalls && ranks.rank == 1) port.send(0, Tier::workers, kKindOf<Report>, {});
    return false;
  });
  if (ranks.rank == 0) {
    while (!port.poll([](auto&&...) {})) sleep_microseconds(100);
    std::vector<float> ones(10, 1.0f);
    link.send(Direction::forward, 0, 0, frame_of(ones));
  } else {
    CHECK(as<float>(link.receive(Direction::forward, 1, 0).front().flat())[9] == 1.0f);
    link.release(Direction::forward, 1, 0);
    CHECK(calls >= kCalls);
    CHECK(link.waited_seconds() > 0.001 * kCalls);
  }
  link.end_step();
}

MPI_TEST_CASE("a frame is several tensors of different dtypes, and may have fewer rows", 2) {
  const FrameShape shape = {{Dtype::bf16, 3, 5}, {Dtype::f32, 2, 1}};
  PipelineLink link(ranks.comm, {{shape, shape}}, 1, [] { return false; });
  if (ranks.rank == 0) {
    std::vector<Bf16> halves(10);
    for (std::uint16_t i = 0; i < 10; ++i) halves[i].bits = static_cast<std::uint16_t>(100 + i);
    std::vector<float> sums = {0.5F, -2};
    link.send(Direction::forward, 0, 0, {Matrix(Vector(halves), 2, 5), Matrix(Vector(sums), 2, 1)});
  } else {
    const Frame& frame = link.receive(Direction::forward, 1, 0);
    REQUIRE(frame.size() == 2);
    CHECK(frame[0].extent(0) == 3);
    for (index_t i = 0; i < 10; ++i) {
      CHECK(as<Bf16>(frame[0].flat())[i].bits == 100 + i);
    }
    CHECK(as<float>(frame[1].flat())[0] == 0.5F);
    CHECK(as<float>(frame[1].flat())[1] == -2);
    link.release(Direction::forward, 1, 0);
  }
  link.end_step();
}

}  // namespace weir::worker
