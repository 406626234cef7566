#include "worker/layers/attention.hpp"

#include "common/base/error.hpp"

namespace weir::worker {

static GlobalBranchShape branch_shape(const AttentionShape& shape) {
  return {.sequences = shape.sequences,
          .tokens = shape.rows / shape.sequences,
          .globals = shape.globals,
          .heads = shape.branch_heads,
          .head_size = shape.part() / shape.branch_heads,
          .width = shape.width,
          .contexts = shape.contexts,
          .strip_tokens = shape.branch_strip_tokens,
          .dtype = shape.dtype};
}

void AttentionActivations::take(Pieces& pieces, const AttentionShape& shape) {
  const index_t part = shape.part();
  qkv = pieces.matrix(shape.rows, 3 * part, shape.dtype);
  out = pieces.matrix(shape.rows, part, shape.dtype);
  log_sum = pieces.vector(shape.rows * shape.heads);
  before = pieces.matrix(shape.sequences * shape.left, 2 * part, shape.dtype);
  after = pieces.matrix(shape.sequences * shape.right, 2 * part, shape.dtype);
  globals = pieces.matrix(shape.global_rows(), 3 * part, shape.dtype);
  global_out = pieces.matrix(shape.global_rows(), part, shape.dtype);
  global_log_sum = pieces.vector(shape.global_rows() * shape.heads);
  if (shape.branch_heads > 0) branch.take(pieces, branch_shape(shape));
}

void AttentionScratch::take(Pieces& pieces, const AttentionShape& shape) {
  const index_t width = shape.part();
  const index_t softmax = shape.global_rows() * shape.heads * (shape.head_size + 2);
  strip_tokens = shape.strip_tokens;
  // A strip may be several short sequences.
  heads_gradient = pieces.matrix(std::min(shape.rows, strip_tokens), width, shape.dtype);
  part = pieces.vector(softmax);
  parts = pieces.vector(shape.contexts * softmax);
  global_rows = pieces.matrix(shape.global_rows(), shape.width, shape.dtype);
  global_heads_gradient = pieces.matrix(shape.global_rows(), width, shape.dtype);
  globals_gradient = pieces.matrix(shape.global_rows(), 3 * width);
  globals_rows_gradient = shape.dtype == Dtype::f32
                              ? globals_gradient
                              : pieces.matrix(shape.global_rows(), 3 * width, shape.dtype);
  before_gradient = pieces.matrix(shape.sequences * shape.left, 2 * width, shape.dtype);
  after_gradient = pieces.matrix(shape.sequences * shape.right, 2 * width, shape.dtype);
  first_border = pieces.matrix(shape.sequences * shape.right, 2 * width, shape.dtype);
  last_border = pieces.matrix(shape.sequences * shape.left, 2 * width, shape.dtype);
  if (shape.branch_heads > 0) branch.take(pieces, branch_shape(shape));
}

namespace {

/// Rows of a run of tokens in each sequence of the micro-batch.
std::vector<index_t> rows_of(const MicroBatch& batch, Interval tokens) {
  std::vector<index_t> rows;
  for (index_t b = 0; b < batch.sequences; ++b) {
    for (index_t i = tokens.begin; i < tokens.end; ++i) rows.push_back(b * batch.length + i);
  }
  return rows;
}

/// Calls function(strip, its rows) for all tokens of the micro-batch. A strip is a part of a
/// sequence, or several short ones.
template <class Function>
void each_strip(const MicroBatch& batch, index_t tokens, const Function& function) {
  const index_t length = batch.length;
  if (length <= tokens) {
    const index_t together = tokens / length;
    for (index_t b = 0; b < batch.sequences; b += together) {
      const index_t count = std::min(together, batch.sequences - b);
      function(AttentionStrip{b, count, {0, length}}, Interval{b * length, (b + count) * length});
    }
    return;
  }
  for (index_t b = 0; b < batch.sequences; ++b) {
    for (index_t begin = 0; begin < length; begin += tokens) {
      const Interval run{begin, std::min(begin + tokens, length)};
      function(AttentionStrip{b, 1, run}, Interval{b * length + run.begin, b * length + run.end});
    }
  }
}

}  // namespace

/// What one forward or backward of a micro-batch uses: its input, and which rows go where.
struct AttentionLayer::Call {
  Call(const AttentionLayer& of, const Pass& with, const MicroBatch& micro_batch,
       const AttentionActivations& kept)
      : layer(of),
        pass(with),
        batch(micro_batch),
        is_cut(with.contexts.size() > 1),
        has_previous(with.contexts.index() > 0),
        has_next(with.contexts.index() + 1 < with.contexts.size()),
        left(of.sparsity.left),
        right(of.sparsity.right_reach()),
        rows_of_globals(micro_batch.rows_of(of.sparsity.globals.positions())) {
    for (index_t row = 0; row < std::ssize(rows_of_globals); ++row) {
      const index_t number = row % globals().count();
      const bool is_here = rows_of_globals[row] >= 0;
      positions_here.push_back(is_here ? globals().positions()[number] : -1);
      if (!is_here) elsewhere.push_back(row);
    }
    const index_t rows = batch.rows();
    const index_t global_rows =
        layer.sparsity.form == GlobalForm::split ? 0 : batch.sequences * globals().count();
    input = {.heads = layer.heads,
             .first = batch.first,
             .lengths = batch.lengths,
             .sparsity = &layer.sparsity,
             .qkv = kept.qkv.rows(0, rows),
             .before = kept.before.rows(0, has_previous ? batch.sequences * left : 0),
             .after = kept.after.rows(0, has_next ? batch.sequences * right : 0),
             .globals = kept.globals.rows(0, global_rows)};
    WEIR_ASSERT(!is_cut || batch.length >= std::max(left, right));
  }

  const Globals& globals() const { return layer.sparsity.globals; }
  index_t global_rows() const { return batch.sequences * globals().count(); }
  index_t global_sums() const { return global_rows() * layer.heads; }
  /// rows_of_globals, -1 for those outside of a run of rows.
  std::vector<index_t> rows_of_globals_in(Interval run) const {
    std::vector<index_t> rows = rows_of_globals;
    for (index_t& row : rows) {
      if (!run.holds(row)) row = -1;
    }
    return rows;
  }
  /// The first rows of each sequence that the previous context sees, the last that the next sees.
  std::vector<index_t> first_rows() const { return rows_of(batch, {0, has_previous ? right : 0}); }
  std::vector<index_t> last_rows() const {
    return rows_of(batch, {batch.length - (has_next ? left : 0), batch.length});
  }

  /// Rotates these rows of qkv: whole sequences, or a part of one.
  void rotate(Matrix qkv, Interval rows, int direction) const {
    if (!layer.rotary || rows.count() == 0) return;
    const bool is_whole = rows.begin % batch.length == 0 && rows.count() % batch.length == 0;
    const index_t first = is_whole ? 0 : rows.begin % batch.length;
    pass.kernels.rotate(qkv.rows(rows.begin, rows.count()), layer.heads, batch.first + first,
                        is_whole ? batch.length : rows.count(), direction);
  }
  /// Rotates rows of global tokens, each by its place.
  void rotate_globals(Matrix rows, int direction) const {
    if (layer.rotary) pass.kernels.rotate_rows(rows, layer.heads, positions_here, direction);
  }

  void project(ConstMatrix x, Matrix qkv, Interval rows) const {
    if (rows.count() == 0) return;
    layer.query_key_value.forward(pass, x.rows(rows.begin, rows.count()),
                                  qkv.rows(rows.begin, rows.count()));
    rotate(qkv, rows, 1);
  }

  /// Computes queries, keys and values of the global tokens, on every context.
  void project_globals(ConstMatrix x, Matrix x_rows, Matrix to) const {
    if (to.extent(0) == 0) return;
    pass.kernels.gather_rows(x, rows_of_globals, 0, x_rows);
    layer.query_key_value.forward(pass, x_rows, to);
    rotate_globals(to, 1);
    pass.kernels.fill_rows(elsewhere, 0, to);  // each is added up from the context that has it
    pass.contexts.sum(to.flat());
  }

  /// Swaps keys and values of the borders with the neighbours.
  void swap_borders(const AttentionActivations& kept, const AttentionScratch& scratch) const {
    const auto first = first_rows();
    const auto last = last_rows();
    const Matrix to_previous = scratch.first_border.rows(0, std::ssize(first));
    const Matrix to_next = scratch.last_border.rows(0, std::ssize(last));
    pass.kernels.gather_rows(input.qkv, first, input.width(), to_previous);
    pass.kernels.gather_rows(input.qkv, last, input.width(), to_next);
    pass.contexts.exchange(to_previous.flat(), to_next.flat(),
                           kept.before.rows(0, input.before.extent(0)).flat(),
                           kept.after.rows(0, input.after.extent(0)).flat());
  }

  /// Swaps the gradients of the borders' keys and values, and adds the neighbours' share.
  void swap_border_gradients(const AttentionScratch& scratch, Matrix qkv_gradient) const {
    const auto first = first_rows();
    const auto last = last_rows();
    const Matrix from_previous = scratch.first_border.rows(0, std::ssize(first));
    const Matrix from_next = scratch.last_border.rows(0, std::ssize(last));
    pass.contexts.exchange(scratch.before_gradient.rows(0, input.before.extent(0)).flat(),
                           scratch.after_gradient.rows(0, input.after.extent(0)).flat(),
                           from_previous.flat(), from_next.flat());
    pass.kernels.scatter_rows(from_previous, first, input.width(), true, qkv_gradient);
    pass.kernels.scatter_rows(from_next, last, input.width(), true, qkv_gradient);
  }

  const AttentionLayer& layer;
  const Pass& pass;
  const MicroBatch& batch;
  bool is_cut;
  bool has_previous;
  bool has_next;
  index_t left;
  index_t right;
  std::vector<index_t> rows_of_globals;  ///< [B * G], -1: not on this context
  std::vector<index_t> positions_here;   ///< [B * G], -1 likewise
  std::vector<index_t> elsewhere;        ///< those of the B * G that are not on this context
  AttentionInput input;
};

void AttentionLayer::forward(const Pass& pass, const MicroBatch& batch, ConstMatrix x,
                             const AttentionActivations& kept, const AttentionScratch& scratch,
                             Matrix out) const {
  const Call call(*this, pass, batch, kept);
  const Matrix qkv = kept.qkv.rows(0, batch.rows());
  const Matrix heads_out = kept.out.rows(0, batch.rows());
  const index_t global_rows = call.global_rows();
  const Matrix x_rows = scratch.global_rows.rows(0, global_rows);
  // Global tokens first: every strip attends to their keys and values.
  call.project_globals(x, x_rows, kept.globals.rows(0, call.input.globals.extent(0)));
  index_t projected = 0;
  if (call.is_cut) {  // neighbours wait for the borders
    projected = batch.rows();
    call.project(x, qkv, {0, projected});
    call.swap_borders(kept, scratch);
  }
  const index_t softmaxes = batch.sequences * call.input.global_queries() * heads;
  const index_t floats = softmaxes * (call.input.channels() + 2);
  const Vector part = scratch.part.first(floats);
  // Strip by strip: project the tokens whose keys it sees and that are not projected yet, attend,
  // and multiply by the output weights, while all of that is in the cache.
  each_strip(batch, scratch.strip_tokens, [&](const AttentionStrip& strip, Interval rows) {
    const index_t end_of_sequence = (rows.end + batch.length - 1) / batch.length * batch.length;
    const index_t reached = std::min(end_of_sequence, rows.end + call.right);
    call.project(x, qkv, {projected, std::max(projected, reached)});
    projected = std::max(projected, reached);
    pass.kernels.attention(call.input, strip, heads_out, kept.log_sum.first(batch.rows() * heads),
                           part);
    output.multiply(pass, heads_out.rows(rows.begin, rows.count()),
                    out.rows(rows.begin, rows.count()));
  });
  // Global queries: join what each context has of their softmax, then put their outputs in the
  // place of the zeros that the local attention left in their rows.
  const Matrix global_out = kept.global_out.rows(0, global_rows);
  if (softmaxes > 0) {
    const Vector parts = scratch.parts.first(pass.contexts.size() * floats);
    pass.contexts.gather(part, parts);
    pass.kernels.join_softmax(parts, pass.contexts.size(),
                              kept.global_log_sum.first(call.global_sums()),
                              Matrix(global_out.flat(), softmaxes, call.input.channels()));
  }
  if (branch) branch->forward(pass, batch, x, kept.branch, scratch.branch, global_out);
  if (global_rows > 0) {
    const RowLinear& projection = branch_output ? *branch_output : output;
    if (!branch_output) {
      pass.kernels.scatter_rows(global_out, call.rows_of_globals, 0, false, heads_out);
    }
    projection.multiply(pass, global_out, x_rows);
    pass.kernels.scatter_rows(x_rows, call.rows_of_globals, 0, false, out);
  }
  // One sum over the shards. The two output projections have biases of their own.
  output.sum(pass, out);
  const std::vector<index_t> own_rows_of_globals =
      call.rows_of_globals_in(pass.shards.own_rows(batch.rows()));
  if (branch_output) pass.kernels.gather_rows(out, own_rows_of_globals, 0, x_rows);
  output.add_bias(pass, pass.shards.own_rows(out));
  if (branch_output) {
    branch_output->add_bias(pass, x_rows);
    pass.kernels.scatter_rows(x_rows, own_rows_of_globals, 0, false, out);
  }
}

void AttentionLayer::backward(const Pass& pass, const MicroBatch& batch,
                              const AttentionActivations& kept, ConstMatrix x, Matrix out_gradient,
                              const AttentionScratch& scratch, Matrix qkv_gradient,
                              Matrix x_gradient) const {
  const Call call(*this, pass, batch, kept);
  const index_t rows_here = batch.rows();
  const index_t global_rows = call.global_rows();
  const bool does_globals = call.input.global_queries() > 0;
  const Matrix global_rows_gradient = scratch.global_rows.rows(0, global_rows);
  const Matrix global_heads_gradient = scratch.global_heads_gradient.rows(0, global_rows);
  // The gradients of the global queries' outputs, on every context: each attends to its own keys.
  if (global_rows > 0) {
    pass.kernels.gather_rows(out_gradient, call.rows_of_globals, 0, global_rows_gradient);
    const RowLinear& projection = branch_output ? *branch_output : output;
    projection.backward(pass, global_rows_gradient, global_heads_gradient);
    pass.contexts.sum(global_heads_gradient.flat());
  }
  if (branch_output) {  // nothing of these rows went through the local projection
    branch_output->weight_gradient(pass, global_rows_gradient,
                                   kept.global_out.rows(0, global_rows));
    pass.kernels.fill_rows(call.rows_of_globals, 0, out_gradient);
  }
  const AttentionGradients gradients{
      .qkv = qkv_gradient,
      .before = scratch.before_gradient.rows(0, call.input.before.extent(0)),
      .after = scratch.after_gradient.rows(0, call.input.after.extent(0)),
      .globals = scratch.globals_gradient.rows(0, call.input.globals.extent(0))};
  for (const Matrix& elsewhere : {gradients.before, gradients.after, gradients.globals}) {
    pass.kernels.fill(elsewhere.flat(), 0);
  }
  // Strip by strip as forward went. A key's gradient is complete when the last strip that sees it
  // is done: `left` tokens later, or where a context's neighbours add theirs, at the end.
  index_t finished = 0;
  const auto finish = [&](index_t end) {  // rows of qkv_gradient that are complete
    const Interval rows{finished, std::max(finished, end)};
    if (rows.count() == 0) return;
    call.rotate(qkv_gradient, rows, -1);
    query_key_value.backward(pass, qkv_gradient.rows(rows.begin, rows.count()),
                             x_gradient.rows(rows.begin, rows.count()));
    finished = rows.end;
  };
  each_strip(batch, scratch.strip_tokens, [&](const AttentionStrip& strip, Interval rows) {
    const Matrix heads_gradient = scratch.heads_gradient.rows(0, rows.count());
    output.backward(pass, out_gradient.rows(rows.begin, rows.count()), heads_gradient);
    pass.kernels.attention_backward(
        call.input, strip,
        {.out = kept.out.rows(0, rows_here),
         .log_sum = kept.log_sum.first(rows_here * heads),
         .out_gradient = heads_gradient,
         .global_out = kept.global_out.rows(0, does_globals ? global_rows : 0),
         .global_log_sum = kept.global_log_sum.first(does_globals ? call.global_sums() : 0),
         .global_out_gradient = global_heads_gradient.rows(0, does_globals ? global_rows : 0)},
        gradients);
    const bool ends_sequence = rows.end % batch.length == 0;
    if (!call.is_cut) finish(ends_sequence ? rows.end : rows.end - call.left);
  });
  if (call.is_cut) {
    call.swap_border_gradients(scratch, qkv_gradient);
    finish(rows_here);
  }
  // The gradients of the copies of global keys and values go to the rows that they were made of.
  if (gradients.globals.extent(0) > 0) {
    const Matrix globals_gradient =
        scratch.globals_rows_gradient.rows(0, gradients.globals.extent(0));
    pass.contexts.sum(gradients.globals.flat());
    call.rotate_globals(gradients.globals, -1);
    if (globals_gradient.dtype() != Dtype::f32) {
      pass.kernels.copy(gradients.globals.flat(), globals_gradient.flat());
    }
    pass.kernels.scatter_rows(globals_gradient, call.rows_of_globals, 0, true, qkv_gradient);
    query_key_value.backward(pass, globals_gradient, global_rows_gradient);
    pass.kernels.scatter_rows(global_rows_gradient, call.rows_of_globals, 0, true, x_gradient);
  }
  if (branch) {
    branch->backward(pass, batch, kept.branch, x, global_heads_gradient, scratch.branch,
                     x_gradient);
  }
}

void AttentionLayer::weight_gradient(const Pass& pass, const AttentionActivations& kept,
                                     ConstMatrix x, ConstMatrix out_gradient,
                                     ConstMatrix qkv_gradient) const {
  output.weight_gradient(pass, out_gradient, kept.out.rows(0, out_gradient.extent(0)));
  query_key_value.weight_gradient(pass, qkv_gradient, x);
}

}  // namespace weir::worker
