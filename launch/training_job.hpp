#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/job/data_plane.hpp"
#include "launch/best_validation.hpp"
#include "launch/book_keeper.hpp"
#include "launch/command.hpp"
#include "launch/job.hpp"
#include "launch/ranks.hpp"
#include "launch/run/run_folder.hpp"
#include "launch/run/watchdog.hpp"
#include "launch/stop_request.hpp"
#include "launch/trace/job_trace.hpp"
#include "ps/server.hpp"
#include "ps/server_loop.hpp"
#include "worker/train/faults.hpp"
#include "worker/train/observer.hpp"

namespace weir {

/// One rank's part in a training job, in phases that all ranks go through together, in this order:
///
///   agree    every rank has the settings of rank 0 and the same binary
///   plan     the data are open, the model is cut, rank 0 has the run folder
///   connect  gradients and weights have a way between workers and servers
///   resume   servers hold the weights that training begins with, the run folder is written
///   run      workers and servers step until all steps are done, or somebody asks them to stop
///   close    the summary is written; returns how the job ended
///
/// `weir train` is these six calls. A benchmark, a study or a test can make them in its own
/// process, look at the job in between, and watch it by an Observer. A phase that fails throws on
/// all ranks alike up to resume(); an Error of run() is this rank's own, and must end the job. Once
/// rank 0 has the run folder, a watchdog ends the process with 86 if the job stands still.
///
/// agree() sets what the process has once: the log's level and identity, the threads of OpenBLAS
/// and, with --private, the permissions of new files.
class TrainingJob {
 public:
  /// `world`: the ranks of the job; none if this process is the whole job (--placement local).
  explicit TrainingJob(Comm world);
  ~TrainingJob();
  TrainingJob(const TrainingJob&) = delete;
  TrainingJob& operator=(const TrainingJob&) = delete;

  /// The observer must outlive run(). It is told on this rank, if this is a worker, after the books
  /// are kept. Call it before run().
  void observe(worker::Observer& observer) { observers_.push_back(&observer); }

  void agree(const Arguments& arguments);
  void plan();
  void connect();
  void resume();
  void run();
  ExitCode close();

  /// What follows from the settings; after plan().
  const Job& job() const { return job_; }
  /// The step that training has come to on this rank; after run().
  index_t step() const;

 private:
  struct OwnSteps;

  const Layout& layout() const { return job_.config.layout; }
  bool is_local() const { return layout().placement == Placement::local; }
  bool is_server() const { return layout().is_server(ranks_.rank()); }
  bool is_worker() const { return layout().is_worker(ranks_.rank()); }
  bool steps_locally() const {
    return job_.config.server.consistency.mode == ps::Consistency::local;
  }
  void start_watchdog();
  void find_checkpoint();
  void fit_to_checkpoint();
  void load_server();
  void prepare_folder();
  bool stop_requested();
  void make_service();
  void run_worker();
  ps::ServerConfig server_config() const;
  SummaryMetrics totals() const;

  Ranks ranks_;
  std::vector<worker::Observer*> observers_;
  ParsedConfig parsed_;
  std::vector<Setting> settings_;  ///< the form that the run folder and checkpoints keep
  std::optional<StopRequest> stop_;
  Job job_;
  std::string data_;                  ///< a line that says what is learnt
  std::optional<RunFolder> folder_;   ///< rank 0 has it
  Claim claim_;                       ///< rank 0's, to that folder
  std::optional<Watchdog> watchdog_;  ///< from plan() to close()
  fs::path checkpoint_;               ///< where training goes on; empty if it begins anew
  std::optional<JobTrace> trace_;     ///< from run() to close(), if one is recorded
  Comm host_;
  std::optional<DataPlane> plane_;                ///< none in one process
  std::optional<ps::Server> server_;              ///< a server has it, and a job of one process
  Comm workers_;                                  ///< the group of all workers; none on other ranks
  std::optional<ps::ServerLoop> loop_;            ///< a server's rank has it
  std::unique_ptr<ParameterService> parameters_;  ///< a worker's way to the servers
  std::unique_ptr<OwnSteps> own_steps_;           ///< a worker that steps by itself has them
  std::optional<worker::FaultyService> service_;  ///< what a worker trains with
  std::optional<BookKeeper> books_;               ///< worker 0 keeps them
  std::optional<BestValidation> best_;            ///< worker 0 remembers it
  Directive last_;                                ///< the directive that ended a worker
  double pipeline_seconds_ = 0;
};

}  // namespace weir
