#pragma once

#include <filesystem>
#include <future>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "common/base/activity.hpp"
#include "common/base/attribute.hpp"
#include "common/base/list.hpp"
#include "common/base/options.hpp"
#include "common/io/file.hpp"
#include "common/io/folder_lock.hpp"
#include "common/io/manifest.hpp"
#include "common/job/bucket.hpp"
#include "common/net/messages.hpp"
#include "ps/decide/clip.hpp"
#include "ps/decide/standing.hpp"
#include "ps/save/copies.hpp"
#include "ps/save/residuals.hpp"
#include "ps/update/store.hpp"

namespace weir::ps {

/// After this number of failed checkpoints in a row the last one is not given up, but tried again.
inline constexpr index_t kSaveFailuresMax = 3;

struct SnapshotConfig {
  index_t every = 200;     ///< steps between two checkpoints; 0: only at the end
  index_t keep = 3;        ///< how many of the newest checkpoints are kept
  index_t keep_every = 0;  ///< the first of each so many steps is kept for good; 0: none
  index_t wait_s = 600;    ///< how long a failed save that may not be given up is tried again
  // No options: what follows from the rest of the job.
  double retry_s = 5;            ///< the longest pause between two such tries
  Claim claim = {};              ///< to the run folder; who has lost it saves no more
  std::filesystem::path folder;  ///< where all checkpoints are; empty: none are written
  /// For a replica of `local`: the servers' folder. A checkpoint in `folder` is removed when the
  /// servers' one of the same step is gone, so `keep` does not count. If it is empty, `keep`
  /// counts.
  std::filesystem::path beside = {};
  /// For the servers of `local`: steps between two meetings. Their optimizer, which no user chose,
  /// has moments of its own (kRoundMoments), and `notes` name the optimizer and clip of the
  /// replicas.
  index_t round_steps = 0;
  /// What must agree when a job resumes (settings of the model), by name. Names have no blanks.
  std::map<std::string, std::string> settings;
  /// All other settings of the job. They are written, too, so that a checkpoint says how it was
  /// made; they may differ when a job resumes.
  std::map<std::string, std::string> notes;
  /// Parameters that older checkpoints hold and on which nothing depends: resuming drops them.
  std::vector<std::string> obsolete = {};
  /// What model.h5 says of itself to a reader who has nothing else.
  std::vector<Attribute> attributes = {};
  FileSystem* files = &posix_file_system();
};

std::vector<Option> options(SnapshotConfig& config);

/// The groups of a checkpoint's tensors that hold the moments of the job's optimizer, and those of
/// the servers of `local`, which step once a round.
inline constexpr std::string_view kMoments = "/optimizer/";
inline constexpr std::string_view kRoundMoments = "/outer/";

/// The tensors of a checkpoint: /model/NAME of all specs, in their order, then MOMENTS/SLOT/NAME of
/// all specs for each slot.
List<CheckpointRecord> checkpoint_records(const List<ParameterSpec>& specs, OptimizerKind optimizer,
                                          std::string_view moments = kMoments);

/// The settings in a manifest that the servers write themselves.
inline constexpr const char* kOptimizerSetting = "optimizer.kind";
inline constexpr const char* kClipSetting = "clip.policy";

/// The setting in a checkpoint of a replica of `local` that says which replica it belongs to.
inline constexpr const char* kReplicaSetting = "replica";

/// An integer of a manifest that the servers of `local` wrote: SnapshotConfig::round_steps.
inline constexpr const char* kRoundSteps = "round_steps";
/// Standing::moments_begin, where it is above zero.
inline constexpr const char* kMomentsBegin = "moments_begin";

/// Prefix of the integers 0, 1, … of a manifest that hold Standing::again.
inline constexpr const char* kAgainPrefix = "again.";
/// Prefixes of the numbers that hold Standing::clip_state, loss_scale_state and rollback_state.
inline constexpr const char* kClipPrefix = "clip.";
inline constexpr const char* kLossScalePrefix = "loss_scale.";
inline constexpr const char* kRollbackPrefix = "rollback.";

struct SaveTotals {
  index_t count = 0;   ///< committed
  double seconds = 0;  ///< from the directive to the commit, mostly while training goes on
};

/// One server's part in making checkpoints. It copies weights and moments of each bucket before
/// they change again, and a thread writes the copies while training goes on. Server 0 makes the
/// file first and commits it when all servers have written; see common/io/checkpoint_format.hpp. If
/// the workers' wire keeps residuals, they are written without a copy.
///
///   server 0   start -> file made -> SaveBegin … all SavePrepared -> MANIFEST, name -> SaveEnd
///   others     start … SaveBegin -> written -> SavePrepared … SaveEnd
///
/// A save that fails anywhere is given up as a whole: its folder is removed, a warning logged, and
/// training goes on. Two saves are not given up: the last one of a job, and the third in a row that
/// fails (kSaveFailuresMax). Server 0 tries such a save again from the copies that are still there,
/// until it succeeds or `wait_s` seconds are over; then it throws Error (ExitCode::storage).
/// Training goes on meanwhile until the next checkpoint is due. A job that has lost its run folder
/// to a later one throws SupersededError and removes nothing. Only the thread that calls these
/// functions talks to the other servers.
class Snapshot {
 public:
  /// What poll() wants sent, as in ps::Output.
  using Message = std::variant<SaveBegin, SavePrepared, SaveEnd>;

  Snapshot(const BucketPlan& plan, index_t server, const SnapshotConfig& config,
           OptimizerKind optimizer, ClipPolicy clip, const Residuals& residuals);
  Snapshot(const Snapshot&) = delete;  // the thread looks at it
  Snapshot& operator=(const Snapshot&) = delete;

  /// True from start() to the end of the save, while the copies are in use.
  bool busy() const { return phase_ != Phase::idle; }
  /// Begins a save; not while busy(). `last`: it is the last one of the job. `standing`: server
  /// 0's, after the step.
  void start(index_t step, bool last, const Standing& standing);
  /// To be called once for each bucket of this server.
  void copy(index_t bucket, Store& store) { copies_.take(bucket, store); }
  void copied();  ///< all buckets are copied and all residuals are there

  void on_begin(const SaveBegin& begin);
  void on_prepared(const SavePrepared& prepared);
  void on_end(const SaveEnd& end);
  /// Tells server 0 that the job was asked to end. It logs why the job cannot end yet, if so.
  void on_stop_request() const;
  /// Looks whether the thread is done; never waits. Rethrows what it threw, other than failures of
  /// the file system.
  std::optional<Message> poll();

  /// The servers that the save waits for; none while this one works for it.
  List<index_t> awaited_servers() const;

  const SaveTotals& totals() const { return totals_; }

 private:
  enum class Phase {
    idle,
    opening,  ///< server 0 makes the file; the others wait for SaveBegin, all may be copying
    writing,
    collecting,  ///< server 0 waits for SavePrepared, the others for SaveEnd
    committing,
    abandoning,
    waiting,  ///< server 0: until the next try
  };
  /// The result of the thread.
  struct Result {
    std::string error;
    List<CheckpointRecord> records;
    List<RangeDigest> digests;
  };

  template <class Work>
  void run(Work work);
  void open();
  void write();
  void write_residuals(CheckpointWriter& writer) const;
  void commit();
  void abandon(const std::string& error);
  void end(const std::string& error);
  void complain(const std::string& error);
  bool may_be_given_up() const { return !last_ && failures_ < kSaveFailuresMax; }
  std::string with_advice(const FileError& error) const;
  std::optional<Message> finish(Result result);
  Manifest manifest() const;

  const BucketPlan* plan_;
  index_t server_;
  SnapshotConfig config_;
  OptimizerKind optimizer_;
  ClipPolicy clip_;
  const Residuals* residuals_;

  Phase phase_ = Phase::idle;
  std::optional<FileWork> file_work_;  ///< while busy()
  index_t step_ = 0;
  bool last_ = false;
  Standing standing_;
  bool copied_ = false;
  bool begun_ = false;  ///< the records have their offsets
  double started_at_ = 0;
  index_t failures_ = 0;  ///< failed saves in a row
  index_t tries_ = 0;     ///< tries of this save that failed
  double failed_at_ = 0;  ///< when the first of them did
  double try_at_ = 0;     ///< when the next one begins
  double told_at_ = 0;    ///< when the user last heard that the job waits
  SaveTotals totals_;
  /// checkpoint_records, then residual_records: the first of these belong to the last of the
  /// copies.
  List<CheckpointRecord> records_;
  List<SavePrepared> prepared_;
  Copies copies_;
  std::future<Result> work_;  ///< last: its end is awaited before the rest goes
};

}  // namespace weir::ps
