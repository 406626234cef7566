#include "launch/run_config.hpp"

#include <algorithm>
#include <limits>
#include <optional>
#include <sstream>

#include "common/base/error.hpp"
#include "launch/run_paths.hpp"
#include "worker/models/transformer/transformer.hpp"

namespace weir {
namespace {

constexpr index_t kWorkersMax = 65536;

std::vector<Option> own_options(RunConfig& config) {
  return {
      {"run",
       "",
       "run folder: configuration, metrics, checkpoints; the default for "
       "--config RUN/config.ini is RUN",
       &config.run,
       {},
       Scope::machine},
      {"private",
       "",
       "only you may read what the job writes from now on; otherwise your umask says who may",
       &config.owner_only,
       {},
       Scope::machine},
      {"resume",
       "",
       "auto: continue from the newest complete checkpoint of the run folder, if there is one; "
       "never; or the path of a checkpoint",
       &config.resume,
       {},
       Scope::machine},
      {"accept-changed-data",
       "",
       "continue from a checkpoint of another text even if bytes that it held out would be trained "
       "on, or nothing would be trained",
       &config.accept_changed_data,
       {},
       Scope::machine},
      {"replay", "",
       "repeat the decisions of this log (decisions.jsonl of a run folder), and so its run, to the "
       "bit",
       &config.replay},
      {"trace",
       "",
       "record when each rank computed, sent and waited, and write it to this file when the job "
       "ends, as a Chrome trace, which ui.perfetto.dev opens; weir report compares it with the "
       "plan",
       &config.trace,
       {},
       Scope::machine},
      {"local.steps",
       "steps",
       "with --consistency local: steps of a replica between two meetings",
       &config.local.steps,
       {1, 1e9}},
      {"local.rate",
       "",
       "with --consistency local: learning rate of the servers, whose gradient is how far the "
       "replicas have moved",
       &config.local.rate,
       {1e-6, 10}},
      {"local.momentum",
       "",
       "with --consistency local: Nesterov momentum of the servers",
       &config.local.momentum,
       {0, 0.9999}},
      {"threads",
       "",
       "threads that a rank computes with",
       &config.threads,
       {1, 1024},
       Scope::machine},
      {"products", "",
       "who makes matrix products with weights: onednn, which keeps them packed for the products "
       "of "
       "a step; openblas; auto: the faster one for this processor and each shape",
       choice(config.products.library,
              {{name_of(worker::ProductLibrary::automatic), worker::ProductLibrary::automatic},
               {name_of(worker::ProductLibrary::onednn), worker::ProductLibrary::onednn},
               {name_of(worker::ProductLibrary::openblas), worker::ProductLibrary::openblas}})},
      {"bucket-bytes",
       "bytes",
       "parameters travel to and from servers in buckets of at most this size",
       &config.bucket_bytes,
       {65536, 1 << 30}},
      {"transport",
       "",
       "the way to and from servers: window, memory that the ranks of a host share; messages; "
       "auto: for each pair of ranks the faster one that they can use",
       choice(config.transport, {{name_of(Transport::automatic), Transport::automatic},
                                 {name_of(Transport::window), Transport::window},
                                 {name_of(Transport::messages), Transport::messages}}),
       {},
       Scope::machine},
      {"ring-depth",
       "",
       "buckets under way at once between two ranks, if they travel as messages",
       &config.ring_depth,
       {1, 256},
       Scope::machine},
      {"progress",
       "",
       "auto: one live line on a terminal, otherwise a line now and then",
       choice(config.progress, {{"auto", ProgressMode::automatic},
                                {"live", ProgressMode::live},
                                {"line", ProgressMode::line},
                                {"none", ProgressMode::none}}),
       {},
       Scope::machine},
      {"log-level",
       "",
       "log lines below this level are dropped",
       choice(config.log_level, {{"debug", LogLevel::debug},
                                 {"info", LogLevel::info},
                                 {"warning", LogLevel::warning},
                                 {"error", LogLevel::error}}),
       {},
       Scope::machine},
  };
}

/// Takes --config FILE or --config=FILE out of the arguments.
std::optional<std::string> take_config_file(std::vector<std::string>& arguments) {
  std::optional<std::string> file;
  for (std::size_t index = 0; index < arguments.size();) {
    const std::string& argument = arguments[index];
    const bool adjacent = argument.starts_with("--config=");
    if (argument != "--config" && !adjacent) {
      ++index;
      continue;
    }
    if (file) throw UsageError("--config is given twice");
    if (!adjacent && index + 1 == arguments.size()) {
      throw UsageError("--config: a value is missing; expected the path of an INI file");
    }
    file = adjacent ? argument.substr(argument.find('=') + 1) : arguments[index + 1];
    if (file->empty()) throw UsageError("--config is empty; expected the path of an INI file");
    const auto at = arguments.begin() + static_cast<std::ptrdiff_t>(index);
    arguments.erase(at, at + (adjacent ? 1 : 2));
  }
  return file;
}

/// Colocated servers are one for each worker. Another number is refused if it was given in the same
/// place as the layout or in a later one; one from an earlier place, a file say, is overruled.
void imply_servers(ParsedConfig& parsed) {
  Layout& layout = parsed.config.layout;
  if (layout.placement != Placement::colocated) return;
  const auto setting = [&](std::string_view name) {
    return std::ranges::find(parsed.settings, name, &Setting::name);
  };
  Source newest = Source::standard;
  for (const char* name : {"placement", "replicas", "stages", "contexts", "shards"}) {
    newest = std::max(newest, setting(name)->source);
  }
  const auto servers = setting("servers");
  if (servers->source >= newest && layout.servers != layout.worker_count()) {
    throw UsageError(text("--placement colocated has a server on each worker's rank: ",
                          layout.arithmetic(), ", so --servers ", layout.servers,
                          " cannot be; leave it out, or take --placement dedicated"));
  }
  layout.servers = layout.worker_count();
  *servers = {"servers", std::to_string(layout.servers), newest};
}

}  // namespace

std::vector<Option> options(RunConfig& config) {
  std::vector<Option> all;
  for (const auto& table : {options(config.train), own_options(config), options(config.wire),
                            options(config.layout), options(config.model), options(config.data),
                            options(config.server), options(config.watchdog)}) {
    all.insert(all.end(), table.begin(), table.end());
  }
  return all;
}

std::vector<Option> chosen_options(RunConfig& config, const std::vector<std::string>& names) {
  const auto is_meant = [](const Option& option, const std::string& name) {
    return name.ends_with('.') ? option.name.starts_with(name) : option.name == name;
  };
  std::vector<Option> chosen = options(config);
  for (const std::string& name : names) {
    if (std::ranges::any_of(chosen, [&](const Option& each) { return is_meant(each, name); })) {
      continue;
    }
    throw Error(text("a list of options names ", name, ", and weir has no such option"));
  }
  std::erase_if(chosen, [&](const Option& option) {
    return std::ranges::none_of(names,
                                [&](const std::string& name) { return is_meant(option, name); });
  });
  return chosen;
}

ParsedConfig parse_run_config(const std::vector<std::string>& arguments,
                              const std::vector<std::string>& environment) {
  std::vector<std::string> rest = arguments;
  const std::optional<std::string> file = take_config_file(rest);
  ParsedConfig parsed;
  parsed.settings = parse_options(options(parsed.config), file, environment, rest);
  if (file) settle_run(parsed, *file);
  imply_servers(parsed);
  return parsed;
}

std::string settings_as_text(const std::vector<Setting>& settings) {
  std::string all;
  for (const Setting& setting : settings) {
    all += text(setting.name, '\0', setting.value, '\0', static_cast<int>(setting.source), '\0');
  }
  return all;
}

ParsedConfig run_config_from_text(const std::string& text) {
  ParsedConfig parsed;
  std::istringstream words(text);
  for (std::string name, value, source; std::getline(words, name, '\0') &&
                                        std::getline(words, value, '\0') &&
                                        std::getline(words, source, '\0');) {
    parsed.settings.push_back({name, value, static_cast<Source>(std::stoi(source))});
  }
  apply_settings(options(parsed.config), parsed.settings);
  return parsed;
}

void fit_model_to_data(RunConfig& config) {
  worker::fit(config.model, worker::shape_of(config.data, config.train.length));
  config.model.dtype = dtype_of(config.train.training.precision);
}

Dtype pulled_dtype(const RunConfig& config) {
  const bool by_rounds = config.server.consistency.mode == ps::Consistency::local;
  return by_rounds ? kArenaDtype : dtype_of(config.train.training.precision);
}

namespace {

/// The option by which an update does not wait for all replicas.
std::string why_not_all(const ps::ConsistencyConfig& consistency) {
  return consistency.backup > 0 ? text("--backup ", consistency.backup)
                                : text("--consistency ", name_of(consistency.mode));
}

/// Weights of a low precision travel as they are, so --wire-pull has nothing to say. Differences
/// need readers who take every one.
void check_pull(const RunConfig& config) {
  const ps::ConsistencyConfig& consistency = config.server.consistency;
  if (config.wire.pull.keeps_residual() && !waits_for_all(consistency)) {
    throw UsageError(text("--wire-pull int8 sends how far weights have moved in an update, and ",
                          why_not_all(consistency),
                          " lets replicas miss some; take --wire-pull bf16"));
  }
  const Dtype pulled = pulled_dtype(config);
  const WireFormat format = config.wire.pull.format;
  const WireFormat same = pulled == Dtype::bf16 ? WireFormat::bf16 : WireFormat::fp16;
  if (pulled == kArenaDtype || format == WireFormat::fp32 || format == same) return;
  throw UsageError(text("--precision ", name_of(config.train.training.precision),
                        " has weights travel as workers compute with them, so --wire-pull cannot "
                        "be another format; leave it out"));
}

/// A group's sum is made before any server sees it, so no update may have a part of a group.
void check_groups(const RunConfig& config) {
  const Layout& layout = config.layout;
  layout.check_groups();
  const ps::ConsistencyConfig& consistency = config.server.consistency;
  if (layout.group_size == 1 || waits_for_all(consistency)) return;
  throw UsageError(text("--sum-groups ", layout.group_size,
                        " adds up the gradients of a group's replicas before servers see them, and "
                        "with ",
                        why_not_all(consistency),
                        " an update may have some of them only; leave out one of the two"));
}

/// Checkpoints, validations and the end fall on ends of rounds, and a replica is one worker.
void check_local_steps(const RunConfig& config) {
  const Layout& layout = config.layout;
  const index_t round = config.local.steps;
  if (layout.worker_count() != layout.replicas || layout.placement == Placement::local) {
    throw UsageError(
        "--consistency local has replicas step by themselves, each of one worker: take --stages 1, "
        "--contexts 1, --shards 1, and servers of their own");
  }
  const auto whole = [&](const char* name, index_t steps) {
    if (steps % round == 0) return;
    throw UsageError(text("--", name, " ", steps, " is not a multiple of --local.steps ", round,
                          ", after which replicas meet; take ", steps / round * round + round));
  };
  whole("steps", config.train.training.steps);
  whole("eval-every", config.train.training.eval_every);
  whole("checkpoint-every", config.server.checkpoint.every);
  if (config.train.training.balance != BalanceKind::even) {
    throw UsageError(
        "--balance measured shares out the micro-batches of every step, and "
        "--consistency local has replicas meet after rounds of steps; take one");
  }
}

void check_chunks(const RunConfig& config) {
  const worker::Pipeline pipeline = pipeline_of(config.train, config.layout);
  if (pipeline.chunks_a_stage == 1 || config.model.layers >= pipeline.chunks()) return;
  throw UsageError(text("--model.layers ", config.model.layers, " cannot fill --stages ",
                        pipeline.stages, " x --chunks ", pipeline.chunks_a_stage,
                        ": a chunk needs a layer; take fewer chunks or stages, or ",
                        pipeline.chunks(), " layers or more"));
}

}  // namespace

void check(const RunConfig& config) {
  if (config.run.empty()) {
    throw UsageError("--run is empty: name the run folder, or leave it out for runs/default");
  }
  const Layout& layout = config.layout;
  const double workers = static_cast<double>(layout.replicas) * static_cast<double>(layout.stages) *
                         static_cast<double>(layout.contexts) * static_cast<double>(layout.shards);
  if (workers > kWorkersMax) {
    throw UsageError(text("--replicas ", layout.replicas, " x --stages ", layout.stages,
                          " x --contexts ", layout.contexts, " x --shards ", layout.shards,
                          " are more than ", kWorkersMax, " workers"));
  }
  if (layout.placement == Placement::local && layout.servers > 1) {
    throw UsageError(text("--placement local has its server in the one process, so --servers ",
                          layout.servers, " cannot be; take --placement dedicated"));
  }
  for (const auto& [option, wire] :
       {std::pair("--wire-push", config.wire.push), std::pair("--wire-pull", config.wire.pull)}) {
    if (layout.placement == Placement::local && !wire.is_raw()) {
      throw UsageError(text("--placement local sends nothing, so ", option,
                            " can only be fp32; take --placement dedicated"));
    }
  }
  check_pull(config);
  if (config.products.library == worker::ProductLibrary::onednn &&
      !worker::onednn_packs(config.products.instructions)) {
    throw UsageError(text(
        "--products onednn: oneDNN keeps weights packed on processors with AVX-512 alone, and this "
        "job has ",
        name_of(config.products.instructions), "; take --products auto"));
  }
  check(config.train, layout);
  check(config.server.consistency, layout.replicas);
  check_groups(config);
  if (config.server.consistency.mode == ps::Consistency::local) check_local_steps(config);
  const bool decides = !waits_for_all(config.server.consistency);
  if (decides && layout.placement == Placement::local) {
    throw UsageError(
        "--placement local has one worker, for whom nobody waits; take --consistency "
        "bsp, or --placement dedicated");
  }
  if (!decides && !config.replay.empty() && config.train.training.balance == BalanceKind::even) {
    throw UsageError(
        text("--replay ", config.replay,
             ": where every update waits for all replicas (--consistency bsp without "
             "--backup), and has an even share, nothing is decided, and every run is the same"));
  }
  check(config.model, layout);
  check_chunks(config);
  check(config.server.optimizer);
  check(config.server.loss_scale);
  if (config.server.clip.policy == ps::ClipPolicy::update_rms &&
      config.server.optimizer.kind != ps::OptimizerKind::adamw) {
    throw UsageError(text("--clip.policy update_rms looks at the variance that adamw keeps, which ",
                          name_of(config.server.optimizer.kind),
                          " has not, or steps by in another way; take another --clip.policy"));
  }
  if (config.server.consistency.mode == ps::Consistency::local &&
      config.server.rollback.bad_steps > 0) {
    throw UsageError(
        "--rollback goes back on the servers alone, and with --consistency local replicas step by "
        "themselves; leave it out");
  }
  const index_t part = longest_part(config.model.length, layout.contexts);
  const double elements = static_cast<double>(config.train.training.micro_batch) *
                          static_cast<double>(part) * static_cast<double>(config.model.width);
  constexpr double kFrameMax = 0x1p38;  // 1 TiB
  if (elements > kFrameMax) {
    throw UsageError(text("--micro-batch ", config.train.training.micro_batch, " x ", part,
                          " tokens x --model.width ", config.model.width,
                          " is more than a rank can hold (2^38 numbers); take a smaller "
                          "--micro-batch"));
  }
  const worker::LargestMessage message =
      worker::TransformerModel(config.model)
          .largest_message(layout, config.train.training.micro_batch);
  if (message.elements > std::numeric_limits<int>::max()) {
    throw UsageError(text(message.what, " is more than one message between ", message.between,
                          " can hold (2^31 - 1 numbers); ", message.cure));
  }
}

}  // namespace weir
