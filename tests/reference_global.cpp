// The twins of the kernels for global rows, folded.
#include <algorithm>
#include <cmath>

#include "tests/reference.hpp"

namespace weir::reference {
namespace {

double& at(Vector v, index_t i) { return v[i]; }
double at(ConstVector v, index_t i) { return v[i]; }
index_t at(Lengths v, index_t i) { return v[i]; }

/// Whether row r sees column c of a run.
bool sees(Lengths limits, index_t first, ConstMatrix scores, index_t r, index_t c) {
  return first + c < at(limits, r / (scores.extent(0) / std::ssize(limits)));
}

}  // namespace

void fold(ConstMatrix a, ConstMatrix weights, index_t heads, double scale, Matrix folded) {
  const index_t channels = weights.extent(0) / heads;
  for (index_t row = 0; row < folded.extent(0); ++row) {
    for (index_t e = 0; e < folded.extent(1); ++e) {
      folded(row, e) = 0;
      for (index_t c = 0; c < channels; ++c) {
        const index_t feature = row % heads * channels + c;
        folded(row, e) += scale * a(row / heads, feature) * weights(feature, e);
      }
    }
  }
}

void unfold(ConstMatrix folded, ConstMatrix weights, index_t heads, double scale, Matrix out) {
  const index_t channels = weights.extent(0) / heads;
  for (index_t r = 0; r < out.extent(0); ++r) {
    for (index_t feature = 0; feature < out.extent(1); ++feature) {
      out(r, feature) = 0;
      for (index_t e = 0; e < weights.extent(1); ++e) {
        out(r, feature) += scale * weights(feature, e) * folded(r * heads + feature / channels, e);
      }
    }
  }
}

void add_fold_gradient(ConstMatrix a, ConstMatrix folded, index_t heads, double scale,
                       Matrix weights_gradient) {
  const index_t channels = weights_gradient.extent(0) / heads;
  for (index_t feature = 0; feature < weights_gradient.extent(0); ++feature) {
    for (index_t e = 0; e < weights_gradient.extent(1); ++e) {
      for (index_t r = 0; r < a.extent(0); ++r) {
        weights_gradient(feature, e) +=
            scale * a(r, feature) * folded(r * heads + feature / channels, e);
      }
    }
  }
}

void continue_softmax(Lengths limits, index_t first, Matrix scores, Vector maximum, Vector sum,
                      Matrix weighted) {
  for (index_t r = 0; r < scores.extent(0); ++r) {
    const double before = at(maximum, r);
    for (index_t c = 0; c < scores.extent(1); ++c) {
      if (sees(limits, first, scores, r, c)) {
        at(maximum, r) = std::max(at(maximum, r), scores(r, c));
      }
    }
    const double factor = at(sum, r) == 0 ? 0 : std::exp(before - at(maximum, r));
    at(sum, r) *= factor;
    for (index_t e = 0; e < weighted.extent(1); ++e) weighted(r, e) *= factor;
    for (index_t c = 0; c < scores.extent(1); ++c) {
      const bool seen = sees(limits, first, scores, r, c);
      scores(r, c) = seen ? std::exp(scores(r, c) - at(maximum, r)) : 0;
      at(sum, r) += scores(r, c);
    }
  }
}

void join_softmax(ConstVector parts, index_t count, Vector log_sum, Matrix mean) {
  const index_t rows = mean.extent(0);
  const index_t width = mean.extent(1);
  for (index_t r = 0; r < rows; ++r) {
    double all = 0;
    for (index_t e = 0; e < width; ++e) mean(r, e) = 0;
    for (index_t p = 0; p < count; ++p) {
      const ConstVector part = parts.subspan(p * rows * (width + 2));
      const double scale = std::exp(at(part, r));
      all += scale * at(part, rows + r);
      for (index_t e = 0; e < width; ++e) mean(r, e) += scale * at(part, 2 * rows + r * width + e);
    }
    at(log_sum, r) = std::log(all);
    for (index_t e = 0; e < width && all > 0; ++e) mean(r, e) /= all;
  }
}

void softmax_slopes(Lengths limits, index_t first, ConstVector log_sum, ConstVector mean_product,
                    Matrix scores, Matrix probability_gradients) {
  for (index_t r = 0; r < scores.extent(0); ++r) {
    for (index_t c = 0; c < scores.extent(1); ++c) {
      const bool seen = sees(limits, first, scores, r, c);
      const double p = seen ? std::exp(scores(r, c) - at(log_sum, r)) : 0;
      scores(r, c) = seen ? p * (probability_gradients(r, c) - at(mean_product, r)) : 0;
      probability_gradients(r, c) = p;
    }
  }
}

void row_products(ConstMatrix a, ConstMatrix b, Vector out) {
  for (index_t r = 0; r < a.extent(0); ++r) {
    at(out, r) = 0;
    for (index_t e = 0; e < a.extent(1); ++e) at(out, r) += a(r, e) * b(r, e);
  }
}

void scale_rows(ConstVector factors, Matrix rows) {
  for (index_t r = 0; r < rows.extent(0); ++r) {
    for (index_t c = 0; c < rows.extent(1); ++c) rows(r, c) *= at(factors, r);
  }
}

}  // namespace weir::reference
