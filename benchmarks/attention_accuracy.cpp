// What does sparse attention cost in accuracy, and what does it save in memory? The same small
// models trained with dense and with sparse attention, beside what is claimed for it.

#include <algorithm>
#include <cmath>

#include "benchmarks/bench.hpp"
#include "benchmarks/job.hpp"
#include "common/base/error.hpp"
#include "common/base/machine.hpp"
#include "common/base/text.hpp"
#include "worker/models/transformer/config.hpp"

namespace weir::benchmark {
namespace {

using worker::Task;
using Words = std::vector<std::string>;  // options of `weir train`

// The claim: sparse attention costs 1.2 points of accuracy and saves 67 % of memory at 16k tokens.
constexpr double kClaimedPoints = 1.2;
constexpr double kClaimedSaving = 67;
constexpr index_t kMemoryLength = 16384;

// Accuracy on ListOps without reading: the most frequent answer, and that of the root operator.
constexpr double kMajority = 17.1;
constexpr double kRootOperator = 36.4;

enum class Form { dense, sparse };

/// 4 globals, and a window of `dense_reach` or of 16 tokens on each open side.
Words attention_options(Form form, Task task, index_t dense_reach) {
  const index_t reach = form == Form::dense ? dense_reach : 16;
  return {text("--attention.left=", reach),
          text("--attention.right=", task == Task::classifier ? reach : 0),
          "--attention.global-tokens=0-3"};
}

Words operator+(Words words, const Words& more) {
  words.insert(words.end(), more.begin(), more.end());
  return words;
}

/// How long a job trains; the rate rises over a part of it.
struct Amount {
  index_t steps;
  index_t batch;
};

Words amount_options(const Amount& amount) {
  return {text("--steps=", amount.steps), text("--batch=", amount.batch), "--checkpoint-every=0"};
}

Words classifier_options(const Amount& amount, bool quick) {
  const Words tiny = {"--model.layers=1", "--model.width=16", "--model.heads=1",
                      "--model.feed-forward=16"};
  return amount_options(amount) +
         Words{text("--config=", WEIR_CONFIGS, "/listops.ini"),
               text("--rate.warm-up=", amount.steps / 5)} +
         (quick ? tiny : Words{});
}

/// A causal byte model of two layers.
Words language_options(const Amount& amount, const std::string& corpus, index_t width,
                       index_t heads, index_t length, index_t held_out) {
  return amount_options(amount) + Words{text("--data.files=", corpus),
                                        text("--data.held-out=", held_out),
                                        text("--length=", length),
                                        text("--model.width=", width),
                                        text("--model.feed-forward=", 4 * width),
                                        text("--model.heads=", heads),
                                        "--model.layers=2",
                                        "--micro-batch=1",
                                        "--rate.schedule=linear",
                                        "--rate.peak=4e-3",
                                        text("--rate.warm-up=", amount.steps / 10),
                                        "--rate.final=0.02"};
}

/// A number from the summary of each job; one job at a time for each core, at most two.
std::vector<double> train_all(const std::vector<Words>& jobs, const std::string& key) {
  std::vector<double> values(jobs.size());
  side_by_side(jobs.size(), std::min<index_t>(core_count(), 2), [&](std::size_t job) {
    values[job] = train(1, jobs[job]).column("summary", key).back();
  });
  return values;
}

/// The mean and its 95 % confidence interval by Student's t, in the places of a spread's median and
/// quartiles. A single value has no interval.
Spread mean_and_interval(const std::vector<double>& values) {
  // 97.5 % quantiles of t for 1, 2, … degrees of freedom.
  constexpr double kQuantiles[] = {12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262};
  if (values.size() == 1) return mean_of(values);
  const std::size_t freedom = values.size() - 1;
  WEIR_ASSERT(freedom >= 1 && freedom <= std::size(kQuantiles));
  double sum = 0, squares = 0;
  for (const double value : values) sum += value;
  const auto count = static_cast<double>(values.size());
  const double mean = sum / count;
  for (const double value : values) squares += (value - mean) * (value - mean);
  const double error = std::sqrt(squares / (count - 1) / count);
  const double half = kQuantiles[freedom - 1] * error;
  return {mean - half, mean, mean + half, static_cast<index_t>(values.size())};
}

/// A model and data to compare the two forms of attention on.
struct Question {
  std::string of;
  Task task;
  index_t dense_reach;  ///< tokens on each open side of dense attention; all in a full run
  index_t seeds;
  Words options;
};

/// Trains pairs from the same seeds: same initial weights, same samples. Adds both forms and their
/// difference to the report.
void compare(const Question& question, Report& report) {
  const bool classifies = question.task == Task::classifier;
  std::vector<Words> jobs;
  for (const Form form : {Form::dense, Form::sparse}) {  // the long ones first
    for (index_t seed = 1; seed <= question.seeds; ++seed) {
      jobs.push_back(question.options +
                     attention_options(form, question.task, question.dense_reach) +
                     Words{text("--seed=", seed)});
    }
  }
  std::vector<double> values =
      train_all(jobs, classifies ? "validation_accuracy" : "validation_bits_per_byte");
  for (double& value : values) value *= classifies ? 100 : 1;
  const auto half = values.begin() + static_cast<std::ptrdiff_t>(question.seeds);
  const std::vector<double> dense(values.begin(), half), sparse(half, values.end());
  std::vector<double> differences;
  for (std::size_t i = 0; i < dense.size(); ++i) differences.push_back(dense[i] - sparse[i]);

  const std::string dense_name = text(question.of, ", dense");
  const std::string sparse_name = text(question.of, ", sparse");
  if (classifies) {
    const std::string peer = "root operator";
    report.add({dense_name, "accuracy", spread_of(dense), "%", peer, kRootOperator});
    report.add({sparse_name, "accuracy", spread_of(sparse), "%", peer, kRootOperator});
    report.add({question.of, "dense - sparse*", mean_and_interval(differences), "points", "claim",
                kClaimedPoints});
  } else {
    const std::string unit = "bits/byte";
    report.add({dense_name, "held-out text", spread_of(dense), unit});
    report.add(
        {sparse_name, "held-out text", spread_of(sparse), unit, "dense", spread_of(dense).median});
    report.add({question.of, "dense - sparse*", mean_and_interval(differences), unit});
  }
}

/// Peak memory of whole training jobs; what a stored matrix of scores would add is computed.
void compare_memory(const std::string& corpus, bool quick, Report& report) {
  const index_t length = quick ? 1024 : kMemoryLength;
  const index_t width = quick ? 16 : 128, heads = 4;
  const Words options = language_options({1, 1}, corpus, width, heads, length, length + 1);
  std::vector<Words> jobs;
  for (const Form form : {Form::dense, Form::sparse}) {
    jobs.push_back(options + attention_options(form, Task::language, length));
  }
  const std::vector<double> bytes = train_all(jobs, "peak_memory_bytes");
  const double dense = bytes[0], sparse = bytes[1];
  const double matrix = 4.0 * static_cast<double>(heads) * std::pow(length, 2);
  const double stored = sparse + matrix;
  constexpr double kMebibyte = 1 << 20;
  const auto once = [](double value) { return spread_of({value}); };
  const std::string of = text("a step at length ", length);
  report.add({text(of, ", sparse"), "peak memory", once(sparse / kMebibyte), "MiB"});
  report.add({text(of, ", dense"), "peak memory", once(dense / kMebibyte), "MiB", "sparse",
              sparse / kMebibyte});
  report.add({text(of, ", N x N stored"), "computed, not measured", once(stored / kMebibyte), "MiB",
              "sparse", sparse / kMebibyte});
  report.add(
      {of, "saved against dense", once(100 * (1 - sparse / dense)), "%", "claim", kClaimedSaving});
  report.add(
      {of, "saved against N x N", once(100 * (1 - sparse / stored)), "%", "claim", kClaimedSaving});
  report.remark(text("memory: language model, 2 layers, width ", width, ", ", heads,
                     " heads, one sample; the whole process"));
  report.remark(
      "weir's dense form stores no N x N matrix either; N x N stored = sparse + 4 H N^2 "
      "bytes, the matrix of one layer");
  report.remark("whole jobs: other layers hide attention; `attention` measures it alone");
}

void run(const Options& options) {
  const bool quick = options.quick;
  Report report("attention_accuracy",
                "what does sparse attention cost in accuracy and save in memory?", options);
  const ScratchFolder scratch;
  const std::string corpus = quick ? write_letters(scratch.path() / "bytes", 16384) : austen_text();
  const index_t seeds = quick ? 2 : 4;

  // A job of ListOps ends with 2,000 validation samples, so --quick has two short ones.
  const Amount expressions = quick ? Amount{2, 2} : Amount{300, 16};
  compare({"ListOps", Task::classifier, quick ? 32 : 2000, quick ? 1 : seeds,
           classifier_options(expressions, quick)},
          report);
  const Amount windows = quick ? Amount{2, 1} : Amount{400, 4};
  const index_t length = quick ? 128 : 2048, width = quick ? 8 : 64;
  const index_t held_out = quick ? 512 : 131072;
  compare({text("text, length ", length), Task::language, length, seeds,
           language_options(windows, corpus, width, 2, length, held_out)},
          report);
  compare_memory(corpus, quick, report);

  const auto amount_text = [](const Amount& amount) {
    return text(amount.steps, " steps of ", amount.batch, " samples");
  };
  report.remark(text("sparse: 16 tokens on each open side and 4 globals; dense: all; ", seeds,
                     " seeds, both forms from the same weights and on the same samples"));
  report.remark(text("ListOps: launch/configs/listops.ini, ", amount_text(expressions),
                     "; text: 2 layers, width ", width, ", ", amount_text(windows), ", ", held_out,
                     " bytes held out"));
  report.remark(
      "* mean over the pairs; in the column of the quartiles its 95 % confidence interval "
      "(Student's t). Points above 0, bits below 0: sparse is worse");
  report.remark("the claim is an article's, about other models and data");
  report.remark(text("ListOps without reading: the most frequent answer ", kMajority,
                     " %, that of the root operator ", kRootOperator,
                     " %; up to there a model needs no attention that reaches far"));
  report.print();
}

}  // namespace
}  // namespace weir::benchmark

int main(int argument_count, char** arguments) {
  return weir::benchmark::run_program("attention_accuracy", argument_count, arguments,
                                      weir::benchmark::run);
}
