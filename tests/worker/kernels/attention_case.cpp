#include "tests/worker/kernels/attention_case.hpp"

#include "common/base/text.hpp"

namespace weir::worker::test {
namespace {

std::size_t at(index_t index) { return static_cast<std::size_t>(index); }

/// Copies columns [begin, begin + count) of a row.
template <class T>
void copy_columns(View<const float, 2> from, index_t from_row, index_t begin, index_t count,
                  View<T, 2> to, index_t to_row) {
  std::transform(from[from_row].data() + begin, from[from_row].data() + begin + count,
                 to[to_row].data(), rounded_to<T>);
}

/// What one context holds, and what it makes of it.
template <class T>
struct Part {
  Interval run;  ///< its positions
  index_t left, right, globals;
  BlockOf<T> qkv, before, after, global_rows, out;
  Block log_sum, sums;
  BlockOf<T> gradient, before_gradient, after_gradient;
  Block global_gradient;
};

template <class T>
Part<T> make_part(const AttentionCase& c, const Block& qkv, Interval run) {
  const index_t batch = c.sequences();
  const index_t width = c.width();
  const index_t right_reach = c.sparsity.causal ? 0 : c.sparsity.right;
  const index_t left = std::min(c.sparsity.left, run.begin);
  const index_t right = std::min(right_reach, c.tokens - run.end);
  const index_t globals = c.sparsity.form == GlobalForm::split ? 0 : c.sparsity.globals.count();
  const index_t sums = c.does_globals() ? batch * c.heads * globals : 0;
  const index_t n = run.count();
  Part<T> part{run,
               left,
               right,
               globals,
               BlockOf<T>(batch * n, 3 * width, 1),
               BlockOf<T>(batch * left, 2 * width, 3),
               BlockOf<T>(batch * right, 2 * width, 1),
               BlockOf<T>(batch * globals, 3 * width, 2),
               BlockOf<T>(batch * n, width, 3),
               Block(1, batch * c.heads * n),
               Block(1, sums * (c.channels + 2), 1),
               BlockOf<T>(batch * n, 3 * width, 2),
               BlockOf<T>(batch * left, 2 * width).fill(0),
               BlockOf<T>(batch * right, 2 * width, 1).fill(0),
               Block(batch * globals, 3 * width, 3).fill(0)};
  for (index_t b = 0; b < batch; ++b) {
    const index_t row = b * c.tokens;
    for (index_t i = 0; i < n; ++i) {
      copy_columns(qkv.view(), row + run.begin + i, 0, 3 * width, part.qkv.view(), b * n + i);
    }
    for (index_t i = 0; i < left; ++i) {
      copy_columns(qkv.view(), row + run.begin - left + i, width, 2 * width, part.before.view(),
                   b * left + i);
    }
    for (index_t i = 0; i < right; ++i) {
      copy_columns(qkv.view(), row + run.end + i, width, 2 * width, part.after.view(),
                   b * right + i);
    }
    for (index_t g = 0; g < globals; ++g) {
      const index_t position = c.sparsity.globals.positions()[at(g)];
      const index_t to = b * globals + g;
      if (position < c.tokens) {
        copy_columns(qkv.view(), row + position, 0, 3 * width, part.global_rows.view(), to);
      } else {
        std::ranges::fill(part.global_rows.view()[to].span(), T{});
      }
    }
  }
  return part;
}

template <class T>
AttentionInput input_of(const AttentionCase& c, const Part<T>& part) {
  return {.heads = c.heads,
          .first = part.run.begin,
          .lengths = c.lengths,
          .sparsity = &c.sparsity,
          .qkv = part.qkv.view(),
          .before = part.before.view(),
          .after = part.after.view(),
          .globals = part.global_rows.view()};
}

template <class T, class Function>
void each_strip(const AttentionCase& c, const Part<T>& part, const Function& function) {
  for (index_t begin = 0; begin < part.run.count(); begin += c.strip) {
    const Interval tokens{begin, std::min(begin + c.strip, part.run.count())};
    if (begin == 0 && tokens.end == part.run.count()) {
      function(AttentionStrip{0, c.sequences(), tokens});
      continue;
    }
    for (index_t b = 0; b < c.sequences(); ++b) function(AttentionStrip{b, 1, tokens});
  }
}

double largest_error(const std::vector<double>& got, const std::vector<double>& want) {
  REQUIRE(got.size() == want.size());
  double largest = 0;
  for (std::size_t i = 0; i < got.size(); ++i) {
    if (got[i] == want[i]) continue;  // infinities, too
    const double error = std::abs(got[i] - want[i]);
    largest =
        std::isnan(error) ? std::numeric_limits<double>::infinity() : std::max(largest, error);
  }
  return largest;
}

double magnitude_of(const std::vector<double>& values) {
  double largest = 0;
  for (const double value : values) {
    if (std::isfinite(value)) largest = std::max(largest, std::abs(value));
  }
  return largest;
}

void clear_global_rows(const AttentionCase& c, index_t columns, std::span<double> values) {
  if (c.does_globals()) return;
  for (index_t b = 0; b < c.sequences(); ++b) {
    for (const index_t position : c.sparsity.globals.positions()) {
      if (position >= c.tokens) break;
      std::ranges::fill(values.subspan(at((b * c.tokens + position) * columns), at(columns)), 0.0);
    }
  }
}

}  // namespace

std::string describe(const AttentionCase& c) {
  std::string words =
      text("heads ", c.heads, " channels ", c.channels, " tokens ", c.tokens, " left ",
           c.sparsity.left, " right ", c.sparsity.right, c.sparsity.causal ? " causal" : "",
           " form ", static_cast<int>(c.sparsity.form), " strip ", c.strip, " globals");
  for (const index_t position : c.sparsity.globals.positions()) words += text(" ", position);
  words += " lengths";
  for (const index_t length : c.lengths) words += text(" ", length);
  words += " cuts";
  for (const index_t cut : c.cuts) words += text(" ", cut);
  return words;
}

AttentionCase random_case(std::mt19937_64& random, index_t most_tokens) {
  const auto draw = [&](index_t most) {
    return std::uniform_int_distribution<index_t>(0, most)(random);
  };
  AttentionCase c;
  c.heads = 1 + draw(2);
  c.channels = 1 + draw(20);
  c.tokens = 1 + draw(most_tokens - 1);
  for (index_t b = 0; b <= draw(2); ++b) c.lengths.push_back(draw(c.tokens));
  std::vector<index_t> positions;
  for (index_t g = draw(6) - 2; g > 0; --g) positions.push_back(draw(c.tokens + 2));
  c.sparsity = {draw(40), draw(40), Globals(positions), draw(1) == 0, GlobalForm(draw(2))};
  return c;
}

template <class T>
AttentionResult run_kernels(CpuKernels& kernels, const AttentionCase& c, const Block& qkv,
                            const Block& upstream) {
  const index_t batch = c.sequences();
  const index_t width = c.width();
  std::vector<Part<T>> parts;
  for (std::size_t i = 0; i <= c.cuts.size(); ++i) {
    parts.push_back(make_part<T>(
        c, qkv, {i == 0 ? 0 : c.cuts[i - 1], i == c.cuts.size() ? c.tokens : c.cuts[i]}));
  }
  std::vector<float> sums;
  for (Part<T>& part : parts) {
    each_strip(c, part, [&](const AttentionStrip& strip) {
      kernels.attention(input_of(c, part), strip, part.out.view(), part.log_sum.span(),
                        part.sums.span());
    });
    sums.insert(sums.end(), part.sums.span().begin(), part.sums.span().end());
  }
  const index_t queries = c.does_globals() ? c.sparsity.globals.count() : 0;
  BlockOf<T> global_out(batch * queries, width, 1);
  Block global_log_sum(1, batch * c.heads * queries);
  BlockOf<T> global_upstream = BlockOf<T>(batch * queries, width, 3).fill(0);
  if (queries > 0) {
    kernels.join_softmax(
        sums, std::ssize(parts), global_log_sum.span(),
        View<T, 2>(global_out.view().data(), {batch * queries * c.heads, c.channels}));
  }
  AttentionResult result;
  result.out.resize(at(batch * c.tokens * width));
  result.log_sum.resize(at(batch * c.heads * c.tokens));
  result.gradient.resize(at(batch * c.tokens * 3 * width));
  const auto to_double = [](T value) { return double{float_of(value)}; };
  const auto whole_row = [&](index_t b, index_t position, index_t columns) {
    return at((b * c.tokens + position) * columns);
  };
  for (const Part<T>& part : parts) {
    REQUIRE(part.out.intact());
    REQUIRE(part.log_sum.intact());
    REQUIRE(part.sums.intact());
    const index_t n = part.run.count();
    for (index_t b = 0; b < batch; ++b) {
      std::ranges::transform(
          part.out.view().rows(b * n, n).span(),
          result.out.begin() + std::ptrdiff_t(whole_row(b, part.run.begin, width)), to_double);
      for (index_t h = 0; h < c.heads; ++h) {
        std::copy_n(part.log_sum.span().data() + (b * c.heads + h) * n, n,
                    result.log_sum.begin() + (b * c.heads + h) * c.tokens + part.run.begin);
      }
    }
  }
  for (index_t b = 0; b < batch; ++b) {
    for (index_t g = 0; g < queries; ++g) {
      const index_t position = c.sparsity.globals.positions()[at(g)];
      if (position >= c.tokens) break;
      std::ranges::transform(global_out.view()[b * queries + g].span(),
                             result.out.begin() + std::ptrdiff_t(whole_row(b, position, width)),
                             to_double);
      copy_columns(upstream.view(), b * c.tokens + position, 0, width, global_upstream.view(),
                   b * queries + g);
      for (index_t h = 0; h < c.heads; ++h) {
        result.log_sum[at((b * c.heads + h) * c.tokens + position)] =
            global_log_sum.span()[at((b * queries + g) * c.heads + h)];
      }
    }
  }

  const auto add = [&](const auto& rows, index_t row, index_t b, index_t position, index_t begin) {
    if (position >= c.tokens) return;
    const index_t columns = rows.view().extent(1);
    for (index_t k = 0; k < columns; ++k) {
      result.gradient[whole_row(b, position, 3 * width) + at(begin + k)] += rows(row, k);
    }
  };
  for (Part<T>& part : parts) {
    const index_t n = part.run.count();
    each_strip(c, part, [&](const AttentionStrip& strip) {
      const index_t rows = strip.tokens.count();
      BlockOf<T> strip_upstream(strip.sequences * rows, width, 2);
      for (index_t b = 0; b < strip.sequences; ++b) {
        for (index_t i = 0; i < rows; ++i) {
          copy_columns(
              upstream.view(),
              (strip.first_sequence + b) * c.tokens + part.run.begin + strip.tokens.begin + i, 0,
              width, strip_upstream.view(), b * rows + i);
        }
      }
      kernels.attention_backward(input_of(c, part), strip,
                                 {part.out.view(), part.log_sum.span(), strip_upstream.view(),
                                  global_out.view(), global_log_sum.span(), global_upstream.view()},
                                 {part.gradient.view(), part.before_gradient.view(),
                                  part.after_gradient.view(), part.global_gradient.view()});
    });
    for (const auto* each : {&part.gradient, &part.before_gradient, &part.after_gradient}) {
      REQUIRE(each->intact());
    }
    REQUIRE(part.global_gradient.intact());
    for (index_t b = 0; b < batch; ++b) {
      for (index_t i = 0; i < n; ++i) add(part.gradient, b * n + i, b, part.run.begin + i, 0);
      for (index_t i = 0; i < part.left; ++i) {
        add(part.before_gradient, b * part.left + i, b, part.run.begin - part.left + i, width);
      }
      for (index_t i = 0; i < part.right; ++i) {
        add(part.after_gradient, b * part.right + i, b, part.run.end + i, width);
      }
      for (index_t g = 0; g < part.globals; ++g) {
        add(part.global_gradient, b * part.globals + g, b, c.sparsity.globals.positions()[at(g)],
            0);
      }
    }
  }
  return result;
}

AttentionResult run_twin(const AttentionCase& c, const Block& qkv, const Block& upstream) {
  Exact out(c.sequences() * c.tokens, c.width());
  Exact log_sum(1, c.sequences() * c.heads * c.tokens);
  Exact gradient(c.sequences() * c.tokens, 3 * c.width());
  Exact given(upstream);
  clear_global_rows(c, c.width(), given.span());
  reference::attention(Exact(qkv).view(), c.heads, c.lengths, c.sparsity, out.view(),
                       log_sum.span());
  reference::attention_backward(Exact(qkv).view(), c.heads, c.lengths, c.sparsity,
                                std::as_const(given).view(), gradient.view());
  clear_global_rows(c, c.width(), out.span());
  const auto values = [](auto span) { return std::vector<double>(span.begin(), span.end()); };
  AttentionResult result{values(out.span()), values(log_sum.span()), values(gradient.span())};
  for (index_t b = 0; b < c.sequences() && !c.does_globals(); ++b) {
    for (const index_t position : c.sparsity.globals.positions()) {
      for (index_t h = 0; h < c.heads && position < c.tokens; ++h) {
        result.log_sum[at((b * c.heads + h) * c.tokens + position)] =
            -std::numeric_limits<double>::infinity();
      }
    }
  }
  return result;
}

template <class T>
void check_attention_case(const AttentionCase& c, std::mt19937_64& random, float spread,
                          Judge judge) {
  INFO(describe(c));
  const index_t batch = c.sequences();
  const auto drawn = [&](index_t columns, float most) {
    Block values = Block(batch * c.tokens, columns).randomize(random, most);
    for (float& value : values.span()) value = float_of(rounded_to<T>(value));
    return values;
  };
  Block qkv = drawn(3 * c.width(), spread);
  for (index_t b = 0; b < batch; ++b) {
    for (index_t i = c.lengths[at(b)]; i < c.tokens; ++i) {
      std::ranges::fill(qkv.view()[b * c.tokens + i].span().subspan(at(c.width())), kNan);
    }
  }
  const Block upstream = drawn(c.width(), 1);
  CpuKernels kernels;
  run_kernels<T>(kernels, c, Block(batch * c.tokens, 3 * c.width()),
                 Block(batch * c.tokens, c.width()));
  const AttentionResult found = run_kernels<T>(kernels, c, qkv, upstream);
  const AttentionResult truth = run_twin(c, qkv, upstream);
  const PlainResult plain = run_plain(c, qkv, upstream);
  const double unit = judge == Judge::small ? 2 * kEpsilon<float> * (1 + plain.score) : 0;
  const double rounding = kDtypeOf<T> == Dtype::f32 ? 0 : kEpsilon<T> / 2;
  CHECK(largest_error(found.out, truth.out) <=
        2 * largest_error(plain.out, truth.out) + (unit + 2 * rounding) * magnitude_of(truth.out));
  CHECK(largest_error(found.log_sum, truth.log_sum) <=
        2 * largest_error(plain.log_sum, truth.log_sum) + unit);
  CHECK(largest_error(found.gradient, truth.gradient) <=
        3 * largest_error(plain.gradient, truth.gradient) + (unit + 3 * rounding) * plain.terms);
}

template AttentionResult run_kernels<float>(CpuKernels&, const AttentionCase&, const Block&,
                                            const Block&);
template AttentionResult run_kernels<Bf16>(CpuKernels&, const AttentionCase&, const Block&,
                                           const Block&);
template AttentionResult run_kernels<Fp16>(CpuKernels&, const AttentionCase&, const Block&,
                                           const Block&);
template void check_attention_case<float>(const AttentionCase&, std::mt19937_64&, float, Judge);
template void check_attention_case<Bf16>(const AttentionCase&, std::mt19937_64&, float, Judge);
template void check_attention_case<Fp16>(const AttentionCase&, std::mt19937_64&, float, Judge);

}  // namespace weir::worker::test
