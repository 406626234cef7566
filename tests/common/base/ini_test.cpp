#include "common/base/ini.hpp"

#include <doctest/doctest.h>

#include <random>
#include <string>

#include "common/base/error.hpp"
#include "common/base/options.hpp"
#include "tests/common/base/option_table.hpp"

using namespace weir;
using namespace weir::test;

TEST_CASE("a file has sections, comments, quotes, a byte order mark and any line ends") {
  const Settings settings = from_file(
      "\xEF\xBB\xBF# a comment\r\n; another = comment\r\n  steps=16k # and one behind\r\n\r\n"
      "data = \"a # b\"  # comment \"quoted\"\r\n[model]\r\nlayers = 6\r\n"
      "  tied-embedding = true\r\n[clip]\r\npolicy=fixed\n[net]\nbucket =  1e6");
  CHECK(settings.steps == 16000);
  CHECK(settings.data == "a # b");
  CHECK(settings.layers == 6);
  CHECK(settings.tied);
  CHECK(settings.policy == Policy::fixed);
  CHECK(settings.bucket == 1000000);
}

TEST_CASE("values of a file are taken as they look") {
  CHECK(from_file("data = a#b\n").data == "a#b");
  CHECK(from_file("data = a #b\n").data == "a");
  CHECK(from_file("data = 'a b '\n").data == "a b ");
  CHECK(from_file("data = 'it \"is\" \\n'\n").data == "it \"is\" \\n");
  CHECK(from_file("data = \"a\\n\\\"b\\\\\"\n").data == "a\n\"b\\");
  CHECK(from_file("data = C:\\new\n").data == "C:\\new");
  CHECK(from_file("data =\n").data.empty());
  CHECK(from_file("data = \"\"\n").data.empty());
  CHECK(from_file("data = a=b;c\n").data == "a=b;c");
  CHECK(from_file("data = it's\n").data == "it's");
  CHECK(from_file("model.layers = 9\n").layers == 9);
  CHECK(from_file("").steps == 100);
}

TEST_CASE("what is wrong in a file is named with file and line") {
  const std::string expected = ": expected name = value, [section] or # comment, found: ";
  CHECK(message_of_file("\n# x\n[model]\nlayer = 6\n") ==
        "train.ini:4: unknown option model.layer (did you mean model.layers?)");
  CHECK(message_of_file("steps = 5\n\nmodel.layers = 16k\n") ==
        "train.ini:3: model.layers = 16k: expected a whole number 1..4096");
  CHECK(message_of_file("rate = nan\n") == "train.ini:1: rate = nan: expected a number 0..10");
  CHECK(message_of_file("steps = 5\n; c\nsteps = 6\n") ==
        "train.ini:3: steps is given twice, first in line 1");
  CHECK(message_of_file("[model]\nlayers = 5\n[x]\n[model]\nlayers = 6\n") ==
        "train.ini:5: model.layers is given twice, first in line 2");
  CHECK(message_of_file("steps = 5\nresume\n") == "train.ini:2" + expected + "resume");
  CHECK(message_of_file("= 5\n") == "train.ini:1" + expected + "= 5");
  CHECK(message_of_file("[model\n") == "train.ini:1" + expected + "[model");
  CHECK(message_of_file("[]\n") == "train.ini:1" + expected + "[]");
  CHECK(message_of_file("data = \"open\n") == "train.ini:1: a quote is not closed");
  CHECK(message_of_file("data = 'a' b\n") == "train.ini:1: there is text after the closing quote");
  CHECK(message_of_file("data = \"\\q\"\n") ==
        "train.ini:1: \\q in double quotes is none of \\\\ \\\" \\n \\t \\r; single quotes take "
        "everything as it is");
  CHECK(message_of_file(std::string("steps = 5\n\x7f"
                                    "ELF\0\0",
                                    16)) ==
        "train.ini:2: a control character; is this a text file?");
}

TEST_CASE("a file that cannot be read is an error that says why") {
  Settings settings;
  CHECK_THROWS_WITH_AS(
      settings.parse({}, {}, "/nowhere/train.ini"),
      "cannot read the configuration /nowhere/train.ini: No such file or directory", UsageError);
  CHECK_THROWS_WITH_AS(settings.parse({}, {}, "/"),
                       "cannot read the configuration /: Is a directory", UsageError);
  CHECK_THROWS_WITH_AS(settings.parse({}, {}, "/dev/zero"),
                       "cannot read the configuration /dev/zero: it is a pipe or a device, not a "
                       "regular file",
                       UsageError);
  CHECK_THROWS_WITH_AS(settings.parse({}, {}, "/" + std::string(300, 'x')),
                       doctest::Contains("File name too long"), UsageError);
  CHECK(message_of_file(std::string((std::size_t{1} << 20) + 1, '#'))
            .ends_with("it has more than 1048576 bytes"));
}

TEST_CASE("settings written as INI read back to the same settings") {
  Settings settings;
  for (const std::string data :
       {"plain", "", " blanks ", "a # b", "a#b", "\"quoted\"", "'", "\"", "'both\" kinds'",
        "two\nlines\t\\n", "back\\slash", "\\", "[x]", "a = b", ";x", "\xC3\xA4"}) {
    CAPTURE(data);
    settings.parse({"--rate=0.1", "--clip.policy=fixed"});
    settings.data = data;
    const auto written = settings.parse({"--model.layers=7"}, {"WEIR_STEPS=12"});
    const std::string ini = settings_as_ini(written);
    const IniFile file(ini);
    Settings read;
    const auto again = read.parse({}, {}, "train.ini");
    CAPTURE(ini);
    for (std::size_t i = 0; i < written.size(); ++i) {
      CHECK(again[i].name == written[i].name);
      CHECK(again[i].value == written[i].value);
    }
    CHECK(read.data == data);
    CHECK(read.rate == 0.1);
  }
  settings.data = "plain";
  CHECK(settings_as_ini(settings.parse({"--steps=12", "--model.layers=7"})) ==
        "steps = 12  # command line\ndata = plain  # default\nrate = 0.1  # default\n"
        "\n[model]\nlayers = 7  # command line\ntied-embedding = false  # default\n"
        "\n[net]\nbucket = 1048576  # default\n\n[clip]\npolicy = fixed  # default\n");
}

TEST_CASE("no bytes in a file do anything but parse or end in a UsageError") {
  constexpr unsigned kSeed = 20240607;
  CAPTURE(kSeed);
  std::mt19937 random(kSeed);
  const std::string base = "# c\n[model]\nlayers = 6\n[clip]\npolicy = 'fixed' # x\n";
  const std::string letters = "[]=#;'\"\\ \t\r\n.aze1-\x01\xEF";
  int accepted = 0;
  for (int round = 0; round < 2000; ++round) {
    std::string bytes = base;
    for (int change = 0; change < 2; ++change) {
      const auto place = random() % bytes.size();
      bytes.replace(place, random() % 3, 1, letters[random() % letters.size()]);
    }
    CAPTURE(bytes);
    if (message_of_file(bytes) == "accepted") ++accepted;
  }
  CHECK(accepted > 10);
  CHECK(accepted < 1990);
}
