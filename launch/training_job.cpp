#include "launch/training_job.hpp"

#include <algorithm>
#include <array>

#include "common/base/activity.hpp"
#include "common/base/log.hpp"
#include "common/base/machine.hpp"
#include "common/io/checkpoint_format.hpp"
#include "common/io/digest.hpp"
#include "common/io/mapped_file.hpp"
#include "common/job/transport_report.hpp"
#include "launch/checkpoint_changes.hpp"
#include "launch/checkpoint_path.hpp"
#include "launch/checkpoint_room.hpp"
#include "launch/cut.hpp"
#include "launch/instructions.hpp"
#include "launch/run_paths.hpp"
#include "launch/start_report.hpp"
#include "launch/text_record.hpp"
#include "launch/trained_model.hpp"
#include "launch/worker_job.hpp"
#include "ps/local_service.hpp"
#include "ps/local_steps.hpp"
#include "ps/save/resume.hpp"
#include "worker/kernels/cpu/blas.hpp"
#include "worker/models/transformer/description.hpp"
#include "worker/train/server_client.hpp"

namespace weir {
namespace {

/// Rank 0 reads file, environment and command line; everyone gets the effective settings.
ParsedConfig agree_on_config(const Ranks& ranks, const Arguments& arguments) {
  ranks.same("the binary", digest_of(MappedFile("/proc/self/exe").bytes()));
  std::string line;
  for (const std::string& argument : arguments) line += argument + '\n';
  ranks.same("the command line", digest_of(line));

  ParsedConfig parsed;
  ranks.on_rank_0([&] { parsed = parse_run_config(arguments, weir_environment()); });
  const std::string settings = ranks.from_rank_0(settings_as_text(parsed.settings));
  return ranks.rank() == 0 ? parsed : run_config_from_text(settings);
}

/// FLOP/s of sgemm on the cores of all workers, measured by all of them at the same time.
double gemm_peak_of(const Comm& workers, index_t threads) {
  if (workers) workers.barrier();
  const double own = measured_gemm_peak(kGemmPeakSeconds, static_cast<int>(threads));
  return workers ? workers.sum(own) : own;
}

/// Names the step on the lines of the log, and in the record of what this rank does.
class ToldStep final : public worker::Observer {
 public:
  void start(const Directive& directive) override { note_step(directive.step); }
  void step(const Directive& directive) override {
    note_step(directive.step);
    set_log_identity(text(identity_, identity_.empty() ? "" : ", ", "step ", directive.step));
  }
  void validation_begin(index_t, index_t) override { note_phase(JobPhase::validate); }
  void validation(index_t, const worker::Loss&) override { note_phase(JobPhase::train); }

 private:
  const std::string identity_ = log_identity();
};

}  // namespace

/// What a replica needs to make steps by itself (--consistency local).
struct TrainingJob::OwnSteps {
  OwnSteps(const Job& job, const ps::ServerConfig& config, ParameterService& servers,
           index_t replica, const fs::path& checkpoint)
      : plan([&] {
          RunConfig alone = job.config;
          alone.layout = {.placement = Placement::local};
          alone.wire = {};
          alone.server.consistency = {};
          return make_bucket_plan(alone, first_units(alone));
        }()),
        server(plan, 0, ps::server_config_of_replica(config, replica)),
        steps(servers, server, plan, config,
              {.round_steps = job.config.local.steps,
               .replica = replica,
               .replicas = job.config.layout.replicas},
              checkpoint) {
    // On a rank without a server of the job nothing else makes this folder.
    make_folders(posix_file_system(), config.checkpoint.folder);
  }
  const BucketPlan plan;
  ps::Server server;
  ps::LocalSteps steps;
};

TrainingJob::TrainingJob(Comm world) { ranks_.world = std::move(world); }

TrainingJob::~TrainingJob() = default;

void TrainingJob::agree(const Arguments& arguments) {
  parsed_ = agree_on_config(ranks_, arguments);
  const RunConfig& config = parsed_.config;
  if (config.owner_only) keep_new_files_private();
  settings_ = with_absolute_paths(parsed_.settings);
  ranks_.together([&] {
    config.layout.check(ranks_.size());
    if (config.layout.placement == Placement::colocated && !ranks_.world) {
      throw UsageError(
          "--placement colocated speaks MPI, even with itself: start mpirun with -n 1, or take "
          "--placement local for one process without mpirun");
    }
  });
  set_log_identity(ranks_.identity(config.layout));
  set_log_level(config.log_level);
  stop_.emplace(config.run);
  if (const std::string warning = warning_of(config.wire); ranks_.rank() == 0 && !warning.empty()) {
    log_warning(warning);
  }
  for (const std::string& remark : parsed_.remarks) log_info(remark);
  set_blas_threads(static_cast<int>(config.threads));
  agree_on_instructions(ranks_, parsed_.config.products);
}

void TrainingJob::plan() {
  ranks_.together([&] { job_ = make_job(parsed_.config); });
  ranks_.same("the plan of buckets", job_.plan->digest());
  data_ = job_.dataset->describe();
  ranks_.same("the data", data_);
  if (ranks_.rank() == 0) {
    for (const std::string& warning : job_.dataset->warnings()) log_warning(warning);
  }
  ranks_.on_rank_0([&] {
    if (!job_.config.trace.empty()) JobTrace::check_file(job_.config.trace);
    folder_.emplace(job_.config.run);
  });
  claim_ = {job_.config.run, ranks_.from_rank_0(folder_ ? folder_->generation() : "")};
  start_watchdog();
  note_phase(JobPhase::load);  // a checkpoint is read to the end before it is taken
  find_checkpoint();
  fit_to_checkpoint();
}

/// Not before rank 0 has the folder: a job that is refused leaves the records of another alone.
void TrainingJob::start_watchdog() {
  note_step(0);
  watchdog_.emplace(
      job_.config.watchdog,
      WatchedRank{.run = job_.config.run,
                  .claim = claim_,
                  .rank = ranks_.rank(),
                  .ranks = ranks_.size(),
                  .role = ranks_.world ? layout().role(ranks_.rank()) : "one process"});
}

/// Rank 0 decides, since it has the folder.
void TrainingJob::find_checkpoint() {
  std::string path;
  ranks_.on_rank_0([&] {
    restore_replaced(posix_file_system(), folder_->checkpoints());
    path = checkpoint_to_resume(job_.config).string();
    if (!path.empty()) log_info(text("goes on from ", path));
  });
  checkpoint_ = ranks_.from_rank_0(path);
}

/// A table of learned positions keeps the size that it was made with. Rank 0 reads it, and all
/// ranks plan anew if sequences are shorter now.
void TrainingJob::fit_to_checkpoint() {
  if (checkpoint_.empty() || job_.config.model.positions != worker::Positions::learned) return;
  std::string found;
  ranks_.on_rank_0([&] { found = text(learned_positions(read_manifest(checkpoint_))); });
  const index_t positions = std::stoll(ranks_.from_rank_0(found));
  if (positions == 0 || positions == job_.config.model.length) return;
  ranks_.together([&] {
    RunConfig config = job_.config;
    config.model.learned_positions = positions;
    job_ = make_job(config);
  });
}

void TrainingJob::connect() {
  note_phase(JobPhase::start);
  if (is_local()) return;
  const RunConfig& config = job_.config;
  host_ = ranks_.world.host();
  plane_.emplace(ranks_.world, host_, *job_.plan, config.transport,
                 ps::waits_for_all(config.server.consistency), config.ring_depth);
  report_transport(ranks_.world, *job_.plan, *plane_);
}

void TrainingJob::resume() {
  note_phase(JobPhase::load);
  // Servers load their parts now, so that a checkpoint that does not fit ends all ranks together.
  ranks_.together([&] {
    if (is_server() || is_local()) load_server();
  });
  // This comes last: a job that is refused must change nothing in the folder of an earlier one.
  ranks_.on_rank_0([&] { prepare_folder(); });
}

void TrainingJob::load_server() {
  ps::ServerConfig config = server_config();
  config.resumes = !checkpoint_.empty();
  if (steps_locally()) config = ps::server_config_of_rounds(std::move(config), job_.config.local);
  server_.emplace(*job_.plan, is_local() ? 0 : layout().server(ranks_.rank()), config,
                  plane_ ? plane_->server_memory() : BucketMemory());
  if (!checkpoint_.empty()) server_->load(checkpoint_);
}

void TrainingJob::prepare_folder() {
  Manifest before;
  if (!checkpoint_.empty()) {
    before = ps::in_steps(read_manifest(checkpoint_));
    check_text(before, job_);
  }
  remove_leftovers(posix_file_system(), folder_->checkpoints());
  check_room(job_, folder_->checkpoints(), before.step);
  folder_->write_config(settings_);
  folder_->write_environment(ranks_.size(), job_.config.products.describe(), data_);
  if (!checkpoint_.empty()) log_changes(before, settings_, job_.config);
  for (const std::string& line : start_report(job_, before.step, before.cursor)) log_info(line);
}

/// The settings that the servers need beside their own options.
ps::ServerConfig TrainingJob::server_config() const {
  const RunConfig& job = job_.config;
  ps::ServerConfig config = job.server;
  config.training = job.train.training;
  config.decisions = RunFolder::decisions_of(job.run);
  config.replay = job.replay;
  config.checkpoint.folder = RunFolder::checkpoints_of(job.run);
  config.checkpoint.claim = claim_;
  RunConfig scoped = job;
  const std::vector<Option> table = options(scoped);
  for (const Setting& setting : settings_) {
    const bool decides_the_function =
        std::ranges::find(table, setting.name, &Option::name)->scope == Scope::function;
    auto& place = decides_the_function ? config.checkpoint.settings : config.checkpoint.notes;
    place[setting.name] = setting.value;
  }
  config.checkpoint.notes[kInstructionsNote] = name_of(job.products.instructions);
  if (const worker::TextDataset* const text = job_.dataset->as_text()) {
    config.checkpoint.notes.merge(as_settings(record_of(*text)));
  }
  config.checkpoint.obsolete = worker::obsolete_parameters(job.model);
  config.checkpoint.attributes = worker::description(job.model);
  config.checkpoint.attributes.push_back({"tokenizer", worker::tokenizer_of(job.data.kind)});
  config.checkpoint.settings["attention.global-tokens"] =
      worker::text_of(job.model.sparsity().globals);  // 0,1 and 0-1 are the same
  return config;
}

/// One rank looks for the STOP file; any rank may get the signal; worker 0 sees the validations.
bool TrainingJob::stop_requested() {
  if (best_ && best_->is_over()) return true;
  const bool decides = is_local() || (is_server() && layout().server(ranks_.rank()) == 0);
  return decides ? stop_->arrived() : stop_signalled();
}

void TrainingJob::run() {
  if (!job_.config.trace.empty()) trace_.emplace(ranks_.world, host_, layout(), job_.config.trace);
  note_phase(JobPhase::train);
  if (!is_local()) {
    workers_ =
        ranks_.world.split(is_worker() ? std::optional<int>(0) : std::nullopt, ranks_.rank());
  }
  if (is_server()) {
    loop_.emplace(ranks_.world, *job_.plan, layout().server(ranks_.rank()), *server_, *plane_,
                  [this] { return stop_requested(); });
  }
  if (is_local() || is_worker()) {
    make_service();
    run_worker();
  } else {
    loop_->run();
  }
}

/// A worker's way to the servers, and the faults that it adds to the gradients on purpose.
void TrainingJob::make_service() {
  const worker::TrainConfig& train = job_.config.train;
  const WorkerPlace place = layout().worker(ranks_.rank());
  const auto asked_to_stop = [this] { return stop_requested(); };
  if (is_local()) {
    parameters_ = std::make_unique<ps::LocalService>(*server_, *job_.plan, asked_to_stop);
  } else {
    worker::OwnServer own;
    if (loop_) {
      own.move = [this] { return loop_->move(); };
      own.finished = [this] { return loop_->finished(); };
    }
    parameters_ = std::make_unique<worker::ServerClient>(ranks_.world, place, *job_.plan, *plane_,
                                                         std::move(own), asked_to_stop);
  }
  if (loop_) loop_->begin();
  if (steps_locally()) {
    own_steps_ =
        std::make_unique<OwnSteps>(job_, server_config(), *parameters_, ranks_.rank(), checkpoint_);
  }
  service_.emplace(own_steps_ ? own_steps_->steps : *parameters_, *job_.plan, place,
                   worker::parse_injection(train.inject), train.training.random_seed());
}

void TrainingJob::run_worker() {
  const double gemm_peak = gemm_peak_of(workers_, job_.config.threads);
  ToldStep told_step;
  std::vector<worker::Observer*> observers = {&told_step};
  if (ranks_.rank() == 0) {
    books_.emplace(job_, *service_, gemm_peak, folder_->metrics());
    observers.push_back(&*books_);
    const index_t patience = job_.config.train.eval_patience;
    const index_t samples =
        std::min(job_.dataset->validation_size(), job_.config.train.eval_samples);
    best_.emplace(folder_->checkpoints(), patience,
                  patience > 0 ? past_validations(folder_->metrics(), samples)
                               : std::vector<PastValidation>());
    observers.push_back(&*best_);
  }
  observers.insert(observers.end(), observers_.begin(), observers_.end());
  WorkerJob worker(job_, layout().worker(ranks_.rank()), workers_, *service_);
  last_ = worker.run(std::move(observers));
  pipeline_seconds_ = worker.pipeline_seconds();
}

index_t TrainingJob::step() const { return parameters_ ? last_.step : server_->step(); }

/// Collects what only some ranks know at the end: the largest resident size, a server's time in
/// checkpoints.
SummaryMetrics TrainingJob::totals() const {
  const ps::SaveTotals saves = server_ ? server_->save_totals() : ps::SaveTotals();
  std::array<double, 3> most = {static_cast<double>(peak_resident_bytes()), saves.seconds,
                                static_cast<double>(saves.count)};
  ranks_.max(most);
  SummaryMetrics metrics;
  metrics.peak_memory_bytes = static_cast<index_t>(most[0]);
  metrics.checkpoint_seconds = most[1];
  metrics.checkpoint_count = static_cast<index_t>(most[2]);
  return metrics;
}

ExitCode TrainingJob::close() {
  note_phase(JobPhase::close);
  SummaryMetrics metrics = totals();
  metrics.is_over = best_ && best_->is_over();
  if (books_) books_->summary(metrics, last_, pipeline_seconds_);
  std::array<double, 2> found = {books_ && books_->diverged() ? 1.0 : 0.0,
                                 best_ && best_->is_over() ? 1.0 : 0.0};
  ranks_.max(found);
  const auto [diverged, is_over] = found;
  if (trace_) trace_->write();
  // All ranks leave together after the commit: one that left first with 75 would end the others.
  ranks_.barrier();
  if (best_) best_->note_committed();
  watchdog_.reset();
  if (step() < job_.config.train.training.steps && is_over == 0) return ExitCode::stopped;
  return diverged > 0 ? ExitCode::diverged : ExitCode::done;
}

}  // namespace weir
