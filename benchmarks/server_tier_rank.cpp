#include "benchmarks/server_tier_rank.hpp"

#include <algorithm>
#include <cstring>
#include <fstream>
#include <functional>
#include <iostream>
#include <numeric>

#include "common/base/machine.hpp"
#include "common/base/wait.hpp"
#include "common/job/data_plane.hpp"
#include "common/net/agree.hpp"
#include "ps/server.hpp"
#include "ps/server_loop.hpp"
#include "ps/update/store.hpp"
#include "worker/train/server_client.hpp"

namespace weir::benchmark {
namespace {

constexpr const char* kAsRank = "--as-rank";
constexpr index_t kUnits = 25;  // layers, as far as the plan is concerned
constexpr index_t kFrameElements = index_t{1} << 18;
// Of a backward that takes its time: a bucket a layer, each at 100 MB/s.
constexpr index_t kPacedBytes = 524288;
constexpr index_t kPacedSlices = 5;  // in which it moves what travels
constexpr auto kNapMicroseconds = static_cast<index_t>(kPacedBytes / 100.0 / kPacedSlices);
constexpr index_t kPacedUpdates = 2;

std::vector<ParameterSpec> specs_of(index_t elements, index_t units) {
  std::vector<ParameterSpec> specs;
  for (index_t unit = 0; unit < units; ++unit) {
    ParameterSpec spec;
    spec.name = text("layers.", unit, ".weight");
    spec.shape = {elements / units};
    spec.units = {unit};
    specs.push_back(spec);
  }
  return specs;
}

Layout layout_of(const TierJob& job) {
  if (job.servers > 0) return {.replicas = job.workers, .servers = job.servers};
  return {.replicas = job.workers, .servers = job.workers, .placement = Placement::colocated};
}

BucketPlan plan_of(const TierJob& job, index_t units, index_t bucket_bytes) {
  return BucketPlan(specs_of(job.elements, units),
                    std::vector<index_t>(static_cast<std::size_t>(units), 0), layout_of(job),
                    bucket_bytes);
}

void add(std::span<float> to, std::span<const float> from) {
  float* const sums = to.data();
  const float* const parts = from.data();
#pragma omp simd
  for (std::size_t i = 0; i < to.size(); ++i) sums[i] += parts[i];
}

/// The ranks of a job and what they write down.
class TierRank {
 public:
  TierRank(TierJob job, const std::filesystem::path& file)
      : job_(std::move(job)),
        layout_(layout_of(job_)),
        is_server_(layout_.is_server(world_.rank())),
        is_worker_(layout_.is_worker(world_.rank())),
        host_(world_.host()),
        workers_(world_.split(is_worker_ ? std::optional<int>(0) : std::nullopt, world_.rank())) {
    layout_.check(world_.size());
    if (world_.rank() == 0) file_.open(file);
  }

  void run() {
    for (index_t round = 0; round < job_.rounds; ++round) {
      measure_memory();
      measure_servers();
      measure_messages();
      for (const index_t bytes : job_.bucket_bytes) {
        for (const Transport transport : {Transport::window, Transport::messages}) {
          measure_burst(transport, bytes);
        }
      }
      for (const Transport transport : {Transport::window, Transport::messages}) {
        measure_paced(transport);
      }
      if (layout_.placement == Placement::colocated) measure_allreduce();
    }
    world_.barrier();
  }

 private:
  void write(const std::string& what, index_t bucket_bytes, double seconds) {
    if (world_.rank() == 0) file_ << what << ' ' << bucket_bytes << ' ' << seconds << std::endl;
  }

  /// Of one call; the slowest rank counts. All ranks call it at the same time.
  double seconds_of(const std::function<void()>& work) const {
    float together = 0;
    world_.sum(std::span(&together, 1));  // waits awake
    const double begin = seconds_now();
    work();
    const double seconds = seconds_now() - begin;
    return world_.max(seconds);
  }

  /// Rank 0 alone; the others sleep.
  void measure_memory() {
    Buffer from(world_.rank() == 0 ? job_.elements : 0), to(from.size());
    for (index_t repeat = 0; repeat <= job_.updates; ++repeat) {
      const double copy = seconds_of([&] {
        if (from.size() > 0) std::memcpy(to.data(), from.data(), std::as_bytes(from.span()).size());
      });
      const double added = seconds_of([&] { add(to.span(), from.span()); });
      if (repeat == 0) continue;
      write("memcpy", 0, copy);
      write("add", 0, added);
    }
  }

  /// All servers at once, each with its share, without any traffic.
  void measure_servers() {
    const index_t share = is_server_ ? job_.elements / layout_.servers : 0;
    Buffer weights(share), gradient(share), mean(share), variance(share);
    std::ranges::fill(gradient.span(), 1e-3F);
    const auto seconds_of_step = [&](index_t applied) {
      return seconds_of([&] {
        if (share == 0) return;
        const std::span<float> slots[] = {mean.span(), variance.span()};
        ps::optimizer_step({}, {.factor = 1, .rate = 1e-3, .applied = applied, .weight_decay = 0.1},
                           weights.span(), gradient.span(), slots);
      });
    };
    for (index_t repeat = 1; repeat <= job_.updates + 1; ++repeat) {
      const double seconds = seconds_of_step(repeat);
      if (repeat > 1) write("adamw", 0, seconds);
    }
    // Memory that hardly anybody used for a while is slower, so the slow backward has its own
    // bound.
    const index_t naps = 4 * job_.elements / kPacedBytes * kPacedSlices;
    for (index_t repeat = 1; repeat <= kPacedUpdates; ++repeat) {
      for (index_t nap = 0; nap < naps; ++nap) sleep_microseconds(kNapMicroseconds);
      write("adamw-rested", 0, seconds_of_step(job_.updates + 1 + repeat));
    }
    measure_store();
  }

  void measure_store() {
    const BucketPlan plan = plan_of(job_, kUnits, index_t{1} << 20);
    std::optional<ps::Store> store;
    if (is_server_) store.emplace(plan, layout_.server(world_.rank()), ps::OptimizerConfig(), 1);
    std::vector<index_t> replicas(static_cast<std::size_t>(job_.workers));
    std::iota(replicas.begin(), replicas.end(), 0);
    for (index_t update = 1; update <= job_.updates + 1; ++update) {
      const double seconds = seconds_of([&] {
        if (!store) return;
        for (const index_t bucket : store->buckets()) {
          for (index_t each = 0; each < store->contributor_count(bucket); ++each) {
            if (store->arrived(bucket, each)) store->sum(bucket, replicas);
          }
        }
        const Directive directive = {
            .update = update, .contributors = replicas, .step = update, .factor = 1, .rate = 1e-3};
        for (std::size_t at = store->buckets().size(); at-- > 0;) {
          store->apply(store->buckets()[at], directive);
        }
      });
      if (update > 1) write("store", 0, seconds);
    }
  }

  /// From the first worker to the last server, by the channels that messages take.
  void measure_messages() {
    const int sender = 0, receiver = world_.size() - 1;  // a worker, a server
    const bool takes_part = world_.rank() == sender || world_.rank() == receiver;
    Buffer buffer(takes_part ? job_.elements : 0);
    std::vector<std::span<float>> frames;
    for (index_t begin = 0; begin < buffer.size(); begin += kFrameElements) {
      const index_t count = std::min(kFrameElements, buffer.size() - begin);
      frames.push_back(
          buffer.span().subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(count)));
    }
    std::optional<SendChannel> sends;
    std::optional<ReceiveChannel> receives;
    if (world_.rank() == sender) {
      sends.emplace(world_, receiver, ChannelKind::push,
                    frames_of(std::vector<std::span<const float>>(frames.begin(), frames.end())));
    } else if (world_.rank() == receiver) {
      receives.emplace(world_, sender, ChannelKind::push, frames_of(frames));
    }
    for (index_t repeat = 0; repeat <= job_.updates; ++repeat) {
      const double seconds = seconds_of([&] {
        if (sends) {
          for (std::size_t frame = 0; frame < frames.size(); ++frame) {
            sends->offer(static_cast<index_t>(frame));
          }
          while (!sends->idle()) sends->progress();
        } else if (receives) {
          receives->open_round();
          for (std::size_t arrived = 0; arrived < frames.size();) {
            arrived += receives->progress().size();
          }
        }
      });
      if (repeat > 0) write("stream", 0, seconds);
    }
    sends.reset();
    receives.reset();
    measure_ping(sender, receiver);
  }

  void measure_ping(int left, int right) {
    constexpr index_t kPings = 1000;
    const bool takes_part = world_.rank() == left || world_.rank() == right;
    Buffer floats(takes_part ? 4 : 0);
    std::optional<SendChannel> there;
    std::optional<ReceiveChannel> back;
    if (takes_part) {
      const int peer = world_.rank() == left ? right : left;
      there.emplace(world_, peer, ChannelKind::push,
                    frames_of(std::vector<std::span<const float>>{floats.span().first(2)}));
      back.emplace(world_, peer, ChannelKind::push,
                   frames_of(std::vector<std::span<float>>{floats.span().last(2)}));
    }
    const double seconds = seconds_of([&] {
      if (!takes_part) return;
      const auto send = [&] {
        there->offer(0);
        while (!there->idle()) there->progress();
      };
      for (index_t ping = 0; ping < kPings; ++ping) {
        if (world_.rank() == left) send();
        back->open_round();
        while (back->progress().empty()) continue;
        if (world_.rank() == right) send();
      }
    });
    write("ping", 0, seconds / kPings);
  }

  /// One job of `updates` updates after one that warms up. `update` makes one on a worker, from
  /// push to pull, and returns the times that it took down. Those of the slowest worker, by update.
  template <class Update>
  std::vector<std::vector<double>> run_job(const BucketPlan& plan, Transport transport,
                                           index_t updates, const Update& update) {
    DataPlane plane(world_, host_, plan, transport, true);
    std::optional<ps::Server> server;
    std::optional<ps::ServerLoop> loop;
    worker::OwnServer own;
    if (is_server_) {
      ps::ServerConfig config;
      config.steps = updates + 1;
      config.batch = job_.workers;
      const index_t index = layout_.server(world_.rank());
      server.emplace(plan, index, config, plane.server_memory());
      loop.emplace(world_, plan, index, *server, plane, [] { return false; });
      if (!is_worker_) {
        loop->run();
        return {};
      }
      own.move = [&] { return loop->move(); };
      own.finished = [&] { return loop->finished(); };
      loop->begin();
    }
    worker::ServerClient client(world_, layout_.worker(world_.rank()), plan, plane, own);
    std::vector<std::vector<double>> times;
    client.start();
    client.await_all();
    for (index_t each = 1; each <= updates + 1; ++each) {
      client.begin_update();
      // As backward would have written it, before the clock starts.
      std::ranges::fill(client.gradients(), 1e-3F);
      workers_.meet([&] { return client.progress(); });
      times.push_back(update(client, each));
    }
    client.finish();
    for (std::vector<double>& each : times) workers_.max(each);
    times.erase(times.begin());
    return times;
  }

  void close(worker::ServerClient& client, index_t update) const {
    client.report({.step = update, .replica = world_.rank(), .loss_sum = 1, .count = 1});
    client.directive();
  }

  /// Everything is pushed at once.
  void measure_burst(Transport transport, index_t bucket_bytes) {
    const BucketPlan plan = plan_of(job_, kUnits, bucket_bytes);
    const auto update = [&](worker::ServerClient& client, index_t number) {
      const double begin = seconds_now();
      for (index_t unit = kUnits; unit-- > 0;) {
        client.ready(unit);
        client.progress();
      }
      close(client, number);
      client.await_all();
      return std::vector{begin, seconds_now()};
    };
    for (const auto& times : run_job(plan, transport, job_.updates, update)) {
      write(name_of(transport), bucket_bytes, times[1] - times[0]);
    }
  }

  /// Backward is a sleep that moves what travels now and then.
  void measure_paced(Transport transport) {
    const index_t units = 4 * job_.elements / kPacedBytes;
    const BucketPlan plan = plan_of(job_, units, kPacedBytes);
    const auto update = [&](worker::ServerClient& client, index_t number) {
      for (index_t unit = units; unit-- > 0;) {
        for (index_t slice = 0; slice < kPacedSlices; ++slice) {
          sleep_microseconds(kNapMicroseconds);
          client.progress();
        }
        if (unit > 0) client.ready(unit);
      }
      std::vector<double> times = {seconds_now()};
      client.ready(0);
      close(client, number);
      client.await(0);
      times.push_back(seconds_now());
      client.await_all();
      times.push_back(seconds_now());
      return times;
    };
    for (const auto& times : run_job(plan, transport, kPacedUpdates, update)) {
      write(text("first-", name_of(transport)), kPacedBytes, times[1] - times[0]);
      write(text("all-", name_of(transport)), kPacedBytes, times[2] - times[0]);
    }
  }

  /// What others do who have no servers: everybody adds up and steps everything.
  void measure_allreduce() {
    Buffer weights(job_.elements), gradient(job_.elements), mean(job_.elements),
        variance(job_.elements);
    std::vector<index_t> sizes = job_.bucket_bytes;
    sizes.push_back(4 * job_.elements);  // a single call
    index_t applied = 0;
    for (const index_t bytes : sizes) {
      const index_t piece = bytes / 4;
      for (index_t repeat = 0; repeat <= job_.updates; ++repeat) {
        std::ranges::fill(gradient.span(), 1e-3F);
        ++applied;
        const double seconds = seconds_of([&] {
          for (index_t begin = 0; begin < job_.elements; begin += piece) {
            const index_t count = std::min(piece, job_.elements - begin);
            check_mpi(MPI_Allreduce(MPI_IN_PLACE, gradient.data() + begin, static_cast<int>(count),
                                    MPI_FLOAT, MPI_SUM, world_.raw()),
                      "adding up gradients");
          }
          const std::span<float> slots[] = {mean.span(), variance.span()};
          ps::optimizer_step({},
                             {.factor = 1, .rate = 1e-3, .applied = applied, .weight_decay = 0.1},
                             weights.span(), gradient.span(), slots);
        });
        if (repeat > 0) write("allreduce", bytes, seconds);
      }
    }
  }

  TierJob job_;
  Layout layout_;
  Comm world_ = Comm::world();
  bool is_server_;
  bool is_worker_;
  Comm host_;
  Comm workers_;
  std::ofstream file_;
};

}  // namespace

std::string command_of(const TierJob& job, const std::string& program,
                       const std::filesystem::path& file) {
  const index_t ranks = layout_of(job).rank_count();
  // As launch/mpirun-weir starts a job of one host; but each rank keeps a core where they suffice,
  // or two that wait for each other may find themselves on one.
  std::string command =
      text("OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 ",
           "OMPI_MCA_rmaps_base_oversubscribe=1 OMPI_MCA_hwloc_base_binding_policy=",
           ranks <= core_count() ? "core" : "none",
           " OMPI_MCA_mpi_yield_when_idle=", ranks - 1 <= core_count() ? 0 : 1,
           " mpirun --quiet -n ", ranks, " '", program, "' ", kAsRank, " '", file.string(), "' ",
           job.workers, ' ', job.servers, ' ', job.elements, ' ', job.rounds, ' ', job.updates);
  for (const index_t bytes : job.bucket_bytes) command += text(' ', bytes);
  return command;
}

bool is_tier_rank(int argument_count, char** arguments) {
  return argument_count > 8 && std::string(arguments[1]) == kAsRank;
}

int run_tier_rank(int argument_count, char** arguments) {
  Session session(argument_count, arguments);
  try {
    const auto number = [&](int at) { return static_cast<index_t>(std::stoll(arguments[at])); };
    TierJob job = {.workers = number(3),
                   .servers = number(4),
                   .elements = number(5),
                   .bucket_bytes = {},
                   .rounds = number(6),
                   .updates = number(7)};
    for (int at = 8; at < argument_count; ++at) job.bucket_bytes.push_back(number(at));
    TierRank(job, arguments[2]).run();
    return 0;
  } catch (const std::exception& error) {
    std::cerr << "server_tier: " << error.what() << std::endl;
    abort_job(1);
  }
}

}  // namespace weir::benchmark
