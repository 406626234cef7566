#pragma once

#include <random>
#include <string>
#include <vector>

#include "tests/worker/kernels/kernel_test.hpp"

namespace weir::worker::test {

/// One call of attention, forward and backward, and how it is cut.
struct AttentionCase {
  index_t heads = 1;
  index_t channels = 8;
  index_t tokens = 1;  ///< N of the whole sequences
  std::vector<index_t> lengths;
  Sparsity sparsity;
  std::vector<index_t> cuts = {};  ///< where the contexts but the first begin
  index_t strip = 1 << 20;         ///< tokens of a call

  index_t sequences() const { return std::ssize(lengths); }
  index_t width() const { return heads * channels; }
  bool does_globals() const { return sparsity.form == GlobalForm::shared; }
};

std::string describe(const AttentionCase& c);

/// A case drawn at random, without cuts.
AttentionCase random_case(std::mt19937_64& random, index_t most_tokens);

/// Results for the whole sequences: out [B * N, H C], log_sum [B * H * N], gradient [B * N, 3 H C].
/// A form that does not do global queries leaves 0 in their rows.
struct AttentionResult {
  std::vector<double> out, log_sum, gradient;
};

/// The kernels for elements of type T, context by context and strip by strip; every operand between
/// NaNs. qkv and upstream are rounded to T.
template <class T>
AttentionResult run_kernels(CpuKernels& kernels, const AttentionCase& c, const Block& qkv,
                            const Block& upstream);
/// The fp64 twin.
AttentionResult run_twin(const AttentionCase& c, const Block& qkv, const Block& upstream);
/// The same formulas in f32, dense and plain: what errors are measured in. score: the largest;
/// terms: of the gradients' elements the largest sum of absolute terms.
struct PlainResult : AttentionResult {
  double score = 0;
  double terms = 0;
};
PlainResult run_plain(const AttentionCase& c, const Block& qkv, const Block& upstream);

/// How errors are judged: at most 2 (forward) and 3 (gradients) times those of the plain
/// computation, which is the rule of FlashAttention's tests. In a small tensor the plain one may be
/// lucky; `small` therefore adds two epsilons of what is added up, times the largest score, by
/// which an exponential magnifies them. A low type adds an epsilon of its own, of gradients one and
/// a half: probabilities, outputs and gradients of scores are rounded to it on the way.
enum class Judge { small, strict };

/// Draws operands of type T (uniform in [-spread, spread)) with NaNs in the padding's keys and
/// values, runs the kernels twice (first on NaNs: what a call leaves in scratch memory must not
/// matter) and holds them against the twin, which gets the same operands.
template <class T = float>
void check_attention_case(const AttentionCase& c, std::mt19937_64& random, float spread = 2,
                          Judge judge = Judge::small);

}  // namespace weir::worker::test
