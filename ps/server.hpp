#pragma once

#include <deque>
#include <filesystem>
#include <optional>
#include <variant>

#include "common/base/list.hpp"
#include "common/job/bucket.hpp"
#include "common/net/messages.hpp"
#include "ps/decide/decide.hpp"
#include "ps/save/copies.hpp"
#include "ps/save/save_round.hpp"
#include "ps/server_config.hpp"
#include "ps/update/store.hpp"
#include "ps/update/traffic.hpp"
#include "ps/update/trust.hpp"

namespace weir::ps {

/// The weights of this bucket are those after directive(): they may go to its readers in the
/// replicas that the directive releases.
struct BucketStepped {
  index_t bucket = 0;
};

/// What a server wants sent, and to whom:
///
///   Arrival        server 0 (never from server 0)
///   Close          all other servers (from server 0)
///   Partials       server 0 (never from server 0)
///   Directive      the workers of released replicas and all other servers (from server 0 alone)
///   BucketStepped  the bucket's floats to its released readers (all buckets after each directive)
///   ResidualsDue   nobody: the residuals of all contributors may come (after each directive with a
///                  checkpoint, where the wire keeps some)
///   SaveBegin      all other servers (from server 0)
///   SavePrepared   server 0 (never from server 0)
///   SaveEnd        all other servers (from server 0)
///
/// Optimizers with trust ratios also have DirectionPartials, which go where Partials go, and
/// TrustRatios, which go where SaveEnd goes.
using Output = std::variant<Arrival, Close, Partials, Directive, BucketStepped, DirectionPartials,
                            TrustRatios, ResidualsDue, SaveBegin, SavePrepared, SaveEnd>;

/// A server as a state machine: it knows no MPI and never waits. The loop around it tells it what
/// arrived, calls poll() and sends what next_output() gives. Server 0 also decides.
///
///   on_contribution … -> sum -> Partials -> Directive -> apply, BucketStepped … -> next update
///
/// This is the order if every update waits for every replica: a bucket is summed as soon as it is
/// complete. Otherwise all buckets wait until server 0 has closed the update (… -> Arrival -> Close
/// -> sum -> …), and a bucket is stepped only when its weights that were being sent have left:
/// on_sent().
///
/// Optimizers with trust ratios have a round of their own between the directive and its steps:
///
///   Directive -> make_direction … -> DirectionPartials -> TrustRatios -> apply, BucketStepped …
///
/// For a rollback (rollback.hpp) each server keeps copies of its buckets. A directive may say that
/// they are made anew, or put back.
///
/// Training begins with start(), which all workers get as their first directive, and with the
/// weights of every bucket, which are there from the beginning: the loop sends both.
/// Every call that comes out of order throws Error.
class Server {
 public:
  /// Begins with initial weights at step 0. `plan` and what `given` names must outlive it.
  Server(const BucketPlan& plan, index_t server, const ServerConfig& config,
         const BucketMemory& given = {});
  /// Continues from this checkpoint, of any layout and consistency: reads the parts that this
  /// server owns. To be called before anything else. load_checkpoint says what is refused and what
  /// begins anew; all else (threshold, counters, moments) continues to the bit.
  void load(const std::filesystem::path& checkpoint);

  /// Where training begins; `stop` if there is nothing left to do.
  Directive start() const;

  // What arrived.

  /// Where a contribution goes, as it travels; see Store for that and for the numbers of
  /// contributors.
  std::span<std::byte> contribution_frame(index_t bucket, index_t contributor) {
    return store_.contribution_frame(bucket, contributor);
  }
  /// The same for a raw wire, as floats.
  std::span<float> contribution(index_t bucket, index_t contributor) {
    return store_.contribution(bucket, contributor);
  }
  /// Whether this contribution may be written now, because the previous one is applied or dropped.
  /// This is always so if workers await a bucket before they push it again.
  bool accepts(index_t bucket, index_t contributor) const {
    return store_.accepts(bucket, contributor);
  }
  void on_contribution(index_t bucket, index_t contributor);
  /// Where a contributor's residual lies, if it encodes what it pushes. It is read when training
  /// begins and written after ResidualsDue.
  std::span<float> residual(index_t bucket, index_t contributor) {
    return residuals_.of(bucket, plan_->group_sum_of(bucket, contributor));
  }
  void on_residual();  ///< one residual has been written
  /// What the readers of a bucket have, if they get differences. It is read when training begins.
  std::span<const float> sent_weights(index_t bucket) { return store_.sent_weights(bucket); }
  /// Tells that one of the released readers of a bucket has its floats.
  void on_sent(index_t bucket);
  // Control messages. Each throws Error where it is not for this server (MessageTable).
  void on(const Arrival& arrival);
  void on(const Close& close);
  void on(const Report& report);
  void on(const Partials& partials);
  void on(const Directive& directive);
  void on(const SaveBegin& begin);
  void on(const SavePrepared& prepared);
  void on(const SaveEnd& end);
  void on(
      const DirectionPartials& partials);  ///< this and the next: for optimizers with trust ratios
  void on(const TrustRatios& trust);
  void on(const Stop&);  ///< the job ends after the present update and a checkpoint
  /// Adds the time that the loop has worked for this server, poll() included.
  void add_busy(double seconds) { busy_seconds_ += seconds; }

  // What is to be done.

  /// Does one piece of work, at most one bucket's: true if there was any. Throws Error if a
  /// checkpoint that may not be given up cannot be written; see Snapshot.
  bool poll();
  std::optional<Output> next_output();
  /// Whether the next poll() may step weights.
  bool applying() const { return applying_; }
  /// True once the last directive is applied, its checkpoint committed, and all outputs are taken.
  bool done() const;

  const List<index_t>& buckets() const { return store_.buckets(); }
  std::span<const float> weights(index_t bucket) const { return store_.weights(bucket); }
  /// The weights as their readers get them.
  std::span<const std::byte> weight_frame(index_t bucket) const {
    return store_.weight_frame(bucket);
  }
  index_t step() const { return last_.step; }  ///< the last directive's
  /// The directive that is applied or being applied.
  const Directive& directive() const { return last_; }
  const SaveTotals& save_totals() const { return save_.totals(); }
  /// For a worker in the same process; see Store.
  std::span<const float> weight_arena() const { return store_.weight_arena(); }
  std::span<float> gradient_arena() { return store_.gradient_arena(); }
  ConstVector read_arena() const { return store_.read_arena(); }
  void take_weights(std::span<const float> arena) {
    WEIR_ASSERT(!save_.copying());
    store_.take_weights(arena);
  }
  /// Says that training begins after `step` steps, whatever was loaded. Called after load() or
  /// instead of it.
  void begin_at(index_t step);
  /// Saves the present state, as a directive with a checkpoint would. Only for a server alone,
  /// between two updates, without residuals, and while nothing is being saved.
  void save();
  /// Whether a checkpoint is being made; poll() moves it on.
  bool saving() const { return save_.busy(); }
  /// The servers that it waits for; none while this one works for it.
  List<index_t> save_awaits() const { return save_.awaited_servers(); }

 private:
  bool poll_directive();
  bool poll_trust();
  bool poll_apply();
  void step(index_t bucket);
  bool poll_close();
  bool poll_sum();
  bool poll_partials();
  bool poll_decide();
  void begin_apply(const Directive& directive);
  template <class Content>
  void require_mine(const Content&) const;

  const BucketPlan* plan_;
  index_t server_;
  ServerConfig config_;
  Store store_;
  Residuals residuals_;
  std::optional<Decider> decider_;  ///< on server 0 alone
  TrustRound trust_;
  Copies kept_;  ///< what a rollback goes back to
  SaveRound save_;
  Directive last_;  ///< the newest that is applied or being applied
  bool applying_ = false;
  index_t applied_count_ = 0;     ///< buckets of last_ that are stepped, in pull order
  index_t partials_update_ = 0;   ///< the newest update whose partials were given away
  std::deque<index_t> complete_;  ///< buckets to be summed
  List<index_t> contributors_;    ///< whose contributions are summed; none before a Close
  double busy_seconds_ = 0;
  double began_at_ = 0;               ///< when the first contribution came; 0: it has not
  std::deque<Directive> directives_;  ///< directives of server 0 that are not yet begun
  // These are used unless every update waits for all replicas:
  std::optional<Close> closed_;  ///< not yet begun
  std::optional<Traffic> traffic_;
  std::deque<Output> outputs_;
};

}  // namespace weir::ps
