#pragma once

#include <algorithm>
#include <deque>
#include <functional>
#include <memory>
#include <random>
#include <source_location>
#include <thread>
#include <vector>

#include "common/base/error.hpp"
#include "common/base/log.hpp"
#include "ps/server.hpp"
#include "tests/ps/twin.hpp"
#include "tests/quiet_log.hpp"

namespace weir::test {

using Parameters = std::vector<std::vector<float>>;  ///< whole ones, in the order of the specs

/// Servers and made-up workers in one process: everything that may come in another order does.
/// Throws Error if the servers do what they must not.
class SimulatedJob {
 public:
  /// What a contributor of a replica adds for an element; salt: see made_up.
  using Gradient =
      std::function<float(index_t update, index_t salt, index_t parameter, index_t element)>;

  SimulatedJob(const BucketPlan& plan, const ps::ServerConfig& config, unsigned seed)
      : plan(plan), random_(seed) {
    for (index_t server = 0; server < plan.layout().servers; ++server) {
      servers.push_back(std::make_unique<ps::Server>(plan, server, config));
    }
    to_server_.resize(servers.size());
  }

  void load(const std::filesystem::path& checkpoint) {
    for (auto& server : servers) server->load(checkpoint);
  }

  /// Until the servers say stop and have committed, or `updates_max` updates are through.
  void run(index_t updates_max = 1 << 30) {
    Directive now = servers[0]->start();
    for (auto& server : servers) {
      must(server->start().step == now.step);
      must(server->start().cursor == now.cursor);
      must(server->start().order.stop == now.order.stop);
    }
    last_step_ = now.order.stop ? now.step : std::min(now.step + updates_max, index_t{1} << 40);
    directives.clear();
    directives.push_back(now);
    pushes_.clear();
    for (std::size_t server = 0; server < servers.size(); ++server) {
      for (index_t bucket : servers[server]->buckets()) offer(server, bucket, now);
    }
    offer_reports(now);
    while (!through()) advance();
  }

  Parameters weights() const {
    return whole([](const ps::Server& server, index_t bucket) { return server.weights(bucket); });
  }

  const BucketPlan& plan;
  std::vector<std::unique_ptr<ps::Server>> servers;
  std::vector<Directive> directives;  ///< the start, then one an update (or for who came too late)
  /// One in so many chances passes by before a push of this replica arrives, which makes it slow.
  std::function<bool(index_t replica)> held_up = [](index_t) { return false; };
  Gradient gradient = [](index_t update, index_t salt, index_t parameter, index_t element) {
    return made_up(1000 * update + salt, parameter, element);
  };
  std::function<double(index_t update)> loss_sum = [](index_t update) {
    return 100.0 / static_cast<double>(update);
  };
  /// Is told of all that server `from` wants sent.
  std::function<void(std::size_t from, const ps::Output&)> observe = [](std::size_t,
                                                                        const ps::Output&) {};

 private:
  struct Push {
    index_t bucket, contributor, replica, step;
  };
  struct Pull {
    std::size_t server;
    index_t bucket;
  };

  template <class Get>
  Parameters whole(const Get& get) const {
    Parameters all;
    for (const ParameterSpec& spec : plan.specs()) {
      all.emplace_back(static_cast<std::size_t>(spec.element_count()));
    }
    for (const auto& server : servers) {
      for (index_t index : server->buckets()) {
        const auto values = get(*server, index);
        for (const Segment& segment : plan.buckets()[index].segments) {
          std::copy_n(values.begin() + segment.offset, segment.range.count(),
                      all[segment.parameter].begin() + segment.range.begin);
        }
      }
    }
    return all;
  }

  /// Those whom the directive releases pull the bucket and may push it again.
  void offer(std::size_t server, index_t bucket, const Directive& directive) {
    const auto& of = plan.buckets()[bucket];
    const index_t a_replica = of.contributors.size();
    for (const Release& release : directive.replicas.released) {
      for (index_t reader = 0; reader < of.readers.size(); ++reader) {
        pulls_.push_back({server, bucket});
      }
      if (directive.order.stop || release.step >= last_step_) continue;
      for (index_t each = 0; each < a_replica; ++each) {
        pushes_.push_back(
            {bucket, release.replica * a_replica + each, release.replica, release.step + 1});
      }
    }
  }

  void offer_reports(const Directive& directive) {
    for (const Release& release : directive.replicas.released) {
      if (directive.order.stop || release.step >= last_step_) continue;
      for (index_t context = 0; context < plan.layout().contexts; ++context) {
        to_server_[0].push_back(Report{.step = release.step + 1,
                                       .replica = release.replica,
                                       .context = context,
                                       .loss_sum = loss_sum(release.step + 1),
                                       .count = 700 + release.replica,
                                       .loss_scale = directive.order.loss_scale});
      }
    }
  }

  bool through() const {
    const bool stopped = directives.back().order.stop || directives.back().step >= last_step_;
    if (!stopped || !pushes_.empty() || !pulls_.empty()) return false;
    for (const auto& messages : to_server_) {
      if (!messages.empty()) return false;
    }
    return idle_ > 3 * servers.size() + 10 &&
           (!directives.back().order.stop ||
            std::ranges::all_of(servers, [](const auto& server) { return server->done(); }));
  }

  void advance() {
    const auto choice = random_() % 5;
    if (choice == 4 && !pulls_.empty()) {
      const std::size_t at = random_() % pulls_.size();
      servers[pulls_[at].server]->on_sent(pulls_[at].bucket);
      pulls_.erase(pulls_.begin() + static_cast<std::ptrdiff_t>(at));
      idle_ = 0;
    } else if (choice == 0 && !pushes_.empty()) {
      const std::size_t at = random_() % pushes_.size();
      const Push push = pushes_[at];
      if (held_up(push.replica)) return;
      pushes_.erase(pushes_.begin() + static_cast<std::ptrdiff_t>(at));
      deliver(push);
      idle_ = 0;
    } else if (choice == 1) {
      const std::size_t at = random_() % servers.size();
      auto& messages = to_server_[at];
      if (messages.empty()) return;
      // Reports and partials come from different ranks: any order. Others keep theirs.
      std::size_t from = 0;
      if (at == 0) from = random_() % messages.size();
      const Message message = messages[from];
      messages.erase(messages.begin() + static_cast<std::ptrdiff_t>(from));
      deliver(*servers[at], message);
      idle_ = 0;
    } else {
      const std::size_t at = random_() % servers.size();
      if (servers[at]->poll()) {
        idle_ = 0;
      } else if (++idle_ > 1000) {
        std::this_thread::yield();  // a save is being written
      }
      while (const auto output = servers[at]->next_output()) take(at, *output);
      if (idle_ > 50'000'000) throw Error("the simulated job hangs");
    }
  }

  void deliver(const Push& push) {
    const Bucket& bucket = plan.buckets()[push.bucket];
    ps::Server& server = *servers[bucket.server];
    must(server.accepts(push.bucket, push.contributor));
    const std::span<float> floats = server.contribution(push.bucket, push.contributor);
    for (const Segment& segment : bucket.segments) {
      for (index_t i = 0; i < segment.range.count(); ++i) {
        floats[segment.offset + i] =
            gradient(push.step, push.contributor, segment.parameter, segment.range.begin + i);
      }
    }
    server.on_contribution(push.bucket, push.contributor);
  }

  void deliver(ps::Server& server, const Message& message) {
    weir::deliver<Tier::servers>(message, [&](const auto& content) { server.on(content); });
  }

  static void must(bool holds, std::source_location where = std::source_location::current()) {
    if (holds) return;
    throw Error(text("a server does what it must not: simulated_job.hpp, line ", where.line()));
  }

  void take(std::size_t from, const ps::Output& output) {
    observe(from, output);
    std::visit(
        [&](const auto& each) {
          using Kind = std::decay_t<decltype(each)>;
          if constexpr (std::is_same_v<Kind, ps::BucketStepped>) {
            offer(from, each.bucket, servers[from]->directive());
          } else if constexpr (std::is_same_v<Kind, ps::ResidualsDue>) {
            must(plan.wire().push.keeps_residual());
          } else if constexpr (std::is_same_v<Kind, Partials> || std::is_same_v<Kind, Arrival> ||
                               std::is_same_v<Kind, DirectionPartials> ||
                               std::is_same_v<Kind, SavePrepared>) {
            must(from != 0);
            to_server_[0].push_back(each);
          } else {
            must(from == 0);
            for (std::size_t to = 1; to < servers.size(); ++to) to_server_[to].push_back(each);
            if constexpr (std::is_same_v<Kind, Directive>) {
              directives.push_back(each);
              offer_reports(each);
            }
          }
        },
        output);
  }

  std::mt19937 random_;
  index_t last_step_ = 0;
  std::size_t idle_ = 0;
  std::vector<Push> pushes_;
  std::vector<Pull> pulls_;  ///< weights on their way to a reader
  std::vector<std::deque<Message>> to_server_;
};

/// Small, and everything on: clip, decay, warm-up.
inline ps::ServerConfig server_config(index_t steps) {
  ps::ServerConfig config;
  config.optimizer.weight_decay = 0.1;
  config.clip.policy = ps::ClipPolicy::decay;
  config.rate = {.peak = 0.01, .warm_up_steps = 2, .final_fraction = 0.1};
  config.training = {.steps = steps, .batch = 8, .micro_batch = 1, .seed = 11};
  return config;
}

/// Each kind, and what changes its step; decay everywhere.
inline std::vector<ps::OptimizerConfig> every_optimizer() {
  std::vector<ps::OptimizerConfig> all;
  for (const char* kind : {"adamw", "sgd", "sgd nesterov", "lion", "lamb"}) {
    ps::OptimizerConfig& config = all.emplace_back();
    const std::string name = kind;
    config.nesterov = name == "sgd nesterov";
    if (name.starts_with("sgd")) config.kind = ps::OptimizerKind::sgd;
    if (name == "lion") config.kind = ps::OptimizerKind::lion;
    if (name == "lamb") config.kind = ps::OptimizerKind::lamb;
    config.weight_decay = 0.1;
  }
  return all;
}

}  // namespace weir::test
