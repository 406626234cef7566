#include "ps/decide/clip.hpp"

#include <algorithm>
#include <cmath>
#include <deque>

#include "common/base/error.hpp"

namespace weir::ps {
namespace {

const std::vector<std::pair<std::string, ClipPolicy>> kPolicyNames = {
    {"none", ClipPolicy::none},
    {"fixed", ClipPolicy::fixed},
    {"decay", ClipPolicy::decay},
    {"quantile", ClipPolicy::quantile},
    {"zclip", ClipPolicy::zclip},
    {"robust", ClipPolicy::robust},
    {"per_tensor", ClipPolicy::per_tensor},
    {"update_rms", ClipPolicy::update_rms}};

constexpr index_t kWarmUp = 25;   ///< steps of zclip and robust
constexpr double kOutlier = 2.5;  ///< standard deviations
constexpr double kDecayCap = 1;   ///< the highest threshold of `decay`

/// Clips to `bound`; a smaller norm stays as it is.
ClipDecision clipped_to(double bound, double norm) {
  if (norm <= bound) return {};
  return {.coefficient = bound / norm, .clipped = true};
}

bool all_finite(std::span<const double> values) {
  return std::ranges::all_of(values, [](double value) { return std::isfinite(value); });
}

class None final : public Clip {
 public:
  ClipDecision decide(const GradientNorms&) override { return {}; }
  double threshold() const override { return 0; }
  List<double> state() const override { return {}; }

 private:
  bool take(std::span<const double> state) override { return state.empty(); }
};

class Fixed final : public Clip {
 public:
  explicit Fixed(const ClipConfig& config) : bound_(config.max_norm) {}
  ClipDecision decide(const GradientNorms& norms) override {
    ClipDecision decision = clipped_to(bound_, norms.total);
    decision.threshold = bound_;
    return decision;
  }
  double threshold() const override { return bound_; }
  List<double> state() const override { return {}; }

 private:
  bool take(std::span<const double> state) override { return state.empty(); }
  double bound_;
};

class Decay final : public Clip {
 public:
  explicit Decay(const ClipConfig& config)
      : fall_rate_(config.fall_rate), threshold_(config.initial) {}
  ClipDecision decide(const GradientNorms& norms) override {
    if (norms.total > threshold_) {
      threshold_ *= fall_rate_;
      return {threshold_ / norms.total, threshold_, true};
    }
    threshold_ = std::min(kDecayCap, threshold_ / fall_rate_);
    return {1, threshold_, false};
  }
  double threshold() const override { return threshold_; }
  List<double> state() const override { return {threshold_}; }

 private:
  bool take(std::span<const double> state) override {
    if (state.size() != 1 || !(state[0] >= 0 && state[0] <= kDecayCap)) return false;
    threshold_ = state[0];
    return true;
  }
  double fall_rate_;
  double threshold_;
};

class Quantile final : public Clip {
 public:
  explicit Quantile(const ClipConfig& config) : cap_(config.max_norm), quantile_(config.quantile) {}
  ClipDecision decide(const GradientNorms& norms) override {
    norms_.push_back(norms.total);
    if (norms_.size() > kWindow) norms_.pop_front();
    ClipDecision decision = clipped_to(threshold(), norms.total);
    decision.threshold = threshold();
    return decision;
  }
  double threshold() const override {
    if (norms_.empty()) return cap_;
    List<double> sorted(norms_.begin(), norms_.end());
    std::ranges::sort(sorted);
    const double at = quantile_ * static_cast<double>(sorted.size() - 1);
    const auto below = static_cast<index_t>(at);
    const double above = sorted[std::min(below + 1, sorted.size() - 1)];
    return std::min(cap_, std::lerp(sorted[below], above, at - static_cast<double>(below)));
  }
  List<double> state() const override { return {norms_.begin(), norms_.end()}; }

 private:
  static constexpr std::size_t kWindow = 1000;
  bool take(std::span<const double> state) override {
    const bool good = state.size() <= kWindow && all_finite(state) &&
                      std::ranges::all_of(state, [](double norm) { return norm >= 0; });
    if (good) norms_.assign(state.begin(), state.end());
    return good;
  }
  double cap_;
  double quantile_;
  std::deque<double> norms_;
};

/// Keeps the mean and variance of the norms: over all values at first, then moving averages.
class ZClip final : public Clip {
 public:
  explicit ZClip(const ClipConfig& config) : cap_(config.max_norm) {}
  ClipDecision decide(const GradientNorms& norms) override {
    double bound = norms.total;
    if (count_ >= kWarmUp) {
      const double sigma = std::sqrt(variance_) + kTiny * mean_;
      const double z = (norms.total - mean_) / sigma;
      if (z > kOutlier) bound = mean_ + kOutlier * kOutlier / z * sigma;
    }
    follow(std::min(bound, norms.total));
    ClipDecision decision = clipped_to(std::min(bound, cap_), norms.total);
    decision.threshold = threshold();
    return decision;
  }
  double threshold() const override {
    return count_ < kWarmUp ? cap_ : std::min(cap_, mean_ + kOutlier * std::sqrt(variance_));
  }
  List<double> state() const override { return {static_cast<double>(count_), mean_, variance_}; }

 private:
  static constexpr double kKeep = 0.97;
  static constexpr double kTiny = 1e-6;
  void follow(double norm) {
    const auto count = static_cast<double>(++count_);
    const double keep = count_ <= kWarmUp ? (count - 1) / count : kKeep;
    const double off = norm - mean_;
    mean_ += (1 - keep) * off;
    variance_ = keep * (variance_ + (1 - keep) * off * off);
  }
  bool take(std::span<const double> state) override {
    if (state.size() != 3 || !all_finite(state) || state[0] < 0 || state[2] < 0) return false;
    count_ = static_cast<index_t>(state[0]);
    mean_ = state[1];
    variance_ = state[2];
    return true;
  }
  double cap_;
  index_t count_ = 0;
  double mean_ = 0;
  double variance_ = 0;
};

class Robust final : public Clip {
 public:
  explicit Robust(const ClipConfig& config) : cap_(config.max_norm) {}
  ClipDecision decide(const GradientNorms& norms) override {
    // A gradient of zeros is nothing to learn from, and has no logarithm.
    if (norms.total <= 0) return {.threshold = threshold()};
    const double log = std::log(norms.total);
    const double z = count_ < kWarmUp ? 0 : (log - center_) / sigma();
    const double center = std::exp(center_);
    ClipDecision decision;
    if (z > kSpike && skips_in_a_row_ < kSkipsMax) {
      decision = {.coefficient = 0, .skip = true};
      ++skips_in_a_row_;
    } else {
      skips_in_a_row_ = 0;
      decision = clipped_to(z > kOutlier ? std::min(center, cap_) : cap_, norms.total);
    }
    // A skipped step counts, too: so the averages follow a lasting change, but hardly a spike.
    follow(count_ < kWarmUp
               ? log
               : std::clamp(log, center_ - kOutlier * sigma(), center_ + kOutlier * sigma()));
    decision.threshold = threshold();
    return decision;
  }
  double threshold() const override {
    return count_ < kWarmUp ? cap_ : std::min(cap_, std::exp(center_ + kOutlier * sigma()));
  }
  List<double> state() const override {
    return {static_cast<double>(count_), center_, deviation_, static_cast<double>(skips_in_a_row_)};
  }

 private:
  static constexpr double kSpike = 6;
  static constexpr index_t kSkipsMax = 10;
  static constexpr double kKeep = 0.98;
  /// The least sigma: with a smaller one, if norms hardly vary, a change of a few percent would be
  /// a spike.
  static constexpr double kLeastSigma = 0.1;

  /// The standard deviation of a normal distribution with this mean absolute deviation: sqrt(pi /
  /// 2) times as large.
  double sigma() const { return std::max(kLeastSigma, 1.2533141373155003 * deviation_); }
  void follow(double log) {
    const auto count = static_cast<double>(count_++);
    const double keep = std::min(kKeep, count / (count + 1));
    deviation_ = keep * deviation_ + (1 - keep) * (count == 0 ? 0 : std::abs(log - center_));
    center_ = keep * center_ + (1 - keep) * log;
  }
  bool take(std::span<const double> state) override {
    if (state.size() != 4 || !all_finite(state) || state[0] < 0 || state[2] < 0 || state[3] < 0) {
      return false;
    }
    count_ = static_cast<index_t>(state[0]);
    center_ = state[1];
    deviation_ = state[2];
    skips_in_a_row_ = static_cast<index_t>(state[3]);
    return true;
  }
  double cap_;
  index_t count_ = 0;
  double center_ = 0;     ///< the moving mean of ln n
  double deviation_ = 0;  ///< mean absolute deviation of ln n
  index_t skips_in_a_row_ = 0;
};

class PerTensor final : public Clip {
 public:
  PerTensor(const ClipConfig& config, index_t parameters)
      : cap_(config.max_norm), usual_(parameters, 0.0) {}
  ClipDecision decide(const GradientNorms& norms) override {
    WEIR_ASSERT(std::ssize(norms.parameters) == usual_.size());
    const bool warm = count_++ >= kTensorWarmUp;
    ClipDecision decision = clipped_to(cap_, norms.total);
    double squares = 0;
    for (index_t at = 0; at < usual_.size(); ++at) {
      const double norm = norms.parameters[at];
      const double bound = warm ? kAbove * usual_[at] : decision.coefficient * norm;
      const double after = std::min(norm, bound);
      decision.parameters.push_back(norm > after ? after / norm : 1);
      squares += after * after;
      if (warm) {
        usual_[at] = kKeep * usual_[at] + (1 - kKeep) * after;
      } else if (after > 0) {
        usual_[at] = usual_[at] == 0 ? after : std::min(usual_[at], after);
      }
    }
    decision.threshold = threshold();
    if (!warm) return decision;
    decision.coefficient = norms.total > 0 ? std::sqrt(squares) / norms.total : 1;
    decision.clipped =
        std::ranges::any_of(decision.parameters, [](double factor) { return factor < 1; });
    return decision;
  }
  double threshold() const override { return count_ < kTensorWarmUp ? cap_ : 0; }
  List<double> state() const override {
    List<double> state = {static_cast<double>(count_)};
    state.insert(state.end(), usual_.begin(), usual_.end());
    return state;
  }

 private:
  static constexpr index_t kTensorWarmUp = 100;
  static constexpr double kAbove = 1.05;
  static constexpr double kKeep = 0.98;
  bool take(std::span<const double> state) override {
    const bool good = std::ssize(state) == usual_.size() + 1 && all_finite(state) &&
                      std::ranges::all_of(state, [](double value) { return value >= 0; });
    if (!good) return false;
    count_ = static_cast<index_t>(state[0]);
    usual_.assign(state.begin() + 1, state.end());
    return true;
  }
  double cap_;
  index_t count_ = 0;
  List<double> usual_;  ///< one norm a parameter
};

}  // namespace

std::vector<Option> options(ClipConfig& config) {
  return {
      {"clip.policy", "",
       "how the gradient norm is bounded. fixed: by clip.max-norm; decay: by a threshold "
       "that falls with each norm above it; quantile: by a quantile of the last 1,000 norms; "
       "zclip, robust: outliers are pulled back, and robust skips the step if they are far out; "
       "per_tensor: each "
       "parameter is bounded by its usual norm; update_rms: adamw's step of each parameter is "
       "bounded instead of the gradient",
       choice(config.policy, kPolicyNames)},
      {"clip.max-norm",
       "",
       "the largest norm: the bound of fixed, and the cap of quantile, zclip, robust and of "
       "per_tensor while it warms up",
       &config.max_norm,
       {1e-6, 1e6}},
      {"clip.initial",
       "",
       "policy decay: the threshold at the start",
       &config.initial,
       {1e-6, kDecayCap}},
      {"clip.rate",
       "",
       "policy decay: the threshold falls and rises by this factor",
       &config.fall_rate,
       {0.01, 0.9999}},
      {"clip.quantile",
       "",
       "policy quantile: the bound is this quantile of the last 1,000 norms",
       &config.quantile,
       {0.001, 0.999}},
  };
}

std::string name_of(ClipPolicy policy) {
  return std::ranges::find(kPolicyNames, policy, &std::pair<std::string, ClipPolicy>::second)
      ->first;
}

void Clip::restore(std::span<const double> state) {
  if (take(state)) return;
  throw Error(text("restoring the clip policy: ", state.size(),
                   " numbers that are no state of it; the checkpoint is damaged"));
}

std::unique_ptr<Clip> make_clip(const ClipConfig& config, index_t parameters) {
  switch (config.policy) {
    case ClipPolicy::none:
    case ClipPolicy::update_rms:  // it clips what the optimizer makes of the gradient
      return std::make_unique<None>();
    case ClipPolicy::fixed:
      return std::make_unique<Fixed>(config);
    case ClipPolicy::decay:
      return std::make_unique<Decay>(config);
    case ClipPolicy::quantile:
      return std::make_unique<Quantile>(config);
    case ClipPolicy::zclip:
      return std::make_unique<ZClip>(config);
    case ClipPolicy::robust:
      return std::make_unique<Robust>(config);
    case ClipPolicy::per_tensor:
      return std::make_unique<PerTensor>(config, parameters);
  }
  WEIR_UNREACHABLE();
}

}  // namespace weir::ps
