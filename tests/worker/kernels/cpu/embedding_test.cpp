#include "tests/worker/kernels/kernel_test.hpp"

namespace weir::worker::test {
namespace {

TEST_CASE("rows of a shard's table are gathered and their gradients scattered back") {
  std::mt19937_64 random(61);
  CpuKernels kernels;
  const std::vector<std::int32_t> tokens{4, 9, 4, 0, 11, 5, 9, 4};
  for (const index_t columns : {1, 3, 16, 33}) {
    for (const index_t first_row : {0, 4, 9}) {
      CAPTURE(columns);
      CAPTURE(first_row);
      const Block table = Block(3, columns, 1).randomize(random);
      const Block before = Block(8, columns, 2).randomize(random);
      Block out = before;
      Exact exact(before);
      kernels.gather(tokens, table.view(), first_row, out.view());
      reference::gather(tokens, Exact(table).view(), first_row, exact.view());
      CHECK(distance(out, exact) <= 1);
      Block gradient = table;
      Exact exact_gradient(table);
      kernels.scatter_add(tokens, before.view(), first_row, gradient.view());
      reference::scatter_add(tokens, Exact(before).view(), first_row, exact_gradient.view());
      CHECK(distance(gradient, exact_gradient) <= 4);
    }
  }
}

TEST_CASE("mean pooling leaves out the padding, forward and backward, of parts too") {
  std::mt19937_64 random(62);
  for_each_target([&] {
    CpuKernels kernels;
    const std::vector<index_t> lengths{70, 1, 69, 0};
    for (const index_t columns : {1, 5, 16, 35}) {
      CAPTURE(columns);
      Block x = Block(4 * 70, columns, 1).randomize(random);
      std::ranges::fill(x.view().rows(70 + 1, 69).span(), kNan);  // sample 1's padding
      for (const index_t first : {0, 1, 60, 70}) {
        CAPTURE(first);
        Block out(4, columns, 1);
        Exact exact(4, columns);
        kernels.mean_pool(x.view(), lengths, first, out.view());
        reference::mean_pool(Exact(x).view(), lengths, first, exact.view());
        CHECK(distance(out, exact) < 2);
        Block gradient(4 * 70, columns, 1);
        Exact exact_gradient(4 * 70, columns);
        kernels.mean_pool_backward(out.view(), lengths, first, gradient.view());
        reference::mean_pool_backward(Exact(out).view(), lengths, first, exact_gradient.view());
        CHECK(distance(gradient, exact_gradient) <= 1);
      }
    }
  });
}

}  // namespace
}  // namespace weir::worker::test
