// How near is weir's attention to what one core can do in f32, bf16 and fp16, how far from dense
// attention and from the same in PyTorch, and what do strips gain?
#include <algorithm>
#include <iostream>
#include <map>
#include <optional>

#include "benchmarks/attention_cases.hpp"
#include "benchmarks/attention_runs.hpp"
#include "benchmarks/bench.hpp"
#include "benchmarks/floors.hpp"
#include "benchmarks/torch_peer.hpp"
#include "common/base/machine.hpp"
#include "common/base/text.hpp"
#include "worker/kernels/cpu/blas.hpp"

namespace weir::benchmark {
namespace {

using Case = AttentionCase;

constexpr index_t kStreamElements = 1 << 26;

/// Milliseconds.
struct Times {
  std::vector<double> forward, both;

  /// A forward and backward more, times `scale`.
  void measure(AttentionRun& run, const worker::Sparsity& sparsity, double scale = 1) {
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
        sparse_{Dtype::f32, kWindows.front(), longest_},
        report_("attention",
                "how near is attention to a window and global tokens to what one core can do, and "
                "how far from dense attention and PyTorch?",
                options) {
    cases_ = wanted(attention_cases(lengths_), options);
  }

  void run() {
    set_blas_threads(1);
    // --only can leave out the sparse case that memory and strips belong to.
    const bool has_sparse = has(sparse_);
    if (has_sparse) measure_memory();  // first: memory that others have freed would hide some of it
    const index_t rounds = options_.quick ? 1 : 5;
    measure_kernels(rounds);
    if (!options_.quick) measure_peers();  // between rounds: the same neighbours, on average
    measure_kernels(rounds);
    report_.remark(text("batch 1, ", kHeads, " heads x ", kChannels, ", one core, both sides, ",
                        kGlobals, " globals at the front; dense: a window of all tokens"));
    add_kernels();
    add_floor_remarks();
    if (!options_.quick) add_aims();
    add_peers();
    if (has_sparse) add_memory();
    if (has_sparse) add_strips();
    report_.print();
  }

 private:
  void measure_memory();
  void measure_kernels(index_t rounds);
  void measure_case(const Case& one);
  void measure_peers();
  void add_kernels();
  void add_case(const Case& one, double gigabytes);
  void add_floor_remarks();
  void add_aims();
  void add_peers();
  void add_memory();
  void add_strips();

  bool has(const Case& one) const { return std::ranges::find(cases_, one) != cases_.end(); }
  double median_ms(const Case& one) const { return spread_of(times_.at(one).both).median; }
  const PeerResult* peer(const Case& one) const {
    const auto found = peers_.find(one);
    return found == peers_.end() ? nullptr : &found->second;
  }

  Options options_;
  std::vector<index_t> lengths_;
  index_t longest_;
  Case sparse_;  ///< the narrowest window at the longest, in f32
  Report report_;
  std::vector<Case> cases_;
  std::map<std::pair<Dtype, index_t>, AttentionRun> runs_;  ///< one for each type and length
  std::map<Case, Times> times_;
  std::map<Case, double> floors_passed_;  ///< times the larger floor, forward and backward
  std::map<Case, PeerResult> peers_;
  /// What one core does in a second; a value each round.
  struct Rates {
    std::vector<double> large, own, best;  ///< GFLOP/s of products
  };
  std::map<Dtype, Rates> gigaflops_;
  std::vector<double> gigabytes_;
  double sparse_bytes_ = 0;  ///< at the longest
  double dense_bytes_ = 0;
};

void Comparison::measure_memory() {
  progress("memory");
  const auto bytes_of = [&](const Case& one) {
    return extra_bytes(longest_, kHeads, kChannels, one.sparsity());
  };
  sparse_bytes_ = bytes_of(sparse_);
  dense_bytes_ = bytes_of({Dtype::f32, std::nullopt, longest_});
}

/// Cases take turns, so that what disturbs one moment disturbs all alike.
void Comparison::measure_kernels(index_t rounds) {
  for (index_t round = 0; round < rounds; ++round) {
    progress(text("weir's kernels, round ", round + 1, " of ", rounds));
    for (const Dtype dtype : kDtypes) {
      if (std::ranges::none_of(cases_, [&](const Case& one) { return one.dtype == dtype; })) {
        continue;
      }
      const ProductRates rates =
          measured_rates(dtype, block_products(kChannels), options_.quick ? 0.02 : 0.2);
      gigaflops_[dtype].large.push_back(rates.large / 1e9);
      gigaflops_[dtype].own.push_back(rates.own / 1e9);
      gigaflops_[dtype].best.push_back(rates.best() / 1e9);
    }
    gigabytes_.push_back(
        measured_stream_rate(options_.quick ? kStreamElements / 16 : kStreamElements) / 1e9);
    for (const Case& one : cases_) measure_case(one);
  }
}

void Comparison::measure_case(const Case& one) {
  Times& times = times_[one];
  if (one.is_long_dense()) {
    if (!times.both.empty()) return;
    progress(text(one.name(), ", one head"));
    AttentionRun run(one.dtype, one.tokens, 1, kChannels);
    times.measure(run, one.sparsity(), double{kHeads});
    return;
  }
  const auto made =
      runs_.try_emplace({one.dtype, one.tokens}, one.dtype, one.tokens, kHeads, kChannels);
  AttentionRun& run = made.first->second;
  Times warm_up;
  warm_up.measure(run, one.sparsity());
  const double fitting = 30 / warm_up.both.front();  // short ones several times
  for (int i = 0; i < std::clamp(static_cast<int>(fitting), 1, 5); ++i) {
    times.measure(run, one.sparsity());
  }
}

/// They are in f32.
void Comparison::measure_peers() {
  if (!has_torch()) {
    report_.remark(text("missing: the peers chunked and sdpa, as '", python_of_peers(),
                        "' has no PyTorch; Debian has it in python3-torch, and WEIR_PYTHON names "
                        "another interpreter"));
    return;
  }
  for (const index_t tokens : lengths_) {
    if (std::ranges::none_of(cases_, [&](const Case& one) {
          return one.dtype == Dtype::f32 && one.tokens == tokens;
        })) {
      continue;
    }
    progress(text("PyTorch, ", length_name(tokens), " tokens"));
    for (const PeerResult& result : run_torch_peers(tokens, kWindows)) {
      peers_.insert_or_assign(Case{Dtype::f32, result.window, result.length}, result);
    }
  }
}

void Comparison::add_kernels() {
  for (const auto& [dtype, rates] : gigaflops_) {
    const std::string name = text("one core, ", name_of(dtype));
    report_.add({name, "products, 768 cubed", spread_of(rates.large), "GFLOP/s"});
    report_.add({name, "products of a block", spread_of(rates.own), "GFLOP/s"});
  }
  const Spread gigabytes = spread_of(gigabytes_);
  report_.add({"one core", "a[i] += b[i]", gigabytes, "GB/s"});
  for (const Case& one : cases_) add_case(one, gigabytes.median);
}

void Comparison::add_case(const Case& one, double gigabytes) {
  const AttentionWork work = work_of(one.dtype, one.tokens, kHeads, kChannels, one.sparsity());
  const double gigaflops = spread_of(gigaflops_.at(one.dtype).best).median;
  const auto add = [&](const char* metric, const std::vector<double>& values, double flops,
                       double bytes) {
    const double by_flops = flops / gigaflops / 1e6;
    const double by_bytes = bytes / gigabytes / 1e6;
    const std::string floor = by_flops > by_bytes
                                  ? text("FLOPs (bytes: ", short_number(by_bytes), ")")
                                  : text("bytes (FLOPs: ", short_number(by_flops), ")");
    const double larger = std::max(by_flops, by_bytes);
    report_.add({one.name(), metric, spread_of(values), "ms", floor, larger});
    return spread_of(values).median / larger;
  };
  const Times& times = times_.at(one);
  add("forward", times.forward, work.forward_flops, work.forward_bytes);
  floors_passed_[one] = add("forward + backward", times.both, work.both_flops, work.both_bytes);
  if (one.dtype == Dtype::f32 || !has(one.in_f32())) return;
  std::vector<double> gains;
  for (const double milliseconds : times.both)
    gains.push_back(median_ms(one.in_f32()) / milliseconds);
  Result gain = {one.name(), "time of f32 / own time", spread_of(gains), "x"};
  const bool has_amx = worker::machine_instructions() == worker::Instructions::amx;
  if (one.dtype == Dtype::bf16 && has_amx) {
    gain.reference_name = "aim";
    gain.reference = kAmxGain;
  }
  report_.add(gain);
}

void Comparison::add_floor_remarks() {
  report_.remark(
      "floors, of which the larger counts: 14 C FLOPs a visible pair and head, 4 of them forward, "
      "at the rate of products; and the bytes that must move, what is written counted twice, at "
      "that of a[i] += b[i]");
  report_.remark(
      "rate of products: operands of the row's type, sums in f32, by OpenBLAS or oneDNN, at 768 x "
      "768 x 768 or with the shapes of one head's block of queries, whichever is fastest");
  report_.remark(
      "a[i] += b[i]: f32, over arrays much larger than the caches (three streams: two read, one "
      "written); all rates are each round's best, and their median");
  report_.remark("bf16: " + bf16_products());
  report_.remark("fp16: attention converts it to f32, so its floor has the rate of f32");
}

/// Only of cases that --only leaves.
void Comparison::add_aims() {
  report_.remark(
      text("dense beyond ", length_name(kLongestDense), ": one head, once, times ", kHeads));
  for (const AttentionAim& aim : kAims) {
    const Case one = {aim.dtype, aim.window, aim.tokens};
    if (!has(one)) continue;
    report_.remark(text(one.name(), ", forward + backward: ", times_of(floors_passed_.at(one)),
                        " its larger floor (aim: at most ", aim.floors, ")"));
  }
  const Case quarter = {sparse_.dtype, sparse_.window, longest_ / 4};
  if (has(sparse_) && has(quarter)) {
    report_.remark(text(sparse_.name(), ": ", times_of(median_ms(sparse_) / median_ms(quarter)),
                        " the time at ", length_name(quarter.tokens), " (aim: at most 4.5)"));
  }
  for (const index_t tokens : {lengths_.front(), longest_}) {
    const Case dense = {Dtype::f32, std::nullopt, tokens};
    std::string line = text("dense / sparse at ", length_name(tokens), ", f32:");
    for (const index_t window : kWindows) {
      const Case one = {Dtype::f32, window, tokens};
      if (!has(dense) || !has(one)) continue;
      line += text(" ", window_name(window), " ", times_of(median_ms(dense) / median_ms(one)), ";");
    }
    if (line.ends_with(';')) report_.remark(line + " aim: more than 1");
  }
}

void Comparison::add_peers() {
  if (peers_.empty()) return;
  std::string chunked = text("chunked / weir at ", length_name(longest_), ":");
  std::string sdpa = "sdpa / weir's dense form:";
  for (const Case& one : cases_) {
    const PeerResult* const result = peer(one);
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
  if (chunked.ends_with(';')) report_.remark(chunked + " aim: at least 10");
  if (sdpa.ends_with(';')) report_.remark(sdpa + " aim: at least 0.8");
  const PeerResult& any = peers_.begin()->second;
  report_.remark(text("PyTorch ", any.torch, ", one thread; its sgemm: ",
                      short_number(any.sgemm_flops / 1e9), " GFLOP/s"));
}

void Comparison::add_memory() {
  constexpr double kMebi = 1 << 20;
  const Spread own = spread_of({sparse_bytes_ / kMebi});
  const auto tokens = static_cast<double>(longest_);
  const auto add = [&](const std::string& dense, double bytes) {
    report_.add({sparse_.name(), "extra memory", own, "MiB", dense, bytes / kMebi});
    report_.remark(text("extra memory of ", sparse_.name(), ": ",
                        short_number(100 * (1 - sparse_bytes_ / bytes)), " % below ", dense));
  };
  add("weir's dense form", dense_bytes_);
  add("dense, scores kept*", 4 * double{kHeads} * tokens * tokens);
  if (const PeerResult* sdpa = peer({Dtype::f32, std::nullopt, longest_})) {
    add("sdpa", sdpa->extra_bytes);
  }
  if (const PeerResult* chunked = peer(sparse_)) add("chunked", chunked->extra_bytes);
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
    LayerRun layer(longest_, heads, head_size, sparse_.sparsity());
    std::vector<double> strips, whole;
    layer.seconds(0);  // the first warms up
    for (index_t repeat = 0; repeat < (options_.quick ? 2 : 9); ++repeat) {
      strips.push_back(1e3 * layer.seconds(0));
      whole.push_back(1e3 * layer.seconds(longest_));
    }
    report_.add({text("layer ", heads, " x ", head_size, ", ", sparse_.name()),
                 "forward + backward", spread_of(strips), "ms", "one strip",
                 spread_of(whole).median});
  }
  report_.remark("layer: projections and attention strip by strip, without the weights' gradients");
}

void run(const Options& options) { Comparison(options).run(); }

}  // namespace
}  // namespace weir::benchmark

int main(int argument_count, char** arguments) {
  return weir::benchmark::run_program("attention", argument_count, arguments, weir::benchmark::run);
}
