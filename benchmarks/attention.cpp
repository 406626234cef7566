// How near is weir's attention to what one core can do, how far from dense attention and from the
// same in PyTorch, and what do strips gain?
#include <algorithm>
#include <iostream>
#include <map>
#include <optional>

#include "benchmarks/attention_runs.hpp"
#include "benchmarks/bench.hpp"
#include "benchmarks/floors.hpp"
#include "benchmarks/torch_peer.hpp"
#include "common/base/machine.hpp"
#include "common/base/text.hpp"
#include "worker/kernels/cpu/blas.hpp"

namespace weir::benchmark {
namespace {

using worker::Sparsity;

constexpr index_t kHeads = 8;
constexpr index_t kChannels = 64;
constexpr index_t kGlobals = 4;
constexpr index_t kStreamElements = 1 << 26;
constexpr index_t kLongestDense = 4096;  // with all heads, several times; more: one head, once
const std::vector<index_t> kWindows = {16, 64, 256};

/// Tokens on each side; none: dense.
using Window = std::optional<index_t>;

std::string window_name(Window window) { return window ? text("w ", *window) : "dense"; }

std::string length_name(index_t tokens) {
  return tokens % 1024 == 0 ? text(tokens / 1024, "k") : text(tokens);
}

struct Case {
  Window window;
  index_t tokens;
  auto operator<=>(const Case&) const = default;

  std::string name() const { return text(window_name(window), ", ", length_name(tokens)); }
  bool is_long_dense() const { return !window && tokens > kLongestDense; }
  Sparsity sparsity() const {
    if (!window) return {tokens, tokens, 0, false};
    return {*window, *window, kGlobals, false};
  }
};

/// Milliseconds.
struct Times {
  std::vector<double> forward, both;

  /// A forward and backward more, times `scale`.
  void measure(AttentionRun& run, const Sparsity& sparsity, double scale = 1) {
    const double begin = seconds_now();
    run.forward(sparsity);
    const double middle = seconds_now();
    run.backward(sparsity);
    forward.push_back(1e3 * scale * (middle - begin));
    both.push_back(1e3 * scale * (seconds_now() - begin));
  }
};

void progress(const std::string& what) { std::cerr << "attention: " << what << std::endl; }

std::string times_of(double ratio) { return text(short_number(ratio), " x"); }

class Comparison {
 public:
  explicit Comparison(const Options& options)
      : options_(options),
        lengths_(options.quick ? std::vector<index_t>{256, 1024}
                               : std::vector<index_t>{1024, 2048, 4096, 8192, 16384}),
        longest_(lengths_.back()),
        report_("attention",
                "how near is attention to a window and global tokens to what one core can do, and "
                "how far from dense attention and PyTorch?",
                options) {
    std::vector<Window> windows(kWindows.begin(), kWindows.end());
    windows.push_back(std::nullopt);
    for (const Window window : windows) {
      for (const index_t tokens : lengths_) cases_.push_back({window, tokens});
    }
  }

  void run() {
    set_blas_threads(1);
    measure_memory();  // first: memory that others have freed would hide some of it
    const index_t rounds = options_.quick ? 1 : 5;
    measure_kernels(rounds);
    if (!options_.quick) measure_peers();  // between rounds: the same neighbours, on average
    measure_kernels(rounds);
    report_.remark(text("f32, batch 1, ", kHeads, " heads x ", kChannels,
                        ", one core, both sides, ", kGlobals,
                        " globals at the front; dense: a window of all tokens"));
    add_kernels();
    add_peers();
    add_memory();
    add_strips();
    report_.print();
  }

 private:
  void measure_memory();
  void measure_kernels(index_t rounds);
  void measure_peers();
  void add_kernels();
  void add_peers();
  void add_memory();
  void add_strips();

  double median_ms(Window window, index_t tokens) const {
    return spread_of(times_.at({window, tokens}).both).median;
  }
  const PeerResult* peer(Window window, index_t tokens) const {
    const auto found = peers_.find({window, tokens});
    return found == peers_.end() ? nullptr : &found->second;
  }

  Options options_;
  std::vector<index_t> lengths_;
  index_t longest_;
  Report report_;
  std::vector<Case> cases_;
  std::map<index_t, AttentionRun> runs_;  ///< one for each length
  std::map<Case, Times> times_;
  std::map<Case, PeerResult> peers_;
  std::vector<double> gigaflops_, gigabytes_;  ///< a second, of one core; a round each
  double sparse_bytes_ = 0;                    ///< at the longest
  double dense_bytes_ = 0;
};

void Comparison::measure_memory() {
  progress("memory");
  const auto bytes_of = [&](Window window) {
    return extra_bytes(longest_, kHeads, kChannels, Case{window, longest_}.sparsity());
  };
  sparse_bytes_ = bytes_of(kWindows.front());
  dense_bytes_ = bytes_of(std::nullopt);
}

/// Cases take turns, so that what disturbs one moment disturbs all alike.
void Comparison::measure_kernels(index_t rounds) {
  for (index_t round = 0; round < rounds; ++round) {
    progress(text("weir's kernels, round ", round + 1, " of ", rounds));
    const CoreRates rates = measured_rates(options_.quick ? 0.05 : 0.3,
                                           options_.quick ? kStreamElements / 16 : kStreamElements);
    gigaflops_.push_back(rates.flops / 1e9);
    gigabytes_.push_back(rates.bytes / 1e9);
    for (const Case& one : cases_) {
      Times& times = times_[one];
      if (one.is_long_dense()) {
        if (!times.both.empty()) continue;
        progress(text(one.name(), ", one head"));
        AttentionRun run(one.tokens, 1, kChannels);
        times.measure(run, one.sparsity(), double{kHeads});
        continue;
      }
      const auto made = runs_.try_emplace(one.tokens, one.tokens, kHeads, kChannels);
      AttentionRun& run = made.first->second;
      Times warm_up;
      warm_up.measure(run, one.sparsity());
      const double fitting = 30 / warm_up.both.front();  // short ones several times
      for (int i = 0; i < std::clamp(static_cast<int>(fitting), 1, 5); ++i) {
        times.measure(run, one.sparsity());
      }
    }
  }
}

void Comparison::measure_peers() {
  if (!has_torch()) {
    report_.remark(text("missing: the peers chunked and sdpa, as '", python_of_peers(),
                        "' has no PyTorch; Debian has it in python3-torch, and WEIR_PYTHON names "
                        "another interpreter"));
    return;
  }
  for (const index_t tokens : lengths_) {
    progress(text("PyTorch, ", length_name(tokens), " tokens"));
    for (const PeerResult& result : run_torch_peers(tokens, kWindows)) {
      peers_.insert_or_assign(Case{result.window, result.length}, result);
    }
  }
}

void Comparison::add_kernels() {
  const Spread gigaflops = spread_of(gigaflops_);
  const Spread gigabytes = spread_of(gigabytes_);
  report_.add({"one core", "sgemm", gigaflops, "GFLOP/s"});
  report_.add({"one core", "a[i] += b[i]", gigabytes, "GB/s"});
  std::map<Case, double> ratios;
  for (const Case& one : cases_) {
    const AttentionWork work = work_of(one.tokens, kHeads, kChannels, one.sparsity());
    const auto add = [&](const char* metric, const std::vector<double>& values, double flops,
                         double bytes) {
      const double by_flops = flops / gigaflops.median / 1e6;
      const double by_bytes = bytes / gigabytes.median / 1e6;
      const std::string floor = by_flops > by_bytes
                                    ? text("FLOPs (bytes: ", short_number(by_bytes), ")")
                                    : text("bytes (FLOPs: ", short_number(by_flops), ")");
      const double larger = std::max(by_flops, by_bytes);
      report_.add({one.name(), metric, spread_of(values), "ms", floor, larger});
      return spread_of(values).median / larger;
    };
    const Times& times = times_.at(one);
    add("forward", times.forward, work.forward_flops, work.forward_bytes);
    ratios[one] = add("forward + backward", times.both, work.both_flops, work.both_bytes);
  }
  report_.remark(
      "floors, of which the larger counts: 14 C FLOPs a visible pair and head, 4 of them forward, "
      "at "
      "sgemm's rate; and the bytes that must move, what is written counted twice, at that of a[i] "
      "+= b[i]");
  report_.remark(
      "over arrays much larger than the caches (three streams: two read, one written); both rates "
      "are "
      "each round's best, and their median");
  if (options_.quick) return;
  report_.remark(
      text("dense beyond ", length_name(kLongestDense), ": one head, once, times ", kHeads));
  const Window w = kWindows.front();
  report_.remark(text(window_name(w), ", forward + backward: ", times_of(ratios.at({w, 16384})),
                      " its larger floor at 16k (aim: at most 2.5), ",
                      times_of(ratios.at({w, 1024})), " at 1k (aim: at most 3.5); t(16k) / t(4k): ",
                      short_number(median_ms(w, 16384) / median_ms(w, 4096)),
                      " (aim: at most 4.5)"));
  for (const index_t tokens : {lengths_.front(), longest_}) {
    std::string line = text("dense / sparse at ", length_name(tokens), ":");
    for (const index_t window : kWindows) {
      const double ratio = median_ms(std::nullopt, tokens) / median_ms(window, tokens);
      line += text(" ", window_name(window), " ", times_of(ratio), ";");
    }
    report_.remark(line + " aim: more than 1");
  }
}

void Comparison::add_peers() {
  if (peers_.empty()) return;
  std::string chunked = text("chunked / weir at ", length_name(longest_), ":");
  std::string sdpa = "sdpa / weir's dense form:";
  for (const Case& one : cases_) {
    const PeerResult* const result = peer(one.window, one.tokens);
    if (result == nullptr) continue;
    const Spread own = spread_of(times_.at(one).both);
    const double theirs = 1e3 * result->both_seconds;
    report_.add({one.name(), "forward + backward", own, "ms", result->peer, theirs});
    if (!one.window)
      sdpa += text(" ", length_name(one.tokens), " ", times_of(theirs / own.median), ";");
    if (one.window && one.tokens == longest_) {
      chunked += text(" ", window_name(one.window), " ", times_of(theirs / own.median), ";");
    }
  }
  report_.remark(chunked + " aim: at least 10");
  report_.remark(sdpa + " aim: at least 0.8");
  const PeerResult& any = peers_.begin()->second;
  report_.remark(text("PyTorch ", any.torch, ", one thread; its sgemm: ",
                      short_number(any.sgemm_flops / 1e9), " GFLOP/s"));
}

void Comparison::add_memory() {
  constexpr double kMebi = 1 << 20;
  const Window w = kWindows.front();
  const Spread own = spread_of({sparse_bytes_ / kMebi});
  const auto tokens = static_cast<double>(longest_);
  const auto add = [&](const std::string& dense, double bytes) {
    report_.add({Case{w, longest_}.name(), "extra memory", own, "MiB", dense, bytes / kMebi});
    report_.remark(text("extra memory of ", Case{w, longest_}.name(), ": ",
                        short_number(100 * (1 - sparse_bytes_ / bytes)), " % below ", dense));
  };
  add("weir's dense form", dense_bytes_);
  add("dense, scores kept*", 4 * double{kHeads} * tokens * tokens);
  if (const PeerResult* sdpa = peer(std::nullopt, longest_)) add("sdpa", sdpa->extra_bytes);
  if (const PeerResult* chunked = peer(w, longest_)) add("chunked", chunked->extra_bytes);
  report_.remark(
      "extra memory: peak of a fresh process beyond inputs, results and their gradients, forward + "
      "backward; *: computed, one N x N matrix a head (aim: at least 97 % below it)");
}

void Comparison::add_strips() {
  struct Shape {
    index_t heads, head_size;
  };
  for (const auto& [heads, head_size] : {Shape{8, 64}, Shape{4, 32}}) {
    progress(text("the layer of width ", heads * head_size));
    const Case one{kWindows.front(), longest_};
    LayerRun layer(longest_, heads, head_size, one.sparsity());
    std::vector<double> strips, whole;
    layer.seconds(0);  // the first warms up
    for (index_t repeat = 0; repeat < (options_.quick ? 2 : 9); ++repeat) {
      strips.push_back(1e3 * layer.seconds(0));
      whole.push_back(1e3 * layer.seconds(longest_));
    }
    report_.add({text("layer ", heads, " x ", head_size, ", ", one.name()), "forward + backward",
                 spread_of(strips), "ms", "one strip", spread_of(whole).median});
  }
  report_.remark("layer: projections and attention strip by strip, without the weights' gradients");
}

void run(const Options& options) { Comparison(options).run(); }

}  // namespace
}  // namespace weir::benchmark

int main(int argument_count, char** arguments) {
  return weir::benchmark::run_program("attention", argument_count, arguments, weir::benchmark::run);
}
