#pragma once

#include "common/base/index.hpp"
#include "common/base/list.hpp"

namespace weir::ps {

/// Where training stands after a step: all that server 0 knows beside the parameters. A checkpoint
/// holds it, and a job that resumes goes on from it.
struct Standing {
  index_t step = 0;    ///< steps that all replicas have done
  index_t update = 0;  ///< updates closed; equals `step` unless a step of one replica is an update
  index_t cursor = 0;  ///< global index of the first new sample of the next step
  /// First samples of the micro-batches that the next step takes up again before these.
  List<index_t> again;
  index_t dropped_count = 0;
  index_t skipped_count = 0;
  index_t skips_in_a_row = 0;
  index_t moments_begin = 0;      ///< updates applied before the moments began, at zero
  List<double> clip_state;        ///< Clip::state
  List<double> loss_scale_state;  ///< LossScale::state; empty: it begins anew
  List<double> rollback_state;    ///< empty: it begins anew
};

}  // namespace weir::ps
