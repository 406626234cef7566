#pragma once

#include "common/job/bucket.hpp"
#include "common/net/messages.hpp"
#include "common/number/tensor.hpp"

namespace weir {

/// The seam between a worker and the servers: a client over MPI (dedicated, colocated) or the
/// servers' state machine in this process (local). The trainer cannot tell them apart. One update
/// at a time:
///
///   start(); then for each update:
///   begin_update(); forward (await unit by unit), backward (ready unit by unit); report();
///   directive(). After the last update: await_all(), then finish().
class ParameterService {
 public:
  virtual ~ParameterService() = default;

  /// Weights and gradients of this holder's arena (offsets as in its Holding). The memory stays
  /// where it is for the life of the service. Weights of a unit may be read from await(unit) until
  /// the update's last ready(); gradients are added to between await(unit) and ready(unit).
  virtual ConstVector weights() const = 0;
  virtual Vector gradients() = 0;

  /// Returns where training begins: step, cursor and counters as after the update before (step 0,
  /// or what a checkpoint holds); `stop` if nothing is left to do. Called once, first.
  virtual Directive start() = 0;
  /// Begins an update: from now on the gradients of a unit are zeros once it is awaited.
  virtual void begin_update() = 0;
  /// Says that the gradients of this unit's parameters are complete for this update. Never blocks.
  /// Units come in descending order.
  virtual void ready(index_t unit) = 0;
  /// Moves what travels; called between actions and in every wait. Never blocks. True if anything
  /// moved.
  virtual bool progress() = 0;
  /// Reports the update's loss over this context's tokens. Only the first shard of a replica's last
  /// stage calls it.
  virtual void report(const Report& report) = 0;
  /// Waits until the servers let this replica go on, and returns what they decided. Step and cursor
  /// are this replica's: the steps it has done, and where its next one begins.
  virtual Directive directive() = 0;
  /// Waits until the weights of this unit's parameters stand as after the last directive.
  virtual void await(index_t unit) = 0;
  virtual void await_all() = 0;
  /// Waits until the servers have committed what they still write; nothing travels afterwards.
  virtual void finish() = 0;

  /// Seconds this worker has waited for servers so far (in directive, await and finish).
  virtual double waited_seconds() const = 0;
  /// Bytes of gradients that this worker sends, and of weights that it receives, in one update.
  virtual index_t pushed_bytes() const = 0;
  virtual index_t pulled_bytes() const = 0;
};

}  // namespace weir
