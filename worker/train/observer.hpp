#pragma once

#include "common/net/messages.hpp"
#include "worker/layers/pass.hpp"

namespace weir::worker {

/// Watches a worker train: keeps books, draws a bar, collects losses. Every worker makes each of
/// these calls, from the thread that trains; a call does nothing unless it is overridden:
///
///   start  (step | step  validation_begin  validation) …  [validation_begin  validation]
class Observer {
 public:
  virtual ~Observer() = default;
  /// The directive that training begins from.
  virtual void start(const Directive&) {}
  /// A step is done; its loss, norm and rate are those of the directive.
  virtual void step(const Directive&) {}
  /// A validation of `samples` samples begins after `step`, and has ended with `loss`, which is
  /// that of all workers.
  virtual void validation_begin(index_t /*step*/, index_t /*samples*/) {}
  virtual void validation(index_t /*step*/, const Loss& /*loss*/) {}
};

}  // namespace weir::worker
