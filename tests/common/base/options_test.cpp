#include "common/base/options.hpp"

#include <doctest/doctest.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <string>
#include <vector>

#include "common/base/error.hpp"
#include "common/base/habits.hpp"
#include "common/base/spelling.hpp"
#include "tests/common/base/option_table.hpp"

using namespace weir;
using namespace weir::test;

TEST_CASE("without sources every field keeps its default and says so") {
  Settings settings;
  const auto result = settings.parse({});
  REQUIRE(result.size() == settings.table().size());
  CHECK(settings.steps == 100);
  CHECK(result[0].name == "steps");
  CHECK(result[0].value == "100");
  CHECK(result[6].value == "none");
  for (const auto& setting : result) CHECK(setting.source == Source::standard);
}

TEST_CASE("the command line sets fields of every type, as two words or with =") {
  Settings settings;
  settings.parse({"--steps", "7", "--model.layers=12", "--rate", "1e-4", "--data=a b",
                  "--clip.policy", "decay", "--model.tied-embedding"});
  CHECK(settings.steps == 7);
  CHECK(settings.layers == 12);
  CHECK(settings.rate == 1e-4);
  CHECK(settings.data == "a b");
  CHECK(settings.policy == Policy::decay);
  CHECK(settings.tied);
}

TEST_CASE("a bool takes true, false or nothing, and a following option is not its value") {
  for (const auto& [arguments, expected] : std::vector<std::pair<std::vector<std::string>, bool>>{
           {{"--model.tied-embedding=true"}, true},
           {{"--model.tied-embedding", "true"}, true},
           {{"--model.tied-embedding", "--steps", "3"}, true},
           {{"--model.tied-embedding=false"}, false},
           {{"--model.tied-embedding", "false"}, false}}) {
    Settings settings;
    settings.tied = !expected;
    settings.parse(arguments);
    CHECK(settings.tied == expected);
  }
  CHECK(message_of({"--model.tied-embedding=maybe"}) ==
        "--model.tied-embedding=maybe: expected true or false");
}

TEST_CASE("numbers accept underscores, exponents, and powers of 1000 and 1024") {
  for (const auto& [text, expected] :
       std::vector<std::pair<std::string, index_t>>{{"16k", 16000},
                                                    {"2M", 2000000},
                                                    {"1.5k", 1500},
                                                    {"1e3", 1000},
                                                    {"1G", 1000000000},
                                                    {"512Ki", 524288},
                                                    {"2Mi", 2097152},
                                                    {"1Gi", 1073741824},
                                                    {"1_000", 1000},
                                                    {"12_345_678", 12345678},
                                                    {"1_6k", 16000},
                                                    {"64k", 64000},
                                                    {"1T", 1000000000000},
                                                    {"999999999999", 999999999999}}) {
    Settings settings;
    settings.parse({"--steps", text});
    CHECK(settings.steps == expected);
  }
  for (const auto& [text, expected] :
       std::vector<std::pair<std::string, index_t>>{{"1MiB", 1048576},
                                                    {"64KiB", 65536},
                                                    {"64kB", 64000},
                                                    {"2MB", 2000000},
                                                    {"8192B", 8192},
                                                    {"1_048_576", 1048576}}) {
    Settings settings;
    settings.parse({"--net.bucket", text});  // of a size in bytes alone
    CHECK(settings.bucket == expected);
    CHECK(message_of({}, {"WEIR_NET_BUCKET=" + text}) == "accepted");
    CHECK(from_file("net.bucket = " + text + "\n").bucket == expected);
  }
  Settings settings;
  settings.parse({"--rate=0.000_1k"});
  CHECK(settings.rate == 0.1);
}

TEST_CASE("a size that is nearly one is refused with what the suffixes mean") {
  const std::string way = "; 16k is 16,000 and 16Ki is 16,384";
  for (const std::string value : {"64K", "64KB", "1m", "2g"}) {
    CAPTURE(value);
    CHECK(message_of({"--net.bucket", value}) ==
          "--net.bucket=" + value + ": expected a whole number >= 4096 (bytes)" + way);
  }
  const std::string steps = ": expected a whole number 1..1000000000000";
  CHECK(message_of({"--steps=1MiB"}) == "--steps=1MiB" + steps);  // steps are no bytes
  for (const std::string value : {"_1", "1_", "1__0", "1_k", "1,000"}) {
    CAPTURE(value);
    CHECK(message_of({"--steps", value}).starts_with("--steps=" + value + steps));
  }
}

TEST_CASE("an empty value is the empty text; other types say what they expect") {
  for (const std::vector<std::string>& arguments :
       {std::vector<std::string>{"--data="}, std::vector<std::string>{"--data", ""}}) {
    Settings settings;
    settings.parse(arguments);
    CHECK(settings.data.empty());
  }
  Settings settings;
  settings.parse({"--data=", "--steps", "3"}, {}, {});
  CHECK(settings.data.empty());
  CHECK(settings.steps == 3);
  CHECK(message_of({"--rate="}) == "--rate=: expected a number 0..10");
  CHECK(message_of({"--model.tied-embedding="}) ==
        "--model.tied-embedding=: expected true or false");
  CHECK(message_of({"--clip.policy="}) == "--clip.policy=: expected one of none, fixed, decay");
  CHECK(message_of({"--nonsense-of-mine="}) == "unknown option --nonsense-of-mine");
  CHECK(message_of({"--data=", "--data=x"}) == "--data is given twice");
  CHECK(message_of({"--data", "--rate="}) ==
        "--data: a value is missing before --rate= (which --data=--rate= would take as the value)");
  CHECK(message_of({}, {"WEIR_STEPS="}) ==
        "environment: WEIR_STEPS=: expected a whole number 1..1000000000000");
}

TEST_CASE("words are found before, between and behind options, and options keep their values") {
  using Words = std::vector<std::string>;
  const auto found = [](Words arguments) {
    Settings settings;
    const Words words = take_words(settings.table(), arguments);
    settings.parse(arguments);
    return std::tuple(words, settings.steps, settings.tied, settings.data);
  };
  const std::string standard = Settings().data;
  CHECK(found({"RUN", "--steps", "3"}) == std::tuple(Words{"RUN"}, 3, false, standard));
  CHECK(found({"--steps", "3", "RUN"}) == std::tuple(Words{"RUN"}, 3, false, standard));
  CHECK(found({"--data", "x", "RUN", "--steps=4"}) == std::tuple(Words{"RUN"}, 4, false, "x"));
  CHECK(found({"--model.tied-embedding", "RUN"}) == std::tuple(Words{"RUN"}, 100, true, standard));
  CHECK(found({"--model.tied-embedding", "false", "RUN"}) ==
        std::tuple(Words{"RUN"}, 100, false, standard));
  CHECK(found({"--data=", "A", "B"}) == std::tuple(Words{"A", "B"}, 100, false, ""));
  Words wrong = {"--stpes", "3", "RUN"};
  CHECK_THROWS_WITH_AS(take_words(Settings().table(), wrong),
                       "unknown option --stpes (did you mean --steps?)", UsageError);
}

TEST_CASE("values that do not parse or lie outside the range say what is expected") {
  const std::string layers = "expected a whole number 1..4096";
  for (const std::string value : {"0", "-6", "4097", "16k", "nan", "inf", "six", "1.5", "", "6x",
                                  "0x10", "1e99", "6 ", "99999999999999999999"}) {
    CAPTURE(value);
    CHECK(message_of({"--model.layers", value}) == "--model.layers=" + value + ": " + layers);
  }
  for (const std::string value :
       {"nan", "-nan", "inf", "-1", "11", "1e999", "x", "", "1,5", "0.1k"}) {
    CAPTURE(value);
    CHECK(message_of({"--rate", value}) == "--rate=" + value + ": expected a number 0..10");
  }
  CHECK(message_of({"--net.bucket=1"}) ==
        "--net.bucket=1: expected a whole number >= 4096 (bytes)");
  CHECK(message_of({"--clip.policy=Decay"}) ==
        "--clip.policy=Decay: expected one of none, fixed, decay");
  CHECK(message_of({"--data=a\x01z"}) == "--data=a\x01z: expected text without control characters");
}

TEST_CASE("unknown, abbreviated, stray and repeated arguments are errors that show the way") {
  CHECK(message_of({"--model.layer", "6"}) ==
        "unknown option --model.layer (did you mean --model.layers?)");
  CHECK(message_of({"--model.lay=7"}) ==
        "unknown option --model.lay (did you mean --model.layers?)");
  CHECK(message_of({"--Model.Layers=7"}) ==
        "unknown option --Model.Layers (did you mean --model.layers?)");
  CHECK(message_of({"--layers=7"}) == "unknown option --layers (did you mean --model.layers?)");
  CHECK(message_of({"--step=7"}) == "unknown option --step (did you mean --steps?)");
  CHECK(message_of({"--quite-something-else"}) == "unknown option --quite-something-else");
  const std::string stray = "; options are --name value or --name=value";
  CHECK(message_of({"extra"}) == "a stray word among the arguments: extra" + stray);
  CHECK(message_of({"--steps", "5", "6"}) == "a stray word among the arguments: 6" + stray);
  CHECK(message_of({"-s", "5"}) == "a stray word among the arguments: -s" + stray);
  CHECK(message_of({"-steps=5"}) == "a stray word among the arguments: -steps=5" + stray);
  CHECK(message_of({"--", "--steps=5"}) == "a stray word among the arguments: --steps=5" + stray);
  CHECK(message_of({"--steps=5", "--rate=1", "--steps=5"}) == "--steps is given twice");
  CHECK(message_of({"--steps"}) ==
        "--steps: a value is missing; expected a whole number 1..1000000000000");
  CHECK(
      message_of({"--data", "--rate=1"}) ==
      "--data: a value is missing before --rate=1 (which --data=--rate=1 would take as the value)");
  CHECK(message_of({"--data=--rate=1"}) == "accepted");
  CHECK(message_of({"--steps="}) == "--steps=: expected a whole number 1..1000000000000");
}

TEST_CASE("an option that is a list may be given several times, in a file and as an argument") {
  std::string files;
  index_t steps = 0;
  const std::vector<Option> table = {{"files", "", "a list", &files, {}, Scope::run, true},
                                     {"steps", "", "no list", &steps}};
  const auto parsed = parse_options(table, std::nullopt, {},
                                    {"--files=a", "--steps", "3", "--files", "b,c", "--files=d"});
  CHECK(files == "a,b,c,d");
  CHECK(steps == 3);
  CHECK(parsed[0].value == "a,b,c,d");
  const IniFile file("files = a\nsteps = 4\nfiles = b\n");
  parse_options(table, "train.ini", {}, {});
  CHECK(files == "a,b");
  parse_options(table, "train.ini", {"WEIR_FILES=x"}, {});  // the later place replaces
  CHECK(files == "x");
  CHECK_THROWS_WITH_AS(
      parse_options(table, std::nullopt, {}, {"--files", "a", "b"}),
      "a stray word among the arguments: b; to give several, write each after --files, "
      "or a pattern in quotes, like '*.txt'",
      UsageError);
  CHECK_THROWS_WITH_AS(
      parse_options(table, std::nullopt, {}, {"--files=a", "--steps=1", "--steps=2"}),
      "--steps is given twice", UsageError);
}

TEST_CASE(
    "the environment sets options by their upper-case names; what is nearly one is an error") {
  Settings settings;
  const auto result = settings.parse({}, {"WEIR_STEPS=9", "WEIR_MODEL_TIED_EMBEDDING=true"});
  CHECK(settings.steps == 9);
  CHECK(settings.tied);
  CHECK(result[0].source == Source::environment);
  CHECK(message_of({}, {"WEIR_MODEL_LAYRES=4"}) ==
        "environment: unknown variable WEIR_MODEL_LAYRES (did you mean WEIR_MODEL_LAYERS?); unset "
        "it or correct it");
  CHECK(message_of({}, {"WEIR_LAYERS=4"}) ==
        "environment: unknown variable WEIR_LAYERS (did you mean WEIR_MODEL_LAYERS?); unset it or "
        "correct it");
  CHECK(message_of({}, {"WEIR_STEPS=many"}) ==
        "environment: WEIR_STEPS=many: expected a whole number 1..1000000000000");
  CHECK(message_of({}, {"WEIR_STEPS=1", "WEIR_STEPS=2"}) ==
        "environment: WEIR_STEPS is given twice");
}

TEST_CASE("a site's own variables change nothing") {
  Settings settings;
  settings.parse({}, {"WEIR_HOME=/opt/weir", "WEIR_STEPS=9", "WEIR_PROJECT=."});
  CHECK(settings.steps == 9);
}

TEST_CASE("weir_environment finds the variables of this process that begin with WEIR_") {
  setenv("WEIR_STEPS", "31", 1);
  setenv("NOT_WEIR_STEPS", "32", 1);
  const auto found = weir_environment();
  unsetenv("WEIR_STEPS");
  unsetenv("NOT_WEIR_STEPS");
  CHECK(std::ranges::count(found, "WEIR_STEPS=31") == 1);
  for (const auto& variable : found) CHECK(variable.starts_with("WEIR_"));
}

TEST_CASE("file, environment and command line: the later wins, and each setting knows its source") {
  const IniFile file("steps = 1\nrate = 1\ndata = file.txt\n");
  Settings settings;
  const auto result = settings.parse({"--steps=3"}, {"WEIR_STEPS=2", "WEIR_RATE=2"}, "train.ini");
  CHECK(settings.steps == 3);
  CHECK(settings.rate == 2);
  CHECK(settings.data == "file.txt");
  CHECK(result[0].source == Source::command_line);
  CHECK(result[1].source == Source::file);
  CHECK(result[4].source == Source::environment);
  CHECK(result[2].source == Source::standard);
  CHECK(message_of_file("steps = 0\n") != "accepted");  // though the command line would win
}

TEST_CASE("apply_settings sets the fields of another table, and refuses what does not fit") {
  Settings from;
  const auto settings = from.parse(
      {"--steps=3", "--rate=0.3", "--clip.policy=decay", "--model.tied-embedding", "--data=x y"});
  Settings to;
  apply_settings(to.table(), settings);
  CHECK(to.steps == 3);
  CHECK(to.rate == 0.3);
  CHECK(to.policy == Policy::decay);
  CHECK(to.tied);
  CHECK(to.data == "x y");
  CHECK_THROWS_WITH_AS(apply_settings(to.table(), {{"model.width", "3", Source::file}}),
                       "setting model.width = 3: this version of weir has no such option", Error);
  CHECK_THROWS_WITH_AS(apply_settings(to.table(), {{"steps", "0", Source::file}}),
                       "setting steps = 0: expected a whole number 1..1000000000000", Error);
}

TEST_CASE("the help shows every option with what it expects and its default, group by group") {
  Settings settings;
  CHECK(options_help(settings.table()) ==
        "  --steps  steps to train\n      a whole number 1..1000000000000; default 100\n"
        "  --data  the corpus\n      text; default corpus.txt\n"
        "  --rate  learning rate\n      a number 0..10; default 0.001\n"
        "\nmodel:\n  --model.layers  layers\n      a whole number 1..4096; default 4\n"
        "  --model.tied-embedding  one embedding for both ends\n"
        "      true or false; default false\n"
        "\nnet:\n  --net.bucket  size of a bucket\n"
        "      a whole number >= 4096 (bytes); default 1048576\n"
        "\nclip:\n  --clip.policy  how the threshold moves\n"
        "      one of none, fixed, decay; default none\n");
}

TEST_CASE("habits of other programs lead to a known option, others are not proposed") {
  CHECK(option_hint("lr", {"rate.peak", "steps"}, "--") == " (did you mean --rate.peak?)");
  CHECK(option_hint("Learning_Rate", {"rate.peak"}, "--") == " (did you mean --rate.peak?)");
  CHECK(option_hint("LR", {"RATE_PEAK"}, "WEIR_") == " (did you mean WEIR_RATE_PEAK?)");
  CHECK(option_hint("lr", {"temperature", "bytes"}, "--").empty());
  CHECK(option_hint("epochs", {"steps"}, "--").starts_with(" (did you mean --steps? weir counts "));
  CHECK(option_hint("stpes", {"steps"}, "--") == " (did you mean --steps?)");
}

TEST_CASE("did_you_mean is silent when nothing is near") {
  CHECK(did_you_mean("trian", {"train", "eval"}) == " (did you mean train?)");
  CHECK(did_you_mean("TRAIN", {"train", "eval"}) == " (did you mean train?)");
  CHECK(did_you_mean("model_layers", {"model.layers"}) == " (did you mean model.layers?)");
  CHECK(did_you_mean("zzzz", {"train", "eval"}).empty());
  CHECK(did_you_mean("x", {}).empty());
  // Compared letter by letter with the options of weir it took seconds.
  const std::vector<std::string> options(200, "attention.global-tokens");
  CHECK(did_you_mean(std::string(std::size_t{4} << 20, 'a'), options).empty());
}
