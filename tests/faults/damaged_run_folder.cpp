#include <algorithm>
#include <array>

#include "launch/command.hpp"
#include "launch/report/report.hpp"
#include "launch/run/hang.hpp"
#include "launch/run/live.hpp"
#include "launch/run/metrics.hpp"
#include "launch/run/run_folder.hpp"
#include "launch/run/run_log.hpp"
#include "launch/run_config.hpp"
#include "launch/supervise/mpirun_words.hpp"
#include "launch/top.hpp"
#include "ps/decide/decision_log.hpp"
#include "tests/faults/damage_subject.hpp"
#include "tests/ps/simulated_job.hpp"
#include "tests/temporary_folder.hpp"

namespace weir::test {
namespace {

constexpr index_t kReplicas = 3;
constexpr const char* kLogName = "decisions.jsonl";

/// A job that makes decisions.
ps::ServerConfig decisive_job(const ps::ConsistencyConfig& consistency, index_t steps) {
  ps::ServerConfig config = server_config(steps);
  config.consistency = consistency;
  config.training.batch = 6;
  config.training.micro_batch = 1;
  return config;
}

BucketPlan decisive_plan() { return plan_of({.replicas = kReplicas}, 1 << 17, tiny_parameters()); }

/// The log of a job of so many steps.
std::string decisions_of_job(const ps::ConsistencyConfig& consistency, unsigned seed) {
  const TemporaryFolder folder(memory_folder());
  ps::ServerConfig config = decisive_job(consistency, 6);
  config.decisions = folder / kLogName;
  const BucketPlan plan = decisive_plan();
  SimulatedJob job(plan, config, seed);
  std::mt19937 random(seed);
  job.held_up = [&](index_t replica) { return replica == 1 && random() % 10 > 0; };
  job.run();
  return read_whole(config.decisions, 1 << 20);
}

/// Whether these can be the decisions of the job, whose updates all have their close.
bool are_possible(const List<ps::LoggedDecision>& decisions, const ps::DecidingJob& job) {
  index_t newest = decisions.empty() ? 0 : decisions.front().update - 1;
  for (const auto& [update, decision] : decisions) {
    const bool closes = decision.kind == ps::Decision::Kind::close;
    if (decision.kind == ps::Decision::Kind::share) {
      index_t sum = 0;
      for (const index_t each : decision.replicas) sum += each;
      if (decision.replicas.size() != job.replicas || sum != job.micro_batches) return false;
    } else {
      for (index_t at = 0; at < decision.replicas.size(); ++at) {
        const index_t replica = decision.replicas[at];
        if (replica < 0 || replica >= job.replicas) return false;
        if (at > 0 && decision.replicas[at - 1] >= replica) return false;
      }
    }
    if (closes) ++newest;
    const bool begins = &decision == &decisions.front().decision && !closes;
    if (update != newest && !begins) return false;
    newest = update;
  }
  return true;
}

DamageSubject decision_subject(const ps::ConsistencyConfig& consistency) {
  const ps::DecidingJob job = {consistency, kReplicas, 6};
  DamageSubject subject = {.name = text("a decision log, ", name_of(consistency.mode)),
                           .share = 2,
                           .files = {{kLogName, decisions_of_job(consistency, 1)}},
                           .other = {{kLogName, decisions_of_job(consistency, 2)}}};
  subject.also_names = {"the decisions to replay", "replay"};
  subject.read = [job](const DamagedRead& damaged) {
    const fs::path file = damaged.folder / kLogName;
    if (damaged.random.chance(3)) {  // a job goes on with the log
      const index_t update = 3;
      ps::DecisionLog log(file, job, update);
      log.append({ps::Decision::Kind::close, {0}}, update + 1, 0);
      const auto all = ps::read_decisions(file, job);
      right(are_possible(all, job) && all.back().update == update + 1,
            "the log does not go on where the job does");
    } else if (damaged.random.chance(4)) {
      ps::ServerConfig config = decisive_job(job.consistency, 6);
      config.replay = file;
      const BucketPlan plan = decisive_plan();
      SimulatedJob(plan, config, 1).run();
    } else {
      right(are_possible(ps::read_decisions(file, job), job), "impossible decisions are taken");
    }
  };
  return subject;
}

/// The lines of a run that was resumed once.
std::string metrics_of_run(index_t salt) {
  const TemporaryFolder folder(memory_folder());
  const fs::path path = folder / "metrics.jsonl";
  MetricsFile file(path, {"embedding", "layers.0"});
  const auto live = [&](index_t begin, index_t end) {
    file.start(begin, Layout{.replicas = 2}, "0.1");
    for (index_t step = begin + 1; step <= end; ++step) {
      const double value = 1.0 / static_cast<double>(step + salt);
      StepMetrics metrics;
      metrics.bits_per_byte = metrics.flop_fraction = metrics.step_seconds = value;
      metrics.directive.step = step;
      metrics.directive.observed.loss = step == 7 ? kUnknown : value;
      metrics.directive.observed.norm = 2 * value;
      metrics.directive.observed.layer_norms = {value, value};
      if (step == 7) metrics.directive.rule.skip = SkipReason::spike;
      file.step(metrics);
      if (step % 4 == 0) file.validation({.step = step, .sample_count = 8, .loss = value});
    }
    file.summary({.step = end, .loss = 0.5, .tokens_per_second = 1000});
  };
  live(0, 9);
  live(6, 12);
  file.supervision({.step = 12, .restart_count = 1, .productive_seconds = 1, .wall_seconds = 2});
  return read_whole(path, 1 << 20);
}

/// All options as config.ini has them; `salt` changes some.
std::string config_of_run(index_t salt) {
  return settings_as_ini(parse_run_config({text("--steps=", 100 + salt), "--consistency=ssp",
                                           "--data.files=/a b/c.txt,d#.txt", "--replicas=2",
                                           text("--rate.peak=", 1.0 / double(3 + salt))},
                                          {})
                             .settings);
}

std::string environment_of_run(index_t salt) {
  return text("weir       0.1\nhost       h", salt, "\ncpu        c\ncores      2\nranks      4\n");
}

/// How often markup begins that only the page itself may hold.
std::size_t count_of(const std::string& page, const std::string& words) {
  std::size_t count = 0;
  for (std::size_t at = page.find(words); at != std::string::npos; at = page.find(words, at + 1)) {
    ++count;
  }
  return count;
}

DamageSubject report_subject() {
  DamageSubject subject = {.name = "what report reads", .share = 2};
  subject.files = {{"metrics.jsonl", metrics_of_run(0)},
                   {"config.ini", config_of_run(0)},
                   {"environment.txt", environment_of_run(0)}};
  subject.other = {{"metrics.jsonl", metrics_of_run(1)},
                   {"config.ini", config_of_run(1)},
                   {"environment.txt", environment_of_run(1)}};
  subject.read = [](const DamagedRead& damaged) {
    if (damaged.random.chance(2)) {
      read_run_log(damaged.folder / "metrics.jsonl");
      return;
    }
    const std::string page = page_text(report_of(damaged.folder));
    right(count_of(page, "<script") == 2 && count_of(page, "</script") == 2,
          "markup of a file gets into the page");
    right(page.find('\0') == std::string::npos, "a zero gets into the page");
  };
  return subject;
}

DamageSubject config_subject() {
  DamageSubject subject = {.name = "config.ini", .share = 3};
  const std::string lock = "host h, process 1\ngeneration 0123456789abcdef\n";
  subject.files = {{"config.ini", config_of_run(0)}, {"LOCK", lock}};
  subject.other = {{"config.ini", config_of_run(1)}, {"LOCK", lock}};
  subject.also_names = {"--"};  // a value that does not go with another option's
  subject.read = [](const DamagedRead& damaged) {
    const fs::path file = damaged.folder / "config.ini";
    const ParsedConfig parsed = parse_run_config({"--config", file.string()}, {});
    if (!damaged.random.chance(4)) return;
    const fs::path again = damaged.folder / "again.ini";
    show_file(again, settings_as_ini(parsed.settings));
    const auto twice = parse_run_config({"--config", again.string()}, {}).settings;
    right(std::ranges::equal(parsed.settings, twice, {}, &Setting::value, &Setting::value),
          "the settings that are taken cannot be written down");
  };
  return subject;
}

DamageSubject live_subject() {
  DamageSubject subject = {.name = "records of what ranks do"};
  const auto record = [](index_t rank, index_t salt) {
    return json_of({.rank = rank,
                    .ranks = 4,
                    .role = rank == 3 ? "server 0" : "worker",
                    .host = "h",
                    .process = 77,
                    .phase = "train",
                    .step = 12 + salt,
                    .need = {"weights", (rank + 1) % 4, 3},
                    .still_s = 2.5});
  };
  for (index_t rank = 0; rank < 4; ++rank) {
    for (const char* const folder : {"live", "hang"}) {
      const std::string name = text(folder, "/", live_name(rank));
      subject.files[name] = record(rank, 0);
      subject.other[name] = record(rank, 1);
    }
  }
  subject.read = [](const DamagedRead& damaged) {
    const auto records = read_live_records(live_folder(damaged.folder));
    for (const LiveRecord& each : records) {
      right(each.rank >= 0 && each.rank < each.ranks, "a record of an impossible rank is taken");
    }
    top_table(records);
    right(describe_hang(damaged.folder).size() < 1 << 20, "the words on a hang are too many");
  };
  return subject;
}

DamageSubject lock_subject() {
  const std::string line = "\ngeneration 0123456789abcdef\n";
  DamageSubject subject = {.name = "LOCK"};
  subject.files = {{"LOCK", "host h, process 1" + line}};
  subject.other = {{"LOCK", "host h, process 22\ngeneration fedcba9876543210\n"}};
  subject.read = [line](const DamagedRead& damaged) {
    const fs::path file = damaged.folder / "LOCK";
    if (damaged.random.chance(2)) {
      check_claim({damaged.folder, "0123456789abcdef"});
      const bool is_there = fs::exists(file);
      right(!is_there || read_whole(file, 4096).ends_with(line), "a claim that is lost holds");
    } else {
      const FolderLock lock(damaged.folder);
      check_claim({damaged.folder, lock.generation()});
    }
  };
  return subject;
}

/// The words of commands. Nothing is run.
DamageSubject words_subject() {
  DamageSubject subject = {.name = "words of a command", .share = 3, .also_names = {""}};
  subject.read = [](const DamagedRead& damaged) {
    Mutator& random = damaged.random;
    const std::vector<std::string> plain[] = {
        {"--steps", "100", "--batch=8", "--optimizer.kind", "lamb", "--clip.policy=robust"},
        {"--data.files=a.txt,b.txt", "--data.files", "@list", "--model.layers=4", "--resume=never"},
        {"--replicas=2", "--stages", "3", "--servers=2", "--placement", "dedicated",
         "--length=1Ki"},
        {"--owner-only", "--consistency=local", "--local.steps=20", "--model.global-tokens=0-3,9"}};
    const std::vector<std::string> words = random.damaged(plain[random.below(4)]);
    // A configuration could be any file of the machine.
    if (std::ranges::any_of(words, [](const auto& word) { return word.starts_with("--config"); })) {
      return;
    }
    switch (random.below(4)) {
      case 0: {
        std::vector<std::string> environment =
            random.damaged({"WEIR_STEPS=10", "WEIR_MODEL_LAYERS=2", "WEIR_RUN=/tmp/x"});
        std::erase_if(environment, [](const auto& each) { return !each.starts_with("WEIR_"); });
        parse_run_config({}, environment);
        return;
      }
      case 1: {
        Arguments arguments = words;
        arguments.push_back("runs/book");
        bool verify = false;
        const std::vector<Option> table = {{"verify", "", "checks", &verify}};
        take_path("inspect", "a run", table, arguments);
        return;
      }
      case 2: {
        asks_for_help(words);
        std::vector<std::string> all =
            random.damaged({"-n", "4", "--mca", "pml", "ob1", "--host", "a:2,b:2", "-x", "A=b"});
        all.push_back("train");
        all.insert(all.end(), words.begin(), words.end());
        mpirun_environment(read_mpirun_words(all), {});
        return;
      }
      case 3: {
        ParsedConfig parsed = parse_run_config(words, {});
        fit_model_to_data(parsed.config);
        check(parsed.config);
        return;
      }
    }
  };
  return subject;
}

}  // namespace

std::vector<DamageSubject> run_folder_subjects() {
  return {decision_subject({.mode = ps::Consistency::asp}),
          decision_subject({.mode = ps::Consistency::bsp, .backup = 1}),
          report_subject(),
          config_subject(),
          live_subject(),
          lock_subject(),
          words_subject()};
}

}  // namespace weir::test
