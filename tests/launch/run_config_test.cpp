#include "launch/run_config.hpp"

#include <doctest/doctest.h>

#include <cctype>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>

#include "common/base/error.hpp"
#include "tests/temporary_folder.hpp"

namespace weir::test::run_config_test {
namespace {

std::string variable_of(std::string name) {
  for (char& letter : name) {
    letter = letter == '.' || letter == '-' ? '_' : static_cast<char>(std::toupper(letter));
  }
  return name;
}

RunConfig parse(const std::vector<std::string>& arguments) {
  RunConfig config = parse_run_config(arguments, {}).config;
  fit_model_to_data(config);
  check(config);
  return config;
}

TEST_CASE("no two options share a name or an environment variable, and each says what it is") {
  RunConfig config;
  std::set<std::string> names, variables;
  for (const Option& option : options(config)) {
    CAPTURE(option.name);
    CHECK(names.insert(option.name).second);
    CHECK(variables.insert(variable_of(option.name)).second);
    CHECK(option.name != "config");  // that is the file's
    CHECK(option.help.size() > 10);
    CHECK(option.help.back() != '.');
  }
}

TEST_CASE("an empty name of the run folder is refused: it would be the working directory") {
  CHECK_THROWS_AS(parse({"--run="}), UsageError);
  CHECK_THROWS_WITH_AS(parse({"--run", ""}), doctest::Contains("--run is empty"), UsageError);
}

TEST_CASE("a misspelt name in a list of chosen options is an error") {
  RunConfig config;
  CHECK(chosen_options(config, {"steps", "local."}).size() == 4);
  CHECK_THROWS_WITH_AS(chosen_options(config, {"steps", "stpes"}), doctest::Contains("stpes"),
                       Error);
  CHECK_THROWS_AS(chosen_options(config, {"modle."}), Error);
  CHECK_THROWS_AS(chosen_options(config, {"model"}), Error);  // a prefix ends in a dot
}

std::set<std::string> names_with(Scope scope, RunConfig config) {
  std::set<std::string> names;
  for (const Option& option : options(config)) {
    if (option.scope == scope) names.insert(option.name);
  }
  return names;
}

TEST_CASE("a row says whether its option decides the function, or is about this machine") {
  std::set<std::string> expected = {"model.task",
                                    "model.layers",
                                    "model.width",
                                    "model.heads",
                                    "model.feed-forward",
                                    "model.positions",
                                    "model.tied",
                                    "model.pooling",
                                    "attention.left",
                                    "attention.right",
                                    "attention.global-tokens",
                                    "attention.globals"};
  RunConfig config;
  CHECK(names_with(Scope::function, config) == expected);
  config.model.globals = worker::GlobalForm::split;
  expected.insert("attention.global-heads");  // else there are none
  CHECK(names_with(Scope::function, config) == expected);
  CHECK(names_with(Scope::machine, config) ==
        std::set<std::string>{"run", "private", "resume", "accept-changed-data", "threads", "trace",
                              "transport", "ring-depth", "progress", "log-level", "watchdog",
                              "watchdog.floor"});
}

TEST_CASE("the help holds every option of every room") {
  RunConfig config;
  const std::string help = options_help(options(config));
  for (const char* name :
       {"steps",      "batch",        "micro-batch", "length",        "seed",     "threads",
        "eval-every", "run",          "resume",      "bucket-bytes",  "progress", "log-level",
        "replicas",   "stages",       "contexts",    "shards",        "servers",  "placement",
        "schedule",   "model.layers", "data.files",  "attention.left"}) {
    CHECK(help.find(std::string("--") + name + " ") != std::string::npos);
  }
}

TEST_CASE("defaults are within their own ranges: what config.ini writes reads back") {
  const std::vector<Setting> settings = parse_run_config({}, {}).settings;
  RunConfig again;
  CHECK_NOTHROW(apply_settings(options(again), settings));
  const test::TemporaryFolder folder;
  const auto path = folder / "config.ini";
  std::ofstream(path) << settings_as_ini(settings);
  const auto read = parse_run_config({"--config", path.string()}, {}).settings;
  REQUIRE(read.size() == settings.size());
  for (std::size_t index = 0; index < read.size(); ++index) {
    CHECK(read[index].name == settings[index].name);
    CHECK(read[index].value == settings[index].value);
    CHECK(read[index].source == Source::file);
  }
}

TEST_CASE("what rank 0 has parsed is the same on another rank, sources too") {
  const ParsedConfig here = parse_run_config({"--run", "runs/a\n# b = 'c'"}, {"WEIR_STEPS=20"});
  const ParsedConfig there = run_config_from_text(settings_as_text(here.settings));
  CHECK(there.config.run == "runs/a\n# b = 'c'");
  CHECK(there.config.train.training.steps == 20);
  CHECK(settings_as_ini(there.settings) == settings_as_ini(here.settings));
}

TEST_CASE("file, environment and command line: the later wins") {
  const test::TemporaryFolder folder;
  const auto path = folder / "config.ini";
  std::ofstream(path) << "steps = 10\nbatch = 8\nmicro-batch = 2\n[model]\nlayers = 3\n";
  const auto [config, settings, remarks] =
      parse_run_config({"--steps", "30", "--config=" + path.string(), "--threads=2"},
                       {"WEIR_STEPS=20", "WEIR_BATCH=6"});
  CHECK(config.train.training.steps == 30);
  CHECK(config.train.training.batch == 6);
  CHECK(config.train.training.micro_batch == 2);
  CHECK(config.model.layers == 3);
  CHECK(config.threads == 2);
  std::map<std::string, Source> source;
  for (const Setting& setting : settings) source[setting.name] = setting.source;
  CHECK(source["steps"] == Source::command_line);
  CHECK(source["batch"] == Source::environment);
  CHECK(source["model.layers"] == Source::file);
  CHECK(source["seed"] == Source::standard);
}

TEST_CASE("wrong use of --config is told") {
  CHECK_THROWS_WITH_AS(parse({"--config"}), doctest::Contains("--config: a value is missing"),
                       UsageError);
  CHECK_THROWS_WITH_AS(parse({"--config", "a", "--config=b"}), "--config is given twice",
                       UsageError);
  CHECK_THROWS_WITH_AS(parse({"--config", "/nowhere/train.ini"}),
                       doctest::Contains("/nowhere/train.ini"), UsageError);
}

TEST_CASE("settings that do not go together are refused with the way out") {
  const auto refuses = [](const std::vector<std::string>& arguments, const char* words) {
    CHECK_THROWS_WITH_AS(parse(arguments), doctest::Contains(words), UsageError);
  };
  refuses({"--batch", "10", "--micro-batch", "4"}, "the next that fits is 12");
  refuses({"--model.heads", "3"}, "--model.width 128 is not a multiple of --model.heads 3");
  refuses({"--shards", "3"}, "--model.heads 4 is not a multiple of --shards 3");
  refuses({"--stages", "5"}, "--model.layers 4 cannot fill --stages 5");
  refuses({"--schedule", "interleaved"}, "take --stages 2 or more");
  refuses({"--schedule", "interleaved", "--stages", "2", "--chunks", "3"},
          "--model.layers 4 cannot fill --stages 2 x --chunks 3");
  refuses({"--schedule", "zb-h1", "--stages", "2", "--recompute", "block"},
          "take --recompute none");
  refuses({"--schedule", "zb-h2"}, "one of 1f1b, 1f1b-eager, gpipe, interleaved, zb-h1");
  refuses({"--model.task", "classifier"}, "take --model.task language");
  refuses({"--data.kind", "listops"}, "take --model.task classifier");
  refuses({"--contexts", "5"},
          "--contexts 5 cuts --length 256 into parts of 51 tokens, but each must hold at least 64");
  refuses({"--contexts", "5"}, "take --contexts 4 at most, or --length 320 or more");
  refuses({"--contexts", "2", "--attention.left", "300"},
          "take --contexts 1 at most, or --length 600 or more");
  refuses({"--contexts", "300", "--attention.left", "0", "--attention.global-tokens", "none"},
          "into parts of 0 tokens, but each must hold at least 1");
  refuses({"--contexts", "2", "--length", "16777216", "--attention.left", "8000000"},
          "more than one message between contexts can hold");
  refuses({"--placement", "local", "--servers", "2"}, "take --placement dedicated");
  refuses({"--placement", "colocated", "--replicas", "2", "--servers", "1"},
          "2 replicas x 1 stage x 1 shard = 2 workers, so --servers 1 cannot be; leave it out");
  refuses({"--stages", "2", "--micro-batch", "4", "--length", "16777216"},
          "more than one message between stages can hold");
  refuses({"--replicas", "4", "--sum-groups", "3"},
          "--sum-groups 3 does not divide --replicas 4 into equal groups; take one of 1, 2, 4");
  for (const char* mode : {"ssp", "asp"}) {
    refuses({"--replicas", "4", "--sum-groups", "2", "--consistency", mode},
            text("--sum-groups 2 adds up the gradients of a group's replicas before servers see "
                 "them, and with --consistency ",
                 mode, " an update may have some of them only")
                .c_str());
    refuses({"--replicas", "2", "--wire-pull", "int8", "--consistency", mode},
            text("--wire-pull int8 sends how far weights have moved in an update, and "
                 "--consistency ",
                 mode, " lets replicas miss some; take --wire-pull bf16")
                .c_str());
  }
  refuses({"--replicas", "4", "--sum-groups", "2", "--backup", "1"}, "with --backup 1 an update");
  refuses({"--replicas", "2", "--wire-pull", "int8", "--backup", "1"},
          "--backup 1 lets replicas miss some");
  refuses({"--wire-pull", "int8", "--precision", "bf16"}, "--precision bf16");
  refuses({"--optimizer.nesterov"}, "is for --optimizer.kind sgd, not for adamw");
  refuses({"--optimizer.nesterov", "--optimizer.kind", "lion"}, "not for lion");
  refuses({"--optimizer.nesterov", "--optimizer.kind=sgd", "--optimizer.momentum=0"},
          "--optimizer.momentum is 0; take 0.9, or leave nesterov out");
  refuses({"--optimizer.kind", "adam"}, "one of sgd, adamw, lion, lamb");
  refuses({"--loss-scale.initial", "1000"},
          "is not a power of two, which rounds nothing; take 1024");
  refuses({"--precision", "half"}, "one of fp32, bf16, fp16");
  refuses({"--progress", "fancy"}, "one of auto, live, line, none");
  refuses({"--stpes", "5"}, "did you mean --steps?");
}

TEST_CASE("colocated servers are as many as workers; an older number gives way, a newer does not") {
  const test::TemporaryFolder folder;
  const std::string dedicated = (folder / "dedicated.ini").string();
  const std::string colocated = (folder / "colocated.ini").string();
  std::ofstream(dedicated) << "replicas = 2\nservers = 3\n";
  std::ofstream(colocated) << "replicas = 2\nservers = 2\nplacement = colocated\n";
  const auto servers = [](const std::vector<std::string>& arguments) {
    const ParsedConfig parsed = parse_run_config(arguments, {});
    // Other ranks and config.ini hear of it, too.
    CHECK(run_config_from_text(settings_as_text(parsed.settings)).config.layout.servers ==
          parsed.config.layout.servers);
    return parsed.config.layout.servers;
  };
  CHECK(servers({"--placement=colocated", "--replicas=2", "--stages=3"}) == 6);
  CHECK(servers({"--placement=colocated", "--shards=2", "--servers=2"}) == 2);
  CHECK(servers({"--config", dedicated, "--placement=colocated"}) == 2);
  CHECK(servers({"--config", colocated}) == 2);
  CHECK(servers({"--config", colocated, "--replicas=4"}) == 4);
  CHECK_THROWS_WITH_AS(servers({"--config", colocated, "--servers=3"}),
                       doctest::Contains("so --servers 3 cannot be"), UsageError);
}

TEST_CASE("a sequence may be cut into as many contexts as it has windows, whatever the positions") {
  CHECK_NOTHROW(parse({"--contexts", "4"}));
  CHECK_NOTHROW(parse({"--contexts", "4", "--model.positions", "learned"}));
  CHECK_NOTHROW(parse({"--contexts", "1", "--attention.left", "1000"}));
  CHECK_NOTHROW(parse({"--stages", "2", "--contexts", "64", "--micro-batch", "4", "--length",
                       "16777216"}));  // what is too much for one message whole
}

TEST_CASE("the data decide vocabulary and classes, --length the model's length") {
  const RunConfig config =
      parse({"--data.kind", "listops", "--model.task", "classifier", "--length", "2000"});
  CHECK(config.model.vocabulary == 16);
  CHECK(config.model.classes == 10);
  CHECK(config.model.length == 2000);
}

}  // namespace

}  // namespace weir::test::run_config_test
