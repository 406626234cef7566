#pragma once

#include <deque>
#include <optional>
#include <variant>

#include "common/job/bucket.hpp"
#include "common/net/messages.hpp"
#include "ps/decide/standing.hpp"
#include "ps/save/residuals.hpp"
#include "ps/save/snapshot.hpp"
#include "ps/update/store.hpp"

namespace weir::ps {

/// From now on every contributor's residual may be written to its place.
struct ResidualsDue {};

/// One server's part in saving, from the directive with a checkpoint to the end of the save. A save
/// begins before the first bucket of its directive is stepped. It copies a stepped bucket when the
/// server has nothing else to do, and at the latest before weights or moments of that bucket
/// change, so that nobody waits for copies while the server would be idle later. When all is copied
/// and the residuals have come, the snapshot writes while training goes on:
///
///   begin -> stepped … applied, copy_one …, on_residual … -> Snapshot: SaveBegin … SaveEnd
///
/// Only one save is underway at a time: if the next one is due before that, training waits.
class SaveRound {
 public:
  using Message = std::variant<ResidualsDue, SaveBegin, SavePrepared, SaveEnd>;

  /// `plan` and `residuals` must outlive it.
  SaveRound(const BucketPlan& plan, index_t server, const SnapshotConfig& config,
            OptimizerKind optimizer, ClipPolicy clip, Residuals& residuals);

  /// To be called for each directive when the servers begin to apply it. `standing`: server 0's.
  void begin(const Directive& directive, const Standing& standing);
  /// False while the previous save holds the memory that this directive's save needs.
  bool may_step();
  /// To be called before each step of a bucket.
  void before_step(index_t bucket, Store& store);
  /// Tells that one bucket of the directive is stepped.
  void stepped(index_t bucket, Store& store);
  void applied();  ///< all buckets of the directive are stepped
  /// Copies one bucket; false if none is left to copy.
  bool copy_one(Store& store);
  /// Whether weights or moments that have yet to be copied must not change.
  bool copying() const { return snapshot_.busy() && !uncopied_.empty(); }
  void on_residual();  ///< one residual has been written

  /// `early`: the directive that asks for this checkpoint has come, but has not begun.
  void on_begin(const SaveBegin& begin, bool early);
  void on_prepared(const SavePrepared& prepared) { snapshot_.on_prepared(prepared); }
  void on_end(const SaveEnd& end);
  void on_stop_request() const { snapshot_.on_stop_request(); }
  /// Saves the present state. Only for a server alone, without residuals and between two
  /// directives.
  void save_now(const Standing& standing, bool last, Store& store);

  /// Moves the save on; never waits. Returns what is to be sent, as ps::Output says.
  std::optional<Message> poll();
  bool busy() const { return snapshot_.busy(); }
  List<index_t> awaited_servers() const { return snapshot_.awaited_servers(); }
  bool done() const { return residuals_missing_ == 0 && !snapshot_.busy(); }
  const SaveTotals& totals() const { return snapshot_.totals(); }

 private:
  struct Due {
    index_t step = 0;
    bool last = false;
    Standing standing;
  };

  void start();
  void take_residuals(index_t bucket, Store& store);
  void end_copying();

  Residuals* residuals_;
  Snapshot snapshot_;
  std::optional<Due> due_;           ///< a save that waits for the previous one to end
  bool copies_ = false;              ///< whether the directive that is applied has a checkpoint
  bool applied_ = true;              ///< whether all buckets are stepped for the newest save
  std::deque<index_t> uncopied_;     ///< for the newest save, in the order of their steps
  index_t residuals_missing_ = 0;    ///< for the newest save
  bool asks_for_residuals_ = false;  ///< whether poll() has yet to ask for them
  std::optional<SaveBegin> early_begin_;  ///< came before its save was started
};

}  // namespace weir::ps
