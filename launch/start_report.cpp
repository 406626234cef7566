#include "launch/start_report.hpp"

#include <algorithm>

#include "common/base/text.hpp"
#include "launch/terminal/quantities.hpp"
#include "worker/data/text/text_dataset.hpp"

namespace weir {
namespace {

std::string files_text(const worker::Corpus& corpus) {
  return corpus.file_count() == 1 ? corpus.names() : text(grouped(corpus.file_count()), " files");
}

std::string data_text(const worker::TextDataset* dataset) {
  if (dataset == nullptr) return "ListOps";
  const worker::Corpus& corpus = dataset->corpus();
  const std::string files =
      text(files_text(corpus), ": ", grouped(dataset->training_bytes()), " bytes to train on, ");
  if (const worker::Corpus* const validation = dataset->validation()) {
    return text(files, grouped(validation->size()), " of ", files_text(*validation),
                " to validate on");
  }
  return text(files, grouped(corpus.size() - dataset->training_bytes()), " held out");
}

}  // namespace

std::vector<std::string> start_report(const Job& job, index_t step, index_t cursor) {
  const worker::TextDataset* const dataset = job.dataset->as_text();
  const worker::TrainConfig& train = job.config.train;
  const std::string samples = dataset != nullptr ? " windows" : " samples";

  index_t parameters = 0;
  for (const ParameterSpec& spec : job.plan->specs()) parameters += spec.element_count();
  std::vector<std::string> lines = {
      text("trains ", grouped(parameters), " parameters on ", data_text(dataset))};

  if (step < train.training.steps) {
    const auto epochs = [&](index_t samples) {
      const double count = static_cast<double>(samples) / double(job.dataset->epoch_size());
      return fixed(count, count < 1 ? 3 : 2);
    };
    const index_t end = cursor + (train.training.steps - step) * train.training.batch;
    const std::string size =
        dataset != nullptr ? text(" of ", grouped(dataset->shape().length), " bytes") : "";
    lines.push_back(text("an epoch has ", grouped(job.dataset->epoch_size()), samples, size,
                         "; steps ", grouped(step + 1), " to ", grouped(train.training.steps), ", ",
                         grouped(train.training.batch), samples, " each, lead ",
                         cursor > 0 ? text("from epoch ", epochs(cursor)) + " " : std::string(),
                         "to epoch ", epochs(end)));
  }

  const index_t all = job.dataset->validation_size();
  std::string validation = text("validates on all ", grouped(all), samples, " at the end");
  if (train.training.eval_every > 0) {
    validation += text(", on ", grouped(std::min(all, train.eval_samples)), " of them every ",
                       grouped(train.training.eval_every), " steps");
  }
  lines.push_back(validation);
  const Precision precision = train.training.precision;
  const worker::ProductChoice& products = job.config.products;
  if (!products.is_native(dtype_of(precision))) {
    lines.push_back(text(name_of(precision),
                         " saves memory here, not time: matrix products are made in fp32 after a "
                         "conversion (",
                         products.describe(), "); where memory suffices, take --precision fp32"));
  }
  return lines;
}

}  // namespace weir
