// What is a moving clip worth? Each policy on a small language model and on ListOps, with and
// without faults that are published (benchmarks/clipping_runs.cpp): above all, from step 100 on, a
// corrupted batch with a probability of 1 %. See ps/decide/clip.hpp for the policies.

#include <algorithm>
#include <cmath>
#include <deque>
#include <iostream>
#include <map>
#include <random>

#include "benchmarks/bench.hpp"
#include "benchmarks/clipping_overhead.hpp"
#include "benchmarks/clipping_runs.hpp"
#include "benchmarks/job.hpp"
#include "common/base/error.hpp"
#include "common/base/machine.hpp"
#include "common/base/text.hpp"
#include "launch/terminal/quantities.hpp"
#include "worker/train/inject.hpp"

namespace weir::benchmark {
namespace {

// An article's claims for its own rule, `decay`: 40 % more stable, 25 % faster.
constexpr double kClaimedSaving = 40;
constexpr double kClaimedSteps = 0.75;

/// Nats a step; a policy that has less can hardly be bettered, and shares of it mean nothing.
constexpr double kNoDamage = 5e-4;

struct Plan {
  // Drawn after the policies' constants had been committed.
  std::vector<index_t> seeds = {311, 312, 313, 314, 315, 316, 317, 318};
  /// The first two are what the others are held against; update_rms is for AdamW alone.
  std::vector<std::string> policies = {"none",   "fixed",      "decay",      "quantile", "zclip",
                                       "robust", "per_tensor", "update_rms", kOracle};
};

struct Key {
  std::size_t setting, optimizer, fault, policy, seed;
  auto operator<=>(const Key&) const = default;
};

/// Nats a step that faults cost: mean excess of the loss over the undisturbed run's.
double damage_of(const Curve& faulty, const Curve& clean) {
  double sum = 0;
  const auto begin = static_cast<std::size_t>(worker::kFirstFaultyStep - 1);
  for (std::size_t at = begin; at < clean.loss.size(); ++at) {
    sum += std::max(0.0, faulty.loss[at] - clean.loss[at]);
  }
  return sum / static_cast<double>(clean.loss.size() - begin);
}

/// The first step whose loss is at most `target`; the last one if none is.
double steps_to(double target, const Curve& curve) {
  const auto found = std::ranges::find_if(curve.loss, [&](double loss) { return loss <= target; });
  return static_cast<double>(std::min(found - curve.loss.begin() + 1, std::ssize(curve.loss)));
}

/// 1 - sum of damages / sum of those of a peer on the same seeds, in %, and its 95 % interval by a
/// paired bootstrap.
Spread saved(const std::vector<double>& damages, const std::vector<double>& peer) {
  const auto of = [&](const std::vector<std::size_t>& chosen) {
    double own = 0, other = 0;
    for (std::size_t at : chosen) {
      own += damages[at];
      other += peer[at];
    }
    return other > 0 ? 100 * (1 - own / other) : 0;
  };
  std::vector<std::size_t> all(damages.size());
  for (std::size_t at = 0; at < all.size(); ++at) all[at] = at;
  std::mt19937 random(1);
  std::vector<double> gains;
  for (int draw = 0; draw < 10'000; ++draw) {
    std::vector<std::size_t> chosen;
    for (std::size_t at = 0; at < all.size(); ++at) chosen.push_back(random() % all.size());
    gains.push_back(of(chosen));
  }
  std::ranges::sort(gains);
  return {gains[gains.size() / 40], of(all), gains[gains.size() - 1 - gains.size() / 40],
          static_cast<index_t>(damages.size())};
}

/// All curves, and what follows from them as soon as a case has all its seeds.
class Outcomes {
 public:
  Outcomes(const Plan& plan, const std::vector<Setting>& settings, Report& report)
      : plan_(plan), settings_(settings), report_(report) {}

  /// Cases are told in this order; what a case is held against comes before it.
  void expect(const Key& key) {
    if (key.seed == 0) cases_.push_back(key);
  }
  void take(const Key& key, Curve curve) {
    curves_[key] = std::move(curve);
    while (!cases_.empty() && is_whole(cases_.front())) {
      if (cases_.front().fault == 0) {
        report_clean(cases_.front());
      } else {
        report_faulty(cases_.front());
      }
      cases_.pop_front();
    }
  }

 private:
  bool is_whole(Key key) const {
    for (key.seed = 0; key.seed < plan_.seeds.size(); ++key.seed) {
      if (!curves_.contains(key)) return false;
    }
    return true;
  }
  const Curve& curve(Key key, std::size_t fault, std::size_t policy, std::size_t seed) const {
    return curves_.at({key.setting, key.optimizer, fault, policy, seed});
  }
  template <class Value>
  std::vector<double> by_seed(const Value& value) const {
    std::vector<double> values;
    for (std::size_t seed = 0; seed < plan_.seeds.size(); ++seed) values.push_back(value(seed));
    return values;
  }
  std::vector<double> damages(Key key, std::size_t policy) const {
    const std::size_t clean = plan_.policies[policy] == kOracle ? kFixed : policy;
    return by_seed([&](std::size_t seed) {
      return damage_of(curve(key, key.fault, policy, seed), curve(key, 0, clean, seed));
    });
  }
  /// Steps to what `fixed` has reached undisturbed after five sixths of its steps, over its steps.
  Spread steps_ratio(Key key) const {
    std::vector<double> own, fixed;
    for (std::size_t seed = 0; seed < plan_.seeds.size(); ++seed) {
      const Curve& peer = curve(key, 0, kFixed, seed);
      const double target = peer.loss[peer.loss.size() * 5 / 6];
      own.push_back(steps_to(target, curve(key, key.fault, key.policy, seed)));
      fixed.push_back(steps_to(target, peer));
    }
    Spread ratio = spread_of(own);
    const double unit = spread_of(fixed).median;
    return {ratio.low / unit, ratio.median / unit, ratio.high / unit, ratio.count};
  }
  std::string diverged(Key key) const {
    index_t count = 0;
    for (std::size_t seed = 0; seed < plan_.seeds.size(); ++seed) {
      count += curve(key, key.fault, key.policy, seed).diverged ? 1 : 0;
    }
    if (count > 0) {
      report_.add({name_of(key), "diverged", spread_of({static_cast<double>(count)}), "jobs"});
    }
    return count > 0 ? text(", ", count, " diverged") : "";
  }
  std::string name_of(Key key) const {
    const Setting& setting = settings_[key.setting];
    return text(setting.name, ", ", setting.optimizers[key.optimizer].name, ", ",
                setting.faults[key.fault].name, ": ", plan_.policies[key.policy]);
  }

  void report_clean(Key key) {
    const auto finals = [&](std::size_t policy) {
      return mean_of(
          by_seed([&](std::size_t seed) { return curve(key, 0, policy, seed).validation; }));
    };
    const auto steps = static_cast<double>(settings_[key.setting].steps);
    const Spread skips = mean_of(by_seed(
        [&](std::size_t seed) { return 100 * curve(key, 0, key.policy, seed).skipped / steps; }));
    const Spread loss = finals(key.policy);
    std::string line = text(name_of(key), ": final loss ", fixed(loss.median, 4));
    Result result = {name_of(key), "final loss", loss, "nats"};
    if (key.policy >= kFixed) {
      result.reference_name = "fixed";
      result.reference = finals(kFixed).median;
      line += text(" (", fixed(100 * (result.ratio() - 1), 1), " % above fixed)");
      const Spread ratio = steps_ratio(key);
      report_.add({name_of(key), "steps to target", ratio, "of fixed", "an article's claim",
                   kClaimedSteps});
      line += text(", steps to target ", fixed(ratio.median, 2));
    }
    report_.add(result);
    report_.add({name_of(key), "skipped", skips, "%"});
    std::cout << line << text(", skipped ", fixed(skips.median, 2), " %", diverged(key), "\n")
              << std::flush;
  }

  void report_faulty(Key key) {
    const std::vector<double> own = damages(key, key.policy);
    const Spread damage = mean_of(own);
    report_.add({name_of(key), "damage", damage, "nats/step"});
    std::string line = text(name_of(key), ": damage ", short_number(damage.median));
    const auto against = [&](std::size_t peer) {
      if (key.policy <= peer) return;
      const std::vector<double> others = damages(key, peer);
      if (mean_of(others).median < kNoDamage) {
        line += text(", ", plan_.policies[peer], " has no damage to save");
        return;
      }
      const Spread gain = saved(own, others);
      report_.add({name_of(key), text("saved of ", plan_.policies[peer], "'s damage*"), gain, "%",
                   "an article's claim", kClaimedSaving});
      line += text(", saved of ", plan_.policies[peer], "'s ", fixed(gain.median, 0), " % (",
                   fixed(gain.low, 0), " … ", fixed(gain.high, 0), ")");
    };
    against(kFixed);
    against(kNone);
    if (key.policy >= kFixed) {
      const Spread ratio = steps_ratio(key);
      report_.add({name_of(key), "steps to target", ratio, "of clean fixed"});
      line += text(", steps to target ", fixed(ratio.median, 2));
    }
    std::cout << line << diverged(key) << '\n' << std::flush;
  }

  static constexpr std::size_t kNone = 0;
  static constexpr std::size_t kFixed = 1;
  const Plan& plan_;
  const std::vector<Setting>& settings_;
  Report& report_;
  std::map<Key, Curve> curves_;
  std::deque<Key> cases_;  ///< not told yet
};

bool makes_sense(const Setting& setting, std::size_t optimizer, std::size_t fault,
                 std::size_t policy, const Plan& plan) {
  const std::string& name = plan.policies[policy];
  if (name == "update_rms") return setting.optimizers[optimizer].name == "AdamW";
  return name != kOracle || !setting.faults[fault].oracle.empty();
}

void run(const Options& options) {
  Plan plan;
  if (options.quick) plan = {.seeds = {1}, .policies = {"none", "fixed", "robust", kOracle}};
  Report report("clipping", "how much of what faults cost does each clip policy save?", options);
  // --quick needs no download: any text will do.
  const std::string corpus = options.quick ? std::string(WEIR_LICENSE) : austen_text();
  report_overhead(options, corpus, report);
  const std::vector<Setting> settings = clipping_settings(corpus, options.quick);
  std::vector<Key> keys;
  std::vector<CurveJob> jobs;
  // What matters most comes first: clean runs, the published schedule, then the other faults.
  for (std::size_t fault = 0; fault < settings.front().faults.size(); ++fault) {
    for (std::size_t setting = 0; setting < settings.size(); ++setting) {
      const Setting& of = settings[setting];
      if (fault >= of.faults.size()) continue;
      for (std::size_t optimizer = 0; optimizer < of.optimizers.size(); ++optimizer) {
        for (std::size_t policy = 0; policy < plan.policies.size(); ++policy) {
          if (!makes_sense(of, optimizer, fault, policy, plan)) continue;
          for (std::size_t seed = 0; seed < plan.seeds.size(); ++seed) {
            keys.push_back({setting, optimizer, fault, policy, seed});
            jobs.push_back({&of, optimizer, fault, plan.policies[policy], plan.seeds[seed]});
          }
        }
      }
    }
  }
  Outcomes outcomes(plan, settings, report);
  for (const Key& key : keys) outcomes.expect(key);
  const double begin = seconds_now();
  double said_at = begin;
  std::size_t done = 0;
  run_curves(jobs, options.jobs, [&](std::size_t at, Curve curve) {
    outcomes.take(keys[at], std::move(curve));
    ++done;
    const double now = seconds_now();
    if (now - said_at < 20) return;
    said_at = now;
    const double left =
        (now - begin) * static_cast<double>(jobs.size() - done) / static_cast<double>(done);
    std::cout << text("  ", done, " of ", jobs.size(), " jobs, about ", clock_text(left), " left\n")
              << std::flush;
  });
  for (const Setting& setting : settings) {
    report.remark(text(setting.name, ": ", setting.steps, " steps of ",
                       setting.name == "text" ? "16 x 64 bytes, 2 layers, width 64"
                                              : "4 expressions, 1 layer, width 16"));
    for (const FaultCase& fault : setting.faults) {
      if (!fault.inject.empty()) report.remark(text("  ", fault.name, ": --inject ", fault.inject));
    }
  }
  report.remark(text(plan.seeds.size(),
                     " seeds; faults are the same for all policies; a share of "
                     "the steps is drawn from step ",
                     worker::kFirstFaultyStep, " on"));
  report.remark(
      "oracle: fixed, and just the faulty steps are skipped: what is left is the price of the lost "
      "steps, and of a path that is another one from there on");
  report.remark(
      "damage: mean excess of the smoothed loss of clean batches over the same seed without "
      "faults; a loss above an untrained model's counts as that");
  report.remark(
      "steps to target: to the smoothed loss of fixed, undisturbed, after 5/6 of its steps; all "
      "of a run's steps if it is not reached; medians and quartiles");
  report.remark(
      "other medians and quartiles are means, lowest and highest of the seeds; * 95 % interval of "
      "a paired bootstrap");
  report.print();
}

}  // namespace
}  // namespace weir::benchmark

int main(int argument_count, char** arguments) {
  return weir::benchmark::run_program("clipping", argument_count, arguments, weir::benchmark::run);
}
