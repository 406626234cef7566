// How fast is a training step, against its products alone and against the same step in PyTorch?
// Where does its time go?
#include <algorithm>
#include <functional>
#include <iostream>
#include <thread>

#include "benchmarks/bench.hpp"
#include "benchmarks/job.hpp"
#include "benchmarks/one_core.hpp"
#include "benchmarks/product_rates.hpp"
#include "benchmarks/step_peer.hpp"
#include "benchmarks/step_profile.hpp"
#include "benchmarks/torch_peer.hpp"
#include "common/base/machine.hpp"
#include "common/base/text.hpp"
#include "common/job/training.hpp"
#include "worker/kernels/cpu/blas.hpp"
#include "worker/kernels/cpu/product_choice.hpp"
#include "worker/models/transformer/cost.hpp"

namespace weir::benchmark {
namespace {

using worker::ProductLibrary;

constexpr std::size_t kPeersAgain = 3;  ///< forms of PyTorch, the best, tried at other widths

/// A size of the model, and how long it is measured.
struct Scale {
  index_t width;
  index_t steps;   ///< steps of a job
  index_t rounds;  ///< every case has its turn in each
};

worker::ModelConfig model_of(index_t width, bool quick) {
  worker::ModelConfig model;
  model.layers = 4;
  model.width = width;
  model.heads = 8;
  model.feed_forward = 4 * width;
  model.left = 16;
  model.global_tokens = "0-3";
  model.vocabulary = 256;
  model.length = quick ? 256 : 4096;
  return model;
}

std::vector<std::string> options_of(const worker::ModelConfig& model, Precision precision,
                                    index_t workers, index_t steps, const std::string& corpus) {
  const auto option = [](const char* name, auto value) { return text("--", name, "=", value); };
  return {option("model.layers", model.layers),
          option("model.width", model.width),
          option("model.heads", model.heads),
          option("model.feed-forward", model.feed_forward),
          option("attention.left", model.left),
          option("attention.right", model.right),
          option("attention.global-tokens", model.global_tokens),
          option("length", model.length),
          option("precision", name_of(precision)),
          option("batch", workers),
          option("micro-batch", 1),
          option("replicas", workers),
          option("steps", steps),
          option("checkpoint-every", 0),
          option("data.files", corpus),
          option("data.held-out", model.length + 1)};
}

/// FLOPs of a sample's products with weights: all but attention's pairs.
double product_flops(const worker::ModelConfig& model) {
  const auto pairs = static_cast<double>(worker::visible_pairs(model.sparsity(), model.length));
  return worker::model_flops_a_sample(model) -
         12 * static_cast<double>(model.layers * model.width) * pairs;
}

/// FLOP/s of `cores` cores that make the model's products and nothing else, by the library that is
/// faster at it.
double products_alone(const worker::ModelConfig& model, Dtype dtype, index_t cores,
                      index_t passes) {
  double best = 0;
  for (const ProductLibrary library : {ProductLibrary::openblas, ProductLibrary::onednn}) {
    if (library == ProductLibrary::onednn && !onednn_packs(worker::machine_instructions()))
      continue;
    std::vector<double> rates(cores);
    std::vector<std::thread> threads;
    for (double& rate : rates) {
      threads.emplace_back([&] { rate = measured_product_rate(model, library, dtype, passes); });
    }
    for (std::thread& thread : threads) thread.join();
    double sum = 0;
    for (const double rate : rates) sum += rate;
    best = std::max(best, sum);
  }
  return best;
}

/// What jobs of one kind gave: a value for each step, or for each job.
struct Jobs {
  std::vector<double> tokens_per_second;
  std::vector<double> waited_shares;
  std::vector<double> products_alone;  ///< FLOP/s
};

/// One model in one precision.
struct Case {
  Scale scale;
  Precision precision;
  Jobs alone = {};     ///< on one core
  Jobs together = {};  ///< 2 workers + 1 server
  std::vector<StepProfile> profiles = {};
  std::vector<StepPeer> forms = {};                 ///< those of PyTorch, the best first
  std::vector<double> peer_tokens_per_second = {};  ///< those of the best

  std::string name() const { return text("d ", scale.width, ", ", name_of(precision)); }
};

void progress(const std::string& what) { std::cerr << "step: " << what << std::endl; }

class Comparison {
 public:
  explicit Comparison(const Options& options)
      : quick_(options.quick),
        report_("step",
                "how fast is a training step, against its products alone and against PyTorch, and "
                "where does its time go?",
                options) {
    const std::vector<Scale> scales =
        quick_ ? std::vector<Scale>{{64, 4, 1}} : std::vector<Scale>{{512, 6, 3}, {1024, 4, 2}};
    for (const Scale& scale : scales) {
      for (const auto& [word, precision] : kPrecisionNames) {
        cases_.push_back({.scale = scale, .precision = precision});
      }
    }
    cases_ = wanted(std::move(cases_), options);
    index_t longest = 0;
    for (const Case& one : cases_) longest = std::max(longest, model(one).length);
    corpus_ = write_letters(scratch_.path() / "bytes", 64 * longest);
  }

  void run() {
    set_blas_threads(1);
    {
      const OneCore core;
      for (Case& one : cases_) profile(one);
      if (!quick_ && has_torch()) choose_peers();
      each_round([&](Case& one) { run_alone(one); });
    }
    each_round([&](Case& one) { run_job(one, 2, one.together); });
    for (const Case& one : cases_) add(one);
    add_remarks();
    report_.print();
  }

 private:
  worker::ModelConfig model(const Case& one) const { return model_of(one.scale.width, quick_); }

  /// Cases take turns, so that what disturbs one moment disturbs all alike.
  template <class Function>
  void each_round(const Function& function) {
    for (index_t round = 0; round < 10; ++round) {
      for (Case& one : cases_) {
        if (round < one.scale.rounds) function(one);
      }
    }
  }

  void profile(Case& one) {
    progress(text(one.name(), ": where the time goes"));
    one.profiles = profile_steps(options_of(model(one), one.precision, 1, 1, corpus_),
                                 quick_ ? 1 : one.scale.steps);
  }

  void choose_peers();
  void run_alone(Case& one);
  void run_job(Case& one, index_t workers, Jobs& jobs);
  void add(const Case& one);
  void add_jobs(const Case& one, const std::string& where, index_t cores, const Jobs& jobs);
  void add_shares(const Case& one);
  void add_remarks();
  /// The same model in fp32; null if --only leaves it out.
  const Case* in_fp32(const Case& one) const {
    const auto found = std::ranges::find_if(cases_, [&](const Case& other) {
      return other.scale.width == one.scale.width && other.precision == Precision::fp32;
    });
    return found == cases_.end() ? nullptr : &*found;
  }

  bool quick_;
  Report report_;
  ScratchFolder scratch_;
  std::string corpus_;
  std::vector<Case> cases_;
};

/// All forms at the first width; the best of them at the others.
void Comparison::choose_peers() {
  for (Case& one : cases_) {
    if (one.precision == Precision::fp16) continue;  // no form of PyTorch trains with it on CPUs
    const auto first = std::ranges::find_if(
        cases_, [&](const Case& other) { return other.precision == one.precision; });
    progress(text(one.name(), ": forms of PyTorch"));
    if (&one == &*first) {
      one.forms = all_step_peers(model(one), name_of(one.precision), 2);
      continue;
    }
    for (std::size_t at = 0; at < kPeersAgain && at < first->forms.size(); ++at) {
      one.forms.push_back(run_again(first->forms[at], model(one), 1));
    }
    std::ranges::stable_sort(one.forms, std::greater(), &StepPeer::tokens_per_second);
  }
}

void Comparison::run_alone(Case& one) {
  run_job(one, 1, one.alone);
  if (one.forms.empty() || !one.forms.front().error.empty()) return;
  progress(text(one.name(), ": PyTorch, ", one.forms.front().name()));
  one.peer_tokens_per_second.push_back(
      run_again(one.forms.front(), model(one), one.scale.steps - 2).tokens_per_second);
}

void Comparison::run_job(Case& one, index_t workers, Jobs& jobs) {
  progress(text(one.name(), ": ", workers, workers == 1 ? " worker" : " workers"));
  const worker::ModelConfig config = model(one);
  jobs.products_alone.push_back(
      products_alone(config, dtype_of(one.precision), workers, quick_ ? 1 : 3));
  const JobRecord record =
      train(workers == 1 ? 1 : workers + 1,
            options_of(config, one.precision, workers, one.scale.steps, corpus_));
  const auto& seconds = record.column("step", "step_s");
  const auto& waits = record.column("step", "waited_s");
  // The first step warms up, and the last one's weights are copied for the checkpoint.
  for (std::size_t step = 1; step + 1 < seconds.size(); ++step) {
    jobs.tokens_per_second.push_back(static_cast<double>(workers * config.length) / seconds[step]);
    jobs.waited_shares.push_back(waits[step] / seconds[step]);
  }
}

Spread times(Spread spread, double factor) {
  return {spread.low * factor, spread.median * factor, spread.high * factor, spread.count};
}

void Comparison::add_jobs(const Case& one, const std::string& where, index_t cores,
                          const Jobs& jobs) {
  const std::string name = text(one.name(), ", ", where);
  const worker::ModelConfig config = model(one);
  const Spread speed = spread_of(jobs.tokens_per_second);
  const double flops_a_token =
      worker::model_flops_a_sample(config) / static_cast<double>(config.length);
  report_.add({name, "model FLOP/s", times(speed, flops_a_token / 1e9), "GFLOP/s",
               text("products alone, ", cores, cores == 1 ? " core" : " cores"),
               spread_of(jobs.products_alone).median / 1e9});
  const Case* const fp32 = in_fp32(one);
  if (fp32 != nullptr && fp32 != &one) {
    const Jobs& peer = &jobs == &one.alone ? fp32->alone : fp32->together;
    report_.add(
        {name, "speed", speed, "tokens/s", "fp32", spread_of(peer.tokens_per_second).median});
  }
}

void Comparison::add(const Case& one) {
  const std::string name = text(one.name(), ", 1 core");
  const Spread speed = spread_of(one.alone.tokens_per_second);
  if (one.peer_tokens_per_second.empty()) {
    report_.add({name, "speed", speed, "tokens/s"});
  } else {
    report_.add({name, "speed", speed, "tokens/s", text("PyTorch: ", one.forms.front().name()),
                 spread_of(one.peer_tokens_per_second).median});
  }
  add_jobs(one, "1 core", 1, one.alone);
  add_shares(one);
  const std::string together = "2 workers + 1 server";
  report_.add({text(one.name(), ", ", together), "speed", spread_of(one.together.tokens_per_second),
               "tokens/s", "2 x 1 core", 2 * speed.median});
  add_jobs(one, together, 2, one.together);
  report_.add({text(one.name(), ", ", together), "waiting for servers",
               times(spread_of(one.together.waited_shares), 100), "% of a step", "aim", 10});
}

/// The worker's shares are those of the profile; what the job waited is the server's own work.
void Comparison::add_shares(const Case& one) {
  const std::string name = text(one.name(), ", 1 core");
  const double server = spread_of(one.alone.waited_shares).median;
  const auto add_share = [&](const std::string& what, const auto& seconds_of) {
    std::vector<double> shares;
    for (const StepProfile& profile : one.profiles) {
      shares.push_back(100 * (1 - server) * seconds_of(profile) / profile.total);
    }
    report_.add({name, what, spread_of(shares), "% of a step"});
  };
  add_share("products", [](const StepProfile& profile) { return profile.products; });
  add_share("packing", [](const StepProfile& profile) { return profile.packing; });
  add_share("attention", [](const StepProfile& profile) { return profile.attention; });
  add_share("element-wise and loss", [](const StepProfile& profile) { return profile.others(); });
  report_.add({name, "server: norm, clip, AdamW", times(spread_of(one.alone.waited_shares), 100),
               "% of a step"});
  std::vector<double> rates;
  for (const StepProfile& profile : one.profiles) {
    rates.push_back(product_flops(model(one)) / profile.products / 1e9);
  }
  report_.add({name, "FLOP/s of the step's products", spread_of(rates), "GFLOP/s",
               "products alone, 1 core", spread_of(one.alone.products_alone).median / 1e9});
}

void Comparison::add_remarks() {
  const worker::ModelConfig any = model(cases_.front());
  report_.remark(text(any.layers, " layers of ", any.heads, " heads, length ", any.length,
                      ", window (", any.left, ", ", any.right, "), globals ", any.global_tokens,
                      ", one sample a worker"));
  report_.remark("FLOPs: matrix products and visible pairs, forward and backward, none twice");
  report_.remark(
      "products alone: those of a block, with packed weights, by the faster of OpenBLAS and "
      "oneDNN, before each job");
  const worker::ProductChoice products;
  std::string instructions = text("instructions for products: ", name_of(products.instructions));
  for (const Dtype dtype : {Dtype::bf16, Dtype::fp16}) {
    if (!products.is_native(dtype)) {
      instructions += text("; ", name_of(dtype), " by conversion, this machine has none for it");
    }
  }
  report_.remark(instructions);
  for (const Case& one : cases_) {
    if (one.forms.empty()) continue;
    std::string line = text("PyTorch ", one.forms.front().torch, ", ", one.name(), ", tokens/s:");
    for (const StepPeer& form : one.forms) {
      line += form.error.empty()
                  ? text(" ", form.name(), " ", short_number(form.tokens_per_second), ";")
                  : text(" ", form.name(), " not: ", form.error, ";");
    }
    report_.remark(line);
  }
  if (core_count() < 3) {
    report_.remark(text("the server shares ", core_count(), " cores with the workers"));
  }
}

void run(const Options& options) { Comparison(options).run(); }

}  // namespace
}  // namespace weir::benchmark

int main(int argument_count, char** arguments) {
  return weir::benchmark::run_program("step", argument_count, arguments, weir::benchmark::run);
}
