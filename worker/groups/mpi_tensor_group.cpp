#include "worker/groups/mpi_tensor_group.hpp"

#include <utility>

#include "worker/groups/ring_sum.hpp"

namespace weir::worker {

MpiTensorGroup::MpiTensorGroup(Comm comm, ShardWays ways)
    : comm_(std::move(comm), std::move(ways.serve)),
      exchange_(make_part_exchange(comm_.unmet(), ways.bytes, ways.may_share,
                                   std::move(ways.progress))) {}

void MpiTensorGroup::sum(Vector values) {
  const Matrix rows(values, values.size(), 1);
  sum_rows(rows);
  gather_rows(rows);
}

void MpiTensorGroup::start_row_sum(Matrix values) {
  exchange_->start_scatter(values.flat().bytes(), values.extent(0));
}

void MpiTensorGroup::finish_row_sum(Matrix values) {
  ring_sum(exchange_->finish_scatter(), index() + 1, own_rows(values).flat());
}

void MpiTensorGroup::gather_rows(Matrix values) {
  exchange_->gather(values.flat().bytes(), values.extent(0));
}

}  // namespace weir::worker
