#include "tests/worker/kernels/kernel_test.hpp"

namespace weir::worker::test {
namespace {

TEST_CASE("rows of a shard's table are gathered and their gradients scattered back") {
  std::mt19937_64 random(61);
  const std::vector<std::int32_t> tokens{4, 9, 4, 0, 11, 5, 9, 4};
  for_each_path([&]<class T>() {
    CpuKernels kernels;
    for (const index_t columns : {1, 3, 16, 33}) {
      for (const index_t first_row : {0, 4, 9}) {
        CAPTURE(columns);
        CAPTURE(first_row);
        const BlockOf<T> table = BlockOf<T>(3, columns, 1).randomize(random);
        const BlockOf<T> before = BlockOf<T>(8, columns, 2).randomize(random);
        BlockOf<T> out = before;
        Exact exact(before);
        kernels.gather(tokens, table.view(), first_row, out.view());
        reference::gather(tokens, Exact(table).view(), first_row, exact.view());
        CHECK(distance(out, exact) <= 1);
        Block gradient = Block(3, columns, 1).randomize(random);
        Exact exact_gradient(gradient);
        kernels.scatter_add(tokens, before.view(), first_row, gradient.view());
        reference::scatter_add(tokens, Exact(before).view(), first_row, exact_gradient.view());
        CHECK(distance(gradient, exact_gradient) <= 4);
      }
    }
  });
}

TEST_CASE("rows are gathered and scattered as they are, or added, a part of the columns too") {
  std::mt19937_64 random(63);
  for_each_path([&]<class T>() {
    CpuKernels kernels;
    const std::vector<index_t> rows{4, -1, 0, 2};
    for (const index_t columns : {1, 15, 16, 17, 33}) {
      CAPTURE(columns);
      const BlockOf<T> table = BlockOf<T>(5, columns + 3, 1).randomize(random);
      BlockOf<T> out(4, columns, 2);
      kernels.gather_rows(table.view(), rows, 2, out.view());
      BlockOf<T> copied = table, added = table;
      kernels.scatter_rows(out.view(), rows, 1, false, copied.view());
      kernels.scatter_rows(out.view(), rows, 1, true, added.view());
      for (index_t i = 0; i < 4; ++i) {
        const index_t row = rows[i];
        for (index_t c = 0; c < columns; ++c) {
          CHECK(out(i, c) == (row < 0 ? 0 : table(row, c + 2)));
          if (row < 0) continue;
          CHECK(copied(row, c + 1) == out(i, c));
          CHECK(added(row, c + 1) == float_of(rounded_to<T>(table(row, c + 1) + out(i, c))));
        }
      }
      CHECK(copied(1, columns) == table(1, columns));
      CHECK((out.intact() && copied.intact() && added.intact()));
    }
  });
}

TEST_CASE("the named rows are filled, and no others") {
  std::mt19937_64 random(63);
  CpuKernels kernels;
  for (const index_t columns : {1, 5, 16}) {
    Block block = Block(6, columns, 1).randomize(random);
    Exact exact(block);
    kernels.fill_rows(std::vector<index_t>{4, -1, 0}, 0.5F, block.view());
    for (index_t column = 0; column < columns; ++column) {
      exact.view()(4, column) = exact.view()(0, column) = 0.5;
    }
    CHECK(distance(block, exact) == 0);
  }
}

TEST_CASE("mean pooling leaves out the padding, forward and backward, of parts too") {
  std::mt19937_64 random(62);
  for_each_path([&]<class T>() {
    CpuKernels kernels;
    const std::vector<index_t> lengths{70, 1, 69, 0};
    for (const index_t columns : {1, 5, 16, 35}) {
      CAPTURE(columns);
      BlockOf<T> x = BlockOf<T>(4 * 70, columns, 1).randomize(random);
      std::ranges::fill(x.view().rows(70 + 1, 69).span(),
                        rounded_to<T>(kNan));  // sample 1's padding
      for (const index_t first : {0, 1, 60, 70}) {
        CAPTURE(first);
        BlockOf<T> out(4, columns, 1);
        Exact exact(4, columns);
        kernels.mean_pool(x.view(), lengths, first, out.view());
        reference::mean_pool(Exact(x).view(), lengths, first, exact.view());
        CHECK(distance(out, exact) < 2);
        BlockOf<T> gradient(4 * 70, columns, 1);
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
