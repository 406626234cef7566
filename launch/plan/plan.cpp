#include "launch/plan/plan.hpp"

#include <algorithm>
#include <iostream>
#include <optional>

#include "common/base/error.hpp"
#include "common/base/machine.hpp"
#include "common/io/file.hpp"
#include "common/net/agree.hpp"
#include "common/net/mpi.hpp"
#include "launch/command.hpp"
#include "launch/cut.hpp"
#include "launch/plan/measure_buckets.hpp"
#include "launch/plan/rank_plan.hpp"
#include "launch/plan/schedule_plan.hpp"
#include "launch/terminal/quantities.hpp"
#include "launch/terminal/table.hpp"
#include "worker/kernels/cpu/blas.hpp"
#include "worker/models/transformer/cost.hpp"
#include "worker/models/transformer/transformer.hpp"

namespace weir {
namespace {

std::string counted(index_t count, const char* noun, const char* plural = "s") {
  return text(grouped(count), " ", noun, count == 1 ? "" : plural);
}

std::string exact(index_t bytes) {
  return text(grouped(bytes), " bytes (", bytes_text(bytes), ")");
}

/// The numbers as `0-3, 8, 12`; a long list is shown by its beginning and its length.
std::string numbers_text(const std::vector<index_t>& numbers) {
  constexpr std::size_t kColumns = 16;
  std::string words;
  for (std::size_t at = 0; at < numbers.size();) {
    std::size_t last = at;
    while (last + 1 < numbers.size() && numbers[last + 1] == numbers[last] + 1) ++last;
    const std::string run = last == at ? text(numbers[at]) : text(numbers[at], '-', numbers[last]);
    if (words.size() + run.size() > kColumns) {
      return text(words, ", ... (", numbers.size(), ")");
    }
    words += text(words.empty() ? "" : ", ", run);
    at = last + 1;
  }
  return words;
}

/// The names of a chunk as `embedding, layers 0-3, head`: names that differ only in a number at
/// their end become one.
std::string units_text(const worker::Model& model, Interval units) {
  std::string words;
  for (index_t unit = units.begin; unit < units.end;) {
    const std::string name = model.unit_name(unit);
    const std::string kind = name.substr(0, name.find(' '));
    index_t end = unit + 1;
    while (end < units.end && name != kind && model.unit_name(end).starts_with(kind + ' ')) ++end;
    words += words.empty() ? "" : ", ";
    if (end - unit == 1) {
      words += name;
    } else {
      const std::string last = model.unit_name(end - 1);
      words += text(kind, "s", name.substr(kind.size()), '-', last.substr(kind.size() + 1));
    }
    unit = end;
  }
  return words;
}

/// The chunks of a stage as `embedding, layer 0; layer 2`.
std::string chunks_text(const worker::Model& model, const std::vector<Interval>& chunks) {
  std::string words;
  for (const Interval& units : chunks) {
    words += text(words.empty() ? "" : "; ", units_text(model, units));
  }
  return words;
}

std::string layout_text(const Layout& layout) {
  if (layout.placement == Placement::local) return "one process, worker and server in one";
  const std::string start = text(": mpirun -n ", layout.rank_count());
  if (layout.placement == Placement::colocated) {
    return text(layout.arithmetic(), ", each a server, too", start);
  }
  return text(layout.arithmetic(), "; + ", counted(layout.servers, "server"), " = ",
              counted(layout.rank_count(), "rank"), start);
}

std::string heading(const RunConfig& config, const BucketPlan& plan,
                    const std::vector<RankPlan>& ranks) {
  const worker::ModelConfig& model = config.model;
  const worker::TrainConfig& train = config.train;
  index_t elements = 0, pushed = 0, pulled = 0;
  for (const ParameterSpec& spec : plan.specs()) elements += spec.element_count();
  for (const RankPlan& rank : ranks) {
    pushed += rank.is_server ? 0 : rank.pushed_bytes;
    pulled += rank.is_server ? 0 : rank.pulled_bytes;
  }
  const double flops =
      worker::model_flops_a_sample(model) * static_cast<double>(train.training.batch);
  Table table("ll", {"", ""});
  table.add({"layout", layout_text(config.layout)});
  table.add({"model", text(model.task == worker::Task::language ? "language model" : "classifier",
                           ", ", counted(model.layers, "layer"), ", width ", model.width, ", ",
                           counted(model.heads, "head"), ", feed-forward ", model.feed_forward,
                           ", vocabulary ", model.vocabulary)});
  table.add({"parameters", text(grouped(elements), " in ", counted(plan.specs().size(), "tensor"),
                                ": ", exact(elements * bytes_of(kArenaDtype)))});
  table.add(
      {"step", text(counted(train.training.batch, "sample"), " of ", grouped(model.length),
                    " tokens in ", counted(train.training.micro_batches(), "micro-batch", "es"),
                    "; ", with_prefix(flops, "FLOP"))});
  table.add(
      {"buckets", text(plan.buckets().size(), " of at most ", bytes_text(config.bucket_bytes))});
  if (config.layout.placement == Placement::local) {
    table.add({"travels", "nothing"});
  } else {
    table.add({"pushed", text(exact(pushed), " a step by all workers")});
    table.add({"pulled", text(exact(pulled), " a step by all workers")});
    if (plan.wire().pull.keeps_residual()) {
      table.add({"differences",
                 text("servers keep ", exact(sent_weights_memory(plan, elements)),
                      " for them: the weights as workers have them, and a copy for checkpoints")});
    }
  }
  return table.to_text();
}

/// The memory of a rank, as a worker and as a server together.
index_t whole_memory(const Layout& layout, const std::vector<RankPlan>& ranks, index_t rank) {
  const bool is_both = layout.is_worker(rank) && layout.is_server(rank);
  const index_t as_server = rank + layout.worker_count();
  return kProcessBytes + ranks[rank].memory_bytes() +
         (is_both ? ranks[as_server].memory_bytes() : 0);
}

/// A table with one row a rank.
std::string worker_table(const RunConfig& config, const std::vector<RankPlan>& ranks) {
  const worker::TransformerModel model(config.model);
  Table table("lrllrlrrr", {"", "", "worker", "holds", "parameters", "buckets", "pushes a step",
                            "pulls", "memory"});
  for (const RankPlan& rank : ranks) {
    if (rank.is_server) continue;
    table.add({"rank", text(rank.rank), config.layout.role(rank.place),
               chunks_text(model, rank.units), grouped(rank.elements), numbers_text(rank.buckets),
               bytes_text(rank.pushed_bytes), bytes_text(rank.pulled_bytes),
               bytes_text(whole_memory(config.layout, ranks, rank.rank))});
  }
  return table.to_text();
}

std::string server_table(const RunConfig& config, const std::vector<RankPlan>& ranks) {
  const bool colocated = config.layout.placement == Placement::colocated;
  Table table("lrlrlrrr", {"", "", "server", "parameters", "buckets", "receives a step", "sends",
                           colocated ? "of the memory" : "memory"});
  for (const RankPlan& rank : ranks) {
    if (!rank.is_server) continue;
    const index_t bytes = rank.memory_bytes() + (colocated ? 0 : kProcessBytes);
    table.add({"rank", text(rank.rank), text("server ", config.layout.server(rank.rank)),
               grouped(rank.elements), numbers_text(rank.buckets), bytes_text(rank.pushed_bytes),
               bytes_text(rank.pulled_bytes), bytes_text(bytes)});
  }
  return table.to_text();
}

}  // namespace

std::string plan_text(const RunConfig& config, double peak_flops) {
  const BucketPlan plan = make_bucket_plan(config, first_units(config));
  const std::vector<RankPlan> ranks = rank_plans(config);
  std::string out = text(heading(config, plan, ranks), '\n', worker_table(config, ranks));
  if (config.layout.placement != Placement::local) {
    out += text('\n', server_table(config, ranks));
  }
  out += text("  memory: an estimate of the most that a rank holds, with ",
              bytes_text(kProcessBytes), " for the process itself and without the data\n");
  index_t packed = 0;
  for (const RankPlan& rank : ranks) packed = std::max(packed, rank.packed_memory_bytes);
  if (packed > 0) {
    out += text("  packed weights (--products) are up to ", bytes_text(packed),
                " of a worker's memory\n");
  }
  if (config.layout.group_size > 1) {
    out += text("  --sum-groups ", config.layout.group_size,
                ": bytes and memory where the replicas of a group share a host; otherwise each "
                "pushes fp32, and servers hold all of that\n");
  }
  if (config.layout.placement == Placement::colocated) {
    out +=
        "  a rank's memory is that of its worker and its server; what it pushes to itself counts, "
        "too\n";
  }
  out += '\n';
  return out + text("schedule of a replica, if each rank computes at ",
                    with_prefix(peak_flops, "FLOP/s"), " and links take no time\n",
                    schedules_text({plan_schedule(config, unit_seconds_at(config, peak_flops))}));
}

/// Turns the word that is no option into --config=FILE: it names a file, or a run folder that has
/// one.
static void name_config_file(Arguments& words) {
  RunConfig unused;
  std::string file;
  std::vector<Option> table = options(unused);
  table.push_back({"config", "", "an INI file", &file});
  Arguments rest = words;
  if (take_words(table, rest).empty()) return;
  fs::path path = take_path("plan", "an INI file or a run folder", table, words);
  if (is_folder(path)) {
    path /= "config.ini";
    if (!path_exists(path)) {
      throw UsageError(text("plan: ", path.string(),
                            " does not exist; name an INI file or a run "
                            "folder"));
    }
  }
  words.push_back("--config=" + path.string());
}

/// Takes --NAME VALUE, or --NAME=VALUE, out of the arguments.
static std::optional<Arguments> take_pair(const std::string& name, Arguments& words) {
  const std::string option = "--" + name;
  const auto at = std::ranges::find_if(words, [&](const std::string& word) {
    return word == option || word.starts_with(option + '=');
  });
  if (at == words.end()) return std::nullopt;
  const auto end = *at == option && at + 1 != words.end() ? at + 2 : at + 1;
  const Arguments pair(at, end);
  words.erase(at, end);
  return pair;
}

/// Takes --rank N out of the arguments.
static std::optional<index_t> take_rank(Arguments& words) {
  const std::optional<Arguments> pair = take_pair("rank", words);
  if (!pair) return std::nullopt;
  index_t rank = 0;
  parse_options({{"rank", "", "a rank of the job", &rank, {0, 1e9}}}, std::nullopt, {}, *pair);
  return rank;
}

/// Takes --svg FILE out of the arguments.
static std::string take_svg(Arguments& words) {
  std::string file;
  if (const std::optional<Arguments> pair = take_pair("svg", words)) {
    parse_options({{"svg", "", "a file for the pictures", &file}}, std::nullopt, {}, *pair);
    if (file.empty()) throw UsageError("--svg is empty: name the file to write");
  }
  return file;
}

/// Takes --schedule all out of the arguments, which no job can have. True if it was there.
static bool take_all_schedules(Arguments& words) {
  Arguments rest = words;
  const std::optional<Arguments> pair = take_pair("schedule", rest);
  if (!pair || (pair->back() != "all" && pair->back() != "--schedule=all")) return false;
  words = rest;
  return true;
}

/// Compares all schedules by what the units take here.
static void compare_schedules(const RunConfig& config, const std::string& svg) {
  const std::vector<SchedulePlan> plans = plan_schedules(config, measured_unit_seconds(config));
  std::cout
      << "schedules of a replica, with the times that its units take here and links that take "
         "none\n"
      << schedules_text(plans);
  if (!svg.empty()) write_output(svg, schedules_svg(plans));
}

std::string role_text(const RunConfig& config, index_t rank) {
  const index_t ranks = config.layout.rank_count();
  if (rank < ranks) return config.layout.role(rank) + '\n';
  throw UsageError(text("--rank ", rank, ": the last rank of this job is ", ranks - 1));
}

int plan(const Arguments& arguments) {
  if (asks_for_help(arguments)) {
    RunConfig standard;
    std::cout << help_of_command(
        "plan", "[FILE|RUN] [--measure | --rank N | --schedule all [--svg FILE]] [options]",
        "Prints what each rank of a training job will hold, send and receive, and its schedule,\n"
        "without MPI and without reading the data. --measure, under mpirun or alone, tries sizes\n"
        "of buckets and depths of the ring of messages for some seconds and recommends one of\n"
        "each. --rank N prints only what rank N is: its replica, stage and shard, or its server.\n"
        "--schedule all measures the units of the model here, and prints how long a step of each\n"
        "schedule takes with them and what it keeps; --svg FILE writes the pictures to a file.\n"
        "The command takes the options of `weir train`; those that matter here:",
        chosen_options(
            standard,
            {"batch",      "micro-batch", "length",     "schedule",     "chunks",
             "recompute",  "threads",     "products",   "bucket-bytes", "transport",
             "ring-depth", "wire-push",   "wire-pull",  "topk-percent", "replicas",
             "stages",     "contexts",    "shards",     "servers",      "sum-groups",
             "placement",  "model.",      "attention.", "data.kind",    "optimizer.kind"}));
    return 0;
  }
  Arguments words = arguments;
  const bool measures = std::erase(words, "--measure") > 0;
  std::optional<index_t> rank;
  std::string svg;
  bool all_schedules = false;
  Comm world;
  if (started_by_mpi_launcher()) world = Comm::world();
  RunConfig config;
  const std::optional<Error> refused = error_of([&] {
    rank = take_rank(words);
    svg = take_svg(words);
    all_schedules = take_all_schedules(words);
    if (!svg.empty() && !all_schedules) throw UsageError("--svg goes with --schedule all");
    name_config_file(words);
    config = parse_run_config(words, weir_environment()).config;
    fit_model_to_data(config);
    check(config);
    if (measures && world) config.layout.check(world.size());
  });
  if (world) {
    agree(world, refused);
  } else if (refused) {
    throw *refused;
  }
  const bool speaks = !world || world.rank() == 0;
  if (rank) {
    if (speaks) std::cout << role_text(config, *rank);
    return 0;
  }
  if (all_schedules) {
    if (speaks) compare_schedules(config, svg);
    return 0;
  }
  if (!measures) {
    const double peak =
        speaks ? measured_gemm_peak(kGemmPeakSeconds, static_cast<int>(config.threads)) : 0;
    if (speaks) std::cout << plan_text(config, peak);
    return 0;
  }
  const BucketTrials trials = measure_buckets(config, world ? &world : nullptr);
  if (speaks) std::cout << trials_text(config, trials, bool(world));
  return 0;
}

}  // namespace weir
