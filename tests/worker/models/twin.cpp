#include "tests/worker/models/twin.hpp"

#include <cmath>
#include <numbers>

#include "common/base/error.hpp"
#include "common/base/text.hpp"
#include "common/number/random.hpp"
#include "tests/worker/numbers.hpp"
#include "worker/kernels/visible.hpp"

namespace weir::test {

using worker::GlobalForm;
using worker::MicroBatch;
using worker::ModelConfig;
using worker::Pooling;
using worker::Positions;
using worker::Task;

namespace {

std::size_t at(index_t index) { return static_cast<std::size_t>(index); }

double log_sum_exp(const std::vector<double>& values) {
  const double maximum = *std::ranges::max_element(values);
  double sum = 0;
  for (const double value : values) sum += std::exp(value - maximum);
  return maximum + std::log(sum);
}

}  // namespace

BatchData random_batch(const ModelConfig& config, std::vector<index_t> lengths,
                       std::uint64_t seed) {
  const bool language = config.task == Task::language;
  BatchData batch;
  batch.length = config.length;
  batch.lengths = std::move(lengths);
  std::uint64_t draw = 0;
  const auto below = [&](index_t end) {
    return static_cast<std::int32_t>(uniform(seed, 1, draw++) * static_cast<double>(end));
  };
  for (std::size_t sequence = 0; sequence < batch.lengths.size(); ++sequence) {
    batch.samples.push_back(100 + static_cast<index_t>(sequence));
    for (index_t token = 0; token < config.length; ++token) {
      batch.tokens.push_back(below(config.vocabulary));
      if (!language) continue;
      batch.targets.push_back(token < batch.lengths[sequence] ? below(config.vocabulary) : -1);
    }
    if (!language) batch.targets.push_back(below(config.classes));
  }
  return batch;
}

BatchData part_of(const BatchData& batch, const ModelConfig& config, index_t begin, index_t end) {
  const auto cut = [&](const auto& values, index_t a_sequence) {
    return std::decay_t<decltype(values)>(values.begin() + begin * a_sequence,
                                          values.begin() + end * a_sequence);
  };
  return {batch.length, cut(batch.tokens, batch.length),
          cut(batch.targets, config.task == Task::language ? batch.length : 1),
          cut(batch.lengths, 1), cut(batch.samples, 1)};
}

struct Twin::Sequence {
  index_t index;   ///< its place in the batch
  index_t sample;  ///< global
  index_t length;  ///< tokens before padding
  std::uint64_t seed;
  bool training;
};

Twin::Rows Twin::linear(const Rows& x, const std::string& name) const {
  const Row& weight = parameter(name + ".weight");
  const auto bias = parameters_.find(name + ".bias");
  const std::size_t inputs = x[0].size();
  Rows out(x.size(), bias == parameters_.end() ? Row(weight.size() / inputs) : bias->second);
  for (std::size_t n = 0; n < x.size(); ++n) {
    for (std::size_t o = 0; o < out[n].size(); ++o) {
      for (std::size_t i = 0; i < inputs; ++i) out[n][o] += weight[o * inputs + i] * x[n][i];
    }
  }
  return out;
}

Twin::Rows Twin::from_inputs(const Rows& x, const std::string& name) const {
  const Row& weight = parameter(name + ".weight");
  Rows out(x.size(), parameter(name + ".bias"));
  for (std::size_t n = 0; n < x.size(); ++n) {
    for (std::size_t o = 0; o < out[n].size(); ++o) {
      for (std::size_t i = 0; i < x[n].size(); ++i) {
        out[n][o] += weight[i * out[n].size() + o] * x[n][i];
      }
    }
  }
  return out;
}

Twin::Rows Twin::norm(const Rows& x, const std::string& name) const {
  const Row& weight = parameter(name + ".weight");
  const Row& bias = parameter(name + ".bias");
  Rows out = x;
  for (Row& row : out) {
    double mean = 0;
    double variance = 0;
    const auto size = static_cast<double>(row.size());
    for (const double value : row) mean += value / size;
    for (const double value : row) variance += (value - mean) * (value - mean) / size;
    for (std::size_t c = 0; c < row.size(); ++c) {
      row[c] = (row[c] - mean) / std::sqrt(variance + 1e-5) * weight[c] + bias[c];
    }
  }
  return out;
}

void Twin::drop(Rows& x, const std::string& layer, const Sequence& sequence) const {
  if (!sequence.training || config_.dropout == 0) return;
  const std::uint64_t stream = random_word(sequence.seed, stream_of(layer + ".dropout"),
                                           static_cast<std::uint64_t>(sequence.sample));
  std::uint64_t element = 0;
  for (Row& row : x) {
    for (double& value : row) {
      const bool kept =
          uniform_float(sequence.seed, stream, element++) >= static_cast<float>(config_.dropout);
      value = kept ? value / (1 - config_.dropout) : 0;
    }
  }
}

Twin::Rows Twin::heads(const Rows& x, const Projections& from, index_t length) const {
  const auto tokens = static_cast<index_t>(x.size());
  Rows q = linear(x, from.names + "query");
  Rows k = linear(x, from.names + "key");
  const Rows v = linear(x, from.names + "value");
  const std::size_t size = at(config_.width / from.heads);
  Rows out(x.size(), Row(x[0].size(), 0.0));
  for (std::size_t first = 0; first < x[0].size(); first += size) {  // head by head
    for (std::size_t n = 0; n < x.size() && from.rotary; ++n) {
      for (std::size_t c = 0; c < size / 2; ++c) {
        const double angle = double(n) * std::pow(10000.0, -2.0 * double(c) / double(size));
        const double cosine = std::cos(angle), sine = std::sin(angle);
        for (Rows* rows : {&q, &k}) {
          double& a = (*rows)[n][first + c];
          double& b = (*rows)[n][first + c + size / 2];
          const double turned = a * cosine - b * sine;
          b = a * sine + b * cosine;
          a = turned;
        }
      }
    }
    for (index_t i = 0; i < tokens; ++i) {
      std::vector<index_t> seen;
      Row scores;
      for (index_t j = 0; j < tokens; ++j) {
        if (!worker::visible(i, j, length, sparsity_)) continue;
        double product = 0;
        for (std::size_t c = first; c < first + size; ++c) product += q[at(i)][c] * k[at(j)][c];
        seen.push_back(j);
        scores.push_back(product / std::sqrt(double(size)));
      }
      if (seen.empty()) continue;
      const double log_sum = log_sum_exp(scores);
      for (std::size_t s = 0; s < seen.size(); ++s) {
        for (std::size_t c = first; c < first + size; ++c) {
          out[at(i)][c] += std::exp(scores[s] - log_sum) * v[at(seen[s])][c];
        }
      }
    }
  }
  return out;
}

Twin::Rows Twin::attention(const Rows& x, const std::string& layer, index_t length) const {
  const bool rotary = config_.positions == Positions::rotary;
  Rows out = from_inputs(heads(x, {layer + ".", config_.heads, rotary}, length), layer + ".output");
  const GlobalForm form = config_.globals;
  if (form == GlobalForm::shared) return out;
  // For all tokens; what others than the global ones would get is thrown away.
  const Rows global_out =
      from_inputs(heads(x, {layer + ".global_", config_.branch_heads(), false}, length),
                  layer + (form == GlobalForm::split ? ".global_output" : ".output"));
  for (std::size_t i = 0; i < out.size(); ++i) {
    if (sparsity_.globals.holds(i)) out[i] = global_out[i];
  }
  return out;
}

Twin::Rows Twin::features(const MicroBatch& batch, const Sequence& sequence) const {
  const std::size_t width = at(config_.width);
  Rows x(at(batch.length), Row(width));
  const auto add = [](Rows& to, const Rows& from) {
    for (std::size_t n = 0; n < to.size(); ++n) {
      for (std::size_t c = 0; c < to[n].size(); ++c) to[n][c] += from[n][c];
    }
  };
  for (std::size_t n = 0; n < x.size(); ++n) {
    const auto token = at(batch.integers("tokens")[at(sequence.index * batch.length) + n]);
    for (std::size_t c = 0; c < width; ++c) {
      x[n][c] = parameter("embedding.weight")[token * width + c];
      if (config_.positions == Positions::learned) {
        x[n][c] += parameter("positions.weight")[n * width + c];
      }
    }
  }
  drop(x, "embedding", sequence);
  for (index_t layer = 0; layer < config_.layers; ++layer) {
    const std::string block = text("layers.", layer, ".");
    Rows branch =
        attention(norm(x, block + "attention_norm"), block + "attention", sequence.length);
    drop(branch, block + "attention", sequence);
    add(x, branch);
    branch = norm(x, block + "feed_forward_norm");
    branch = linear(branch, block + "feed_forward.up");
    for (Row& row : branch) {
      for (double& u : row) {
        const double inner = std::sqrt(2 / std::numbers::pi) * (u + 0.044715 * u * u * u);
        u = 0.5 * u * (1 + std::tanh(inner));
      }
    }
    branch = from_inputs(branch, block + "feed_forward.down");
    drop(branch, block + "feed_forward", sequence);
    add(x, branch);
  }
  return norm(x, "final_norm");
}

Twin::Row Twin::pooled(const Rows& x, index_t length) const {
  switch (config_.pooling) {
    case Pooling::mean: {
      Row mean(x[0].size());
      for (std::size_t n = 0; n < at(length); ++n) {
        for (std::size_t c = 0; c < mean.size(); ++c) mean[c] += x[n][c] / double(length);
      }
      return mean;
    }
    case Pooling::ends: {
      Row row = x[at(std::min(sparsity_.globals.first_other(), length - 1))];
      row.insert(row.end(), x[at(length - 1)].begin(), x[at(length - 1)].end());
      return row;
    }
  }
  WEIR_UNREACHABLE();
}

Twin::Rows Twin::project(const Rows& x) const {
  const Row& weight = parameter(config_.tied ? "embedding.weight" : "output.weight");
  Rows logits(x.size(), Row(at(config_.vocabulary)));
  for (std::size_t n = 0; n < x.size(); ++n) {
    for (std::size_t v = 0; v < logits[n].size(); ++v) {
      for (std::size_t c = 0; c < x[n].size(); ++c) {
        logits[n][v] += weight[v * x[n].size() + c] * x[n][c];
      }
    }
  }
  return logits;
}

std::vector<std::vector<double>> Twin::logits(const MicroBatch& batch, index_t sequence) const {
  return project(features(batch, {sequence, 0, batch.lengths[at(sequence)], 0, false}));
}

double Twin::loss(const MicroBatch& batch, std::uint64_t seed, bool training) const {
  double loss = 0;
  for (index_t b = 0; b < batch.sequences; ++b) {
    const index_t length = batch.lengths[at(b)];
    const Rows x = features(batch, {b, batch.samples[at(b)], length, seed, training});
    if (config_.task == Task::language) {
      const Rows logits = project(x);
      for (std::size_t n = 0; n < x.size(); ++n) {
        const std::int32_t target = batch.integers("targets")[at(b * batch.length) + n];
        if (target >= 0) loss += log_sum_exp(logits[n]) - logits[n][at(target)];
      }
    } else {
      const Row logits = linear({pooled(x, length)}, "classifier")[0];
      loss += log_sum_exp(logits) - logits[at(batch.integers("labels")[at(b)])];
    }
  }
  return loss;
}

Twin::Parameters Twin::gradients(const MicroBatch& batch, std::uint64_t seed) {
  Parameters result;
  for (auto& [name, values] : parameters_) {
    result[name] = slopes(values, [&] { return loss(batch, seed, true); });
  }
  return result;
}

}  // namespace weir::test
