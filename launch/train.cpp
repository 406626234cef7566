#include <array>
#include <iostream>
#include <memory>
#include <optional>

#include "common/base/log.hpp"
#include "common/base/machine.hpp"
#include "common/io/checkpoint_format.hpp"
#include "common/io/digest.hpp"
#include "common/io/file.hpp"
#include "common/io/mapped_file.hpp"
#include "common/job/data_plane.hpp"
#include "common/job/transport_report.hpp"
#include "common/net/agree.hpp"
#include "common/net/mpi.hpp"
#include "launch/book_keeper.hpp"
#include "launch/checkpoint_changes.hpp"
#include "launch/checkpoint_room.hpp"
#include "launch/command.hpp"
#include "launch/cut.hpp"
#include "launch/job.hpp"
#include "launch/run/run_folder.hpp"
#include "launch/run_paths.hpp"
#include "launch/start_report.hpp"
#include "launch/stop_request.hpp"
#include "launch/text_record.hpp"
#include "launch/trained_model.hpp"
#include "launch/worker_job.hpp"
#include "ps/local_service.hpp"
#include "ps/local_steps.hpp"
#include "ps/save/resume.hpp"
#include "ps/server.hpp"
#include "ps/server_loop.hpp"
#include "worker/kernels/cpu/blas.hpp"
#include "worker/models/transformer/description.hpp"
#include "worker/train/faults.hpp"
#include "worker/train/server_client.hpp"

namespace weir {
namespace {

/// All ranks of the job, or this process alone (`world` is none without mpirun).
struct Ranks {
  Comm world;
  int rank() const { return world ? world.rank() : 0; }
  int size() const { return world ? world.size() : 1; }
  /// Who this is on the lines of the log; nobody if there is no other.
  std::string identity(const Layout& layout) const {
    return size() == 1 ? std::string() : text("rank ", rank(), ", ", layout.role(rank()));
  }

  /// Runs `work` here; if it threw on any rank, all throw the same.
  template <class Work>
  void together(const Work& work) const {
    const std::optional<Error> found = error_of(work);
    if (world) {
      agree(world, found);
    } else if (found) {
      throw *found;
    }
  }
  void same(std::string_view what, const std::string& digest) const {
    if (world) agree_digest(world, what, digest);
  }
  /// The text of rank 0.
  std::string from_rank_0(std::string text) const {
    return world ? world.broadcast(std::move(text), 0) : text;
  }
  void max(std::span<double> values) const {
    if (world) world.max(values);
  }
};

/// Rank 0 reads file, environment and command line; everyone gets the effective settings.
ParsedConfig agree_on_config(const Ranks& ranks, const Arguments& arguments) {
  ranks.same("the binary", digest_of(MappedFile("/proc/self/exe").bytes()));
  std::string line;
  for (const std::string& argument : arguments) line += argument + '\n';
  ranks.same("the command line", digest_of(line));

  ParsedConfig parsed;
  ranks.together([&] {
    if (ranks.rank() == 0) parsed = parse_run_config(arguments, weir_environment());
  });
  const std::string settings = ranks.from_rank_0(settings_as_text(parsed.settings));
  return ranks.rank() == 0 ? parsed : run_config_from_text(settings);
}

/// The checkpoint that --resume PATH names: itself or the newest of a run folder.
fs::path named_checkpoint(const fs::path& path) {
  if (is_checkpoint(path)) {
    if (!read_manifest(path).settings.contains(ps::kReplicaSetting)) return path;
    throw UsageError(text("--resume ", path.string(),
                          " is what a replica has of its own beside the checkpoint of the same "
                          "name; name that one, in ",
                          path.parent_path().parent_path().string()));
  }
  if (const auto newest = newest_complete(RunFolder::checkpoints_of(path))) return *newest;
  throw UsageError(text("--resume ", path.string(),
                        " is neither a checkpoint nor a run folder that holds a complete one"));
}

/// The checkpoint to go on from, empty if there is none. Throws UsageError if `resume` names
/// something that is none, or if the run folder holds checkpoints of later steps than training
/// would begin from: a mixture of two trainings, of which `auto` would later take the older one.
fs::path find_checkpoint(const RunConfig& config) {
  const fs::path own = RunFolder::checkpoints_of(config.run);
  if (config.resume == "auto") return newest_complete(own).value_or(fs::path());
  if (config.resume == "never") {
    if (checkpoints_in(own).empty()) return {};
    throw UsageError(text("--resume never would mix with the checkpoints in ", own.string(),
                          "; take another --run, or remove them"));
  }
  const fs::path named = named_checkpoint(config.resume);
  if (!checkpoints_in(own).empty()) {
    const fs::path newest = *newest_complete(own);
    if (ps::steps_done(read_manifest(newest)) > ps::steps_done(read_manifest(named))) {
      throw UsageError(text("--resume ", config.resume, " goes back to before ", newest.string(),
                            ", which --resume auto would take later; take another --run, or "
                            "remove the checkpoints after it"));
    }
  }
  return named;
}

/// Rank 0 decides, since it has the folder.
fs::path checkpoint_to_resume(const Ranks& ranks, const RunConfig& config) {
  std::string path;
  ranks.together([&] {
    if (ranks.rank() != 0) return;
    path = find_checkpoint(config).string();
    if (!path.empty()) log_info(text("goes on from ", path));
  });
  return ranks.from_rank_0(path);
}

/// A table of learned positions keeps the size that it was made with: rank 0 looks, all plan anew
/// if sequences are shorter now.
void fit_job_to_checkpoint(const Ranks& ranks, const fs::path& checkpoint, Job& job) {
  if (checkpoint.empty() || job.config.model.positions != worker::Positions::learned) return;
  std::string found;
  ranks.together([&] {
    if (ranks.rank() == 0) found = text(learned_positions(read_manifest(checkpoint)));
  });
  const index_t positions = std::stoll(ranks.from_rank_0(found));
  if (positions == 0 || positions == job.config.model.length) return;
  ranks.together([&] {
    RunConfig config = job.config;
    config.model.learned_positions = positions;
    job = make_job(config);
  });
}

/// Whether another value of a setting would make another function of the same weights.
bool decides_the_function(const std::string& name, const worker::ModelConfig& model) {
  if (name == "model.dropout" || name == "model.deviation") return false;
  if (name == "attention.global-heads") return model.globals == worker::GlobalForm::split;
  return name.starts_with("model.") || name.starts_with("attention.");
}

/// What the servers need beside their own options.
ps::ServerConfig server_config(const Job& job, const std::vector<Setting>& settings) {
  ps::ServerConfig config = job.config.server;
  config.steps = job.config.train.steps;
  config.batch = job.config.train.batch;
  config.micro_batch = job.config.train.micro_batch;
  config.balance = job.config.train.balance == worker::BalanceKind::measured;
  config.meet_every = job.config.train.eval_every;
  config.decisions = RunFolder::decisions_of(job.config.run);
  config.replay = job.config.replay;
  config.seed = static_cast<std::uint64_t>(job.config.train.seed);
  config.checkpoint.folder = RunFolder::checkpoints_of(job.config.run);
  for (const Setting& setting : settings) {
    auto& place = decides_the_function(setting.name, job.config.model) ? config.checkpoint.settings
                                                                       : config.checkpoint.notes;
    place[setting.name] = setting.value;
  }
  if (const worker::TextDataset* const text = job.dataset->as_text()) {
    config.checkpoint.notes.merge(as_settings(record_of(*text)));
  }
  config.checkpoint.obsolete = worker::obsolete_parameters(job.config.model);
  config.checkpoint.attributes = worker::description(job.config.model);
  config.checkpoint.attributes.push_back({"tokenizer", worker::tokenizer_of(job.config.data.kind)});
  config.checkpoint.settings["attention.global-tokens"] =
      worker::text_of(job.config.model.sparsity().globals);  // 0,1 and 0-1 are the same
  return config;
}

/// What a replica needs to step by itself.
struct OwnSteps {
  OwnSteps(const Job& job, const ps::ServerConfig& config, ParameterService& servers,
           index_t replica, const fs::path& checkpoint)
      : plan([&] {
          RunConfig alone = job.config;
          alone.layout = {.placement = Placement::local};
          alone.wire = {};
          return make_bucket_plan(alone, first_units(alone));
        }()),
        server(plan, 0, ps::server_config_of_replica(config, replica)),
        steps(servers, server, plan, config,
              {.round_steps = job.config.local.steps,
               .replica = replica,
               .replicas = job.config.layout.replicas},
              checkpoint) {
    // Whoever of the servers saves makes none.
    make_folders(posix_file_system(), config.checkpoint.folder);
  }
  const BucketPlan plan;
  ps::Server server;
  ps::LocalSteps steps;
};

/// What only some rank knows at the end: the largest resident size, a server's time in checkpoints.
SummaryMetrics totals(const Ranks& ranks, const ps::SaveTotals& saves) {
  std::array<double, 3> most = {static_cast<double>(peak_resident_bytes()), saves.seconds,
                                static_cast<double>(saves.count)};
  ranks.max(most);
  SummaryMetrics metrics;
  metrics.peak_memory_bytes = static_cast<index_t>(most[0]);
  metrics.checkpoint_seconds = most[1];
  metrics.checkpoint_count = static_cast<index_t>(most[2]);
  return metrics;
}

/// FLOP/s of sgemm on the cores of all workers, measured by all of them at the same time.
double gemm_peak_of(const Comm& workers, index_t threads) {
  if (workers) workers.barrier();
  const double own = measured_gemm_peak(0.3, static_cast<int>(threads));
  return workers ? workers.sum(own) : own;
}

/// A worker, from its first to its last step. Keeps the books if it is worker 0.
struct WorkerRun {
  WorkerResult result;
  std::optional<BookKeeper> books;
};

void run_as_worker(const Job& job, index_t rank, const Comm& workers, ParameterService& parameters,
                   const RunFolder* folder, WorkerRun& run) {
  const std::string identity = log_identity();
  const double gemm_peak = gemm_peak_of(workers, job.config.threads);
  const WorkerPlace place = job.config.layout.worker(rank);
  if (rank == 0) run.books.emplace(job, parameters, gemm_peak, folder->metrics());
  WorkerEvents events;
  events.on_start = [&](const Directive& directive) {
    if (!run.books) return;
    run.books->start(directive.step);
    if (directive.order.stop) {
      log_info(text("all of ", job.config.train.steps, " steps are done: the checkpoint has ",
                    directive.step, "; validates only"));
    }
  };
  events.on_step = [&](const Directive& directive) {
    set_log_identity(text(identity, identity.empty() ? "" : ", ", "step ", directive.step));
    if (run.books) run.books->step(directive);
  };
  if (run.books) {
    events.on_validation_begin = [&](index_t step, index_t samples) {
      run.books->validation_begin(step, samples);
    };
    events.on_validation = [&](index_t step, const worker::Loss& loss) {
      run.books->validation(step, loss);
    };
  }
  run.result = run_worker(job, place, workers, parameters, events);
}

}  // namespace

int train(const Arguments& arguments) {
  if (asks_for_help(arguments)) {
    RunConfig standard;
    std::cout << help_of_command(
        "train", "[--config FILE] [options]",
        "Trains a model; under mpirun with workers and parameter servers "
        "(on the same ranks with --placement colocated), or in one process "
        "with --placement local.\n"
        "--config RUN/config.ini goes on with the run in that folder. Relative paths start from "
        "the\nworking directory.",
        options(standard));
    return 0;
  }
  Ranks ranks;
  if (started_by_mpi_launcher()) ranks.world = Comm::world();
  const ParsedConfig parsed = agree_on_config(ranks, arguments);
  const RunConfig& config = parsed.config;
  if (config.owner_only) keep_new_files_private();
  const std::vector<Setting> settings = with_absolute_paths(parsed.settings);
  const Layout layout = config.layout;
  ranks.together([&] {
    layout.check(ranks.size());
    if (layout.placement == Placement::colocated && !ranks.world) {
      throw UsageError(
          "--placement colocated speaks MPI, even with itself: start mpirun with -n 1, or take "
          "--placement local for one process without mpirun");
    }
  });
  set_log_identity(ranks.identity(layout));
  set_log_level(config.log_level);
  StopRequest stop(config.run);
  if (const std::string warning = warning_of(config.wire); ranks.rank() == 0 && !warning.empty()) {
    log_warning(warning);
  }
  for (const std::string& remark : parsed.remarks) log_info(remark);
  set_blas_threads(static_cast<int>(config.threads));

  Job job;
  ranks.together([&] { job = make_job(config); });
  ranks.same("the plan of buckets", job.plan->digest());
  const std::string data = job.dataset->describe();
  ranks.same("the data", data);
  if (ranks.rank() == 0) {
    for (const std::string& warning : job.dataset->warnings()) log_warning(warning);
  }

  std::optional<RunFolder> folder;
  ranks.together([&] {
    if (ranks.rank() == 0) folder.emplace(job.config.run);
  });
  const fs::path checkpoint = checkpoint_to_resume(ranks, job.config);
  fit_job_to_checkpoint(ranks, checkpoint, job);

  // How gradients and weights travel, and where they lie meanwhile.
  Comm host;
  std::optional<DataPlane> plane;
  if (layout.placement != Placement::local) {
    host = ranks.world.host();
    plane.emplace(ranks.world, host, *job.plan, config.transport,
                  ps::waits_for_all(config.server.consistency), config.ring_depth);
    report_transport(ranks.world, layout, *plane);
  }

  // Servers load their part now, so that a checkpoint that does not fit ends all ranks at once.
  const bool is_server = layout.is_server(ranks.rank());
  const bool is_worker = layout.is_worker(ranks.rank());
  const bool is_local = layout.placement == Placement::local;
  const bool steps_locally = config.server.consistency.mode == ps::Consistency::local;
  std::optional<ps::Server> server;
  ranks.together([&] {
    if (!is_server && !is_local) return;
    ps::ServerConfig its = server_config(job, settings);
    if (steps_locally) its = ps::server_config_of_rounds(std::move(its), job.config.local);
    server.emplace(*job.plan, is_local ? 0 : layout.server(ranks.rank()), its,
                   plane ? plane->server_memory() : BucketMemory());
    if (!checkpoint.empty()) server->load(checkpoint);
  });
  // Not before: a job that is refused changes nothing in the folder of an earlier one.
  ranks.together([&] {
    if (ranks.rank() != 0) return;
    Manifest before;
    if (!checkpoint.empty()) before = ps::in_steps(read_manifest(checkpoint));
    if (!checkpoint.empty()) check_text(before, job);
    remove_leftovers(posix_file_system(), folder->checkpoints());
    check_room(job, folder->checkpoints(), before.step);
    folder->write_config(settings);
    folder->write_environment(ranks.size(), data);
    if (!checkpoint.empty()) log_changes(before, settings, job.config);
    for (const std::string& line : start_report(job, before.step, before.cursor)) log_info(line);
  });

  Comm workers;
  if (ranks.world && !is_local) {
    workers = ranks.world.split(is_worker ? std::optional<int>(0) : std::nullopt, ranks.rank());
  }
  // One rank looks for the file; any rank may get the signal.
  const bool decides = is_local || (is_server && layout.server(ranks.rank()) == 0);
  const auto stop_requested = [&] { return decides ? stop.arrived() : stop_signalled(); };
  std::optional<ps::ServerLoop> loop;  // of a server
  if (is_server) {
    loop.emplace(ranks.world, *job.plan, layout.server(ranks.rank()), *server, *plane,
                 stop_requested);
  }
  std::unique_ptr<ParameterService> parameters;  // of a worker
  if (is_local) {
    parameters = std::make_unique<ps::LocalService>(*server, *job.plan, stop_requested);
  } else if (is_worker) {
    worker::OwnServer own;
    if (loop) {
      own.move = [&] { return loop->move(); };
      own.finished = [&] { return loop->finished(); };
    }
    parameters =
        std::make_unique<worker::ServerClient>(ranks.world, layout.worker(ranks.rank()), *job.plan,
                                               *plane, std::move(own), stop_requested);
  }
  WorkerRun run;
  if (!parameters) {
    loop->run();
  } else {
    if (loop) loop->begin();
    const std::unique_ptr<OwnSteps> own =
        steps_locally ? std::make_unique<OwnSteps>(job, server_config(job, settings), *parameters,
                                                   ranks.rank(), checkpoint)
                      : nullptr;
    worker::FaultyService service(own ? own->steps : *parameters, *job.plan,
                                  layout.worker(ranks.rank()),
                                  worker::parse_injection(job.config.train.inject),
                                  static_cast<std::uint64_t>(job.config.train.seed));
    run_as_worker(job, ranks.rank(), workers, service, folder ? &*folder : nullptr, run);
  }
  const SummaryMetrics metrics = totals(ranks, server ? server->save_totals() : ps::SaveTotals());
  if (run.books) run.books->summary(metrics, run.result);
  const index_t last_step = parameters ? run.result.last.step : server->step();
  const bool stopped = last_step < job.config.train.steps;
  std::array<double, 1> diverged = {run.books && run.books->diverged() ? 1.0 : 0.0};
  ranks.max(diverged);
  // All together after the commit: a rank that leaves first with 75 would end the others.
  if (ranks.world) ranks.world.barrier();
  return static_cast<int>(stopped           ? ExitCode::stopped
                          : diverged[0] > 0 ? ExitCode::diverged
                                            : ExitCode::done);
}

}  // namespace weir
