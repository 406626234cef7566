#pragma once

#include <optional>
#include <variant>

#include "common/job/bucket.hpp"
#include "common/net/messages.hpp"
#include "ps/decide/standing.hpp"
#include "ps/save/residuals.hpp"
#include "ps/save/snapshot.hpp"
#include "ps/update/store.hpp"

namespace weir::ps {

/// Every contributor's residual may be written to its place.
struct ResidualsDue {};

/// One server's part in saving, from the directive with a checkpoint to the end of the save. A save
/// begins before the first bucket of its directive is stepped, takes each bucket as it was stepped,
/// and the residuals as they come; then the snapshot writes while training goes on:
///
///   begin -> stepped … and on_residual … -> applied -> Snapshot: SaveBegin … SaveEnd
///
/// Only one save is underway at a time: if the next one is due before that, training waits.
class SaveRound {
 public:
  using Message = std::variant<ResidualsDue, SaveBegin, SavePrepared, SaveEnd>;

  /// `plan` and `residuals` must outlive it.
  SaveRound(const BucketPlan& plan, index_t server, const SnapshotConfig& config,
            OptimizerKind optimizer, ClipPolicy clip, const Residuals& residuals);

  /// The servers begin to apply this directive; to be called for each. `standing`: server 0's.
  void begin(const Directive& directive, const Standing& standing);
  /// False while the save before holds the memory that the one of this directive needs.
  bool may_step();
  /// One bucket of the directive is stepped.
  void stepped(index_t bucket, Store& store);
  void applied();      ///< the directive: all of its buckets are stepped
  void on_residual();  ///< one of them has been written

  /// `early`: the directive that asks for this checkpoint has come, but is not begun.
  void on_begin(const SaveBegin& begin, bool early);
  void on_prepared(const SavePrepared& prepared) { snapshot_.on_prepared(prepared); }
  void on_end(const SaveEnd& end);
  void on_stop_request() const { snapshot_.on_stop_request(); }
  /// One server alone, without residuals and between two directives: saves what stands now.
  void save_now(const Standing& standing, bool last, Store& store);

  /// Moves the save on; never waits. What it gives is to be sent, as ps::Output says.
  std::optional<Message> poll();
  bool busy() const { return snapshot_.busy(); }
  bool done() const { return residuals_missing_ == 0 && !snapshot_.busy(); }
  const SaveTotals& totals() const { return snapshot_.totals(); }

 private:
  struct Due {
    index_t step = 0;
    bool last = false;
    Standing standing;
  };

  void start();
  void end_copying();

  const Residuals* residuals_;
  Snapshot snapshot_;
  std::optional<Due> due_;                ///< not started: the save before is not over
  bool copies_ = false;                   ///< the directive that is applied has a checkpoint
  bool copied_ = true;                    ///< weights and moments, for the newest save
  index_t residuals_missing_ = 0;         ///< for the newest save
  bool asks_for_residuals_ = false;       ///< and has not said so
  std::optional<SaveBegin> early_begin_;  ///< came before its save was started
};

}  // namespace weir::ps
