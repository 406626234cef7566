#include "launch/checkpoint_room.hpp"

#include <algorithm>

#include "common/base/log.hpp"
#include "common/io/checkpoint_format.hpp"
#include "common/io/room.hpp"
#include "launch/terminal/quantities.hpp"
#include "ps/local_steps.hpp"
#include "ps/save/residuals.hpp"

namespace weir {
namespace {

index_t bytes_of(const Job& job, ps::OptimizerKind optimizer) {
  return checkpoint_bytes(ps::checkpoint_records(job.plan->specs(), optimizer));
}

bool steps_locally(const Job& job) {
  return job.config.server.consistency.mode == ps::Consistency::local;
}

/// How many checkpoints the job will write.
index_t saves_from(const Job& job, index_t step) {
  const index_t steps = job.config.train.training.steps - step;
  const index_t every = job.config.server.checkpoint.every;
  if (steps <= 0) return 0;
  return every > 0 ? (steps + every - 1) / every : 1;
}

/// How many checkpoints of this job will stay besides the newest.
index_t kept_for_good(const Job& job, index_t step) {
  const Training& training = job.config.train.training;
  const ps::SnapshotConfig& checkpoint = job.config.server.checkpoint;
  const index_t every =
      checkpoint.keep_every > 0 ? std::max(checkpoint.keep_every, checkpoint.every) : 0;
  const index_t best = training.eval_every > 0 ? 1 : 0;
  return best + (every > 0 ? training.steps / every - step / every : 0);
}

}  // namespace

index_t bytes_of_a_checkpoint(const Job& job) {
  const index_t residuals = checkpoint_bytes(ps::residual_records(*job.plan));
  if (!steps_locally(job)) return bytes_of(job, job.config.server.optimizer.kind) + residuals;
  return residuals +
         bytes_of(job,
                  ps::server_config_of_rounds(job.config.server, job.config.local).optimizer.kind) +
         job.config.layout.replicas * bytes_of(job, job.config.server.optimizer.kind);
}

void check_room(const Job& job, const fs::path& checkpoints, index_t step) {
  const index_t keep = job.config.server.checkpoint.keep;
  const auto kept = std::min<index_t>(keep, std::ssize(checkpoints_in(checkpoints)));
  const index_t for_good = kept_for_good(job, step);
  const index_t coming = std::min(saves_from(job, step), keep + 1 - kept + for_good);
  if (coming == 0) return;
  const Room room = room_at(checkpoints);
  const index_t bytes = bytes_of_a_checkpoint(job);
  const std::string need = text("a checkpoint of this job needs ", bytes_text(bytes));
  if (room.file_max && bytes > *room.file_max) {
    throw Error(text(need, ", and a file may have ", bytes_text(*room.file_max),
                     " here (ulimit -f): lift that limit"));
  }
  if (!room.free) return;
  const std::string has = text(checkpoints.string(), " has ", bytes_text(*room.free), " free");
  if (bytes > *room.free) {
    throw Error(text(need, ", and ", has, ": make room there, or choose another --run"));
  }
  if (coming * bytes <= *room.free) return;
  log_warning(text(
      need, ", up to ", keep + 1, " are there at once (--checkpoint.keep ", keep,
      " and the one that is being written)",
      for_good > 0 ? text(" and ", for_good, " stay besides (the best, --checkpoint.keep-every)")
                   : "",
      ", and ", has, ": make room for ", bytes_text(coming * bytes), ", or a save will fail"));
}

}  // namespace weir
