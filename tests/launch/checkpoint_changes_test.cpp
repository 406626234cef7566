#include "launch/checkpoint_changes.hpp"

#include <doctest/doctest.h>

#include <fstream>

#include "common/base/error.hpp"
#include "launch/start_report.hpp"
#include "launch/text_record.hpp"
#include "tests/launch/checkpoints.hpp"
#include "tests/temporary_folder.hpp"

namespace weir::test::checkpoint_changes_test {
namespace {

using test::TemporaryFolder;

/// A checkpoint of `step` of a job with these rate options.
Manifest checkpoint_at(index_t step, const std::vector<std::string>& arguments) {
  Manifest manifest;
  manifest.step = step;
  for (const Setting& setting : parse_run_config(arguments, {}).settings) {
    manifest.settings[setting.name] = setting.value;
  }
  return manifest;
}

std::string jump(index_t step, const std::vector<std::string>& before,
                 const std::vector<std::string>& now) {
  return rate_jump(checkpoint_at(step, before), parse_run_config(now, {}).config);
}

Job job_of(const fs::path& text, index_t steps, index_t held_out, bool accept = false) {
  RunConfig config = test::tiny_language(text);
  config.layout.placement = Placement::local;
  config.train.training.steps = steps;
  config.data.held_out = held_out;
  config.accept_changed_data = accept;
  config.run = "runs/a";
  return make_job(config);
}

TEST_CASE("other instructions for products than the checkpoint's are said, equal ones are not") {
  RunConfig config;
  config.products.instructions = worker::Instructions::avx512;
  Manifest checkpoint;
  CHECK(instructions_change(checkpoint, config) == "");  // of an earlier version
  checkpoint.settings[kInstructionsNote] = "avx512";
  CHECK(instructions_change(checkpoint, config) == "");
  checkpoint.settings[kInstructionsNote] = "amx";
  CHECK(instructions_change(checkpoint, config) ==
        "the checkpoint's run made its matrix products with amx instructions, this one makes them "
        "with avx512: the last bits of its results will be others than there");
}

TEST_CASE("a schedule that is stretched after its end makes the rate jump, and that is said") {
  // Cosine to a tenth; at step 7 of 12 half of the way down: 1e-3 (0.1 + 0.9 (1 + cos(7/12 pi))/2).
  CHECK(jump(6, {"--steps=6"}, {"--steps=12"}) ==
        "the learning rate goes from 1e-04 at step 6 to 0.000434 at step 7: the schedule now ends "
        "at step 12, not at 6. To go on at the old rate take --rate.schedule constant "
        "--rate.warm-up 0 --rate.peak 1e-04");
  CHECK(jump(6, {"--steps=6", "--rate.schedule=linear", "--rate.final=0"},
             {"--steps=7", "--rate.schedule=linear", "--rate.final=0"}) == "");  // 0 to 0
  CHECK(jump(6, {"--steps=6", "--rate.schedule=linear", "--rate.final=0"},
             {"--steps=12", "--rate.schedule=linear", "--rate.final=0"})
            .starts_with("the learning rate goes from 0 at step 6 to 0.000417 at step 7"));
}

TEST_CASE("a rate that goes on as it would have is no jump") {
  Manifest bare;
  bare.step = 6;
  CHECK(jump(5, {"--steps=6"}, {"--steps=6"}) == "");
  CHECK(jump(10, {"--steps=1000"}, {"--steps=1010"}) == "");  // a hundredth of a percent
  CHECK(jump(6, {"--steps=6", "--rate.schedule=constant"},
             {"--steps=12", "--rate.schedule=constant"}) == "");
  CHECK(jump(6, {"--steps=6"}, {"--steps=12", "--rate.schedule=constant", "--rate.peak=1e-4"}) ==
        "");
  CHECK(jump(6, {"--steps=6"}, {"--steps=6"}) == "");   // nothing is trained
  CHECK(jump(0, {"--steps=6"}, {"--steps=12"}) == "");  // nothing was
  CHECK(rate_jump(bare, RunConfig()) == "");            // no settings of a rate
}

TEST_CASE("another peak makes the rate jump without another number of steps") {
  CHECK(jump(3, {"--steps=6"}, {"--steps=6", "--rate.peak=1"})
            .find("at step 4: its schedule is another") != std::string::npos);
}

TEST_CASE("a job that would train on held-out bytes, or on nothing of its text, is refused") {
  const TemporaryFolder folder;
  const fs::path book = folder / "book.txt";
  std::ofstream(book) << std::string(2000, 'a') << std::string(200, 'z');
  Manifest checkpoint;
  checkpoint.step = 6;
  const Job first = job_of(book, 6, 200);
  checkpoint.settings = as_settings(record_of(*first.dataset->as_text()));
  CHECK_NOTHROW(check_text(checkpoint, first));
  CHECK_NOTHROW(check_text(checkpoint, job_of(book, 9, 200)));

  CHECK_THROWS_WITH_AS(check_text(checkpoint, job_of(book, 9, 150)),
                       doctest::Contains("the bytes 2,000 to 2,049, which were held out, are for "
                                         "training now"),
                       UsageError);
  CHECK_NOTHROW(check_text(checkpoint, job_of(book, 9, 150, true)));

  const fs::path other = folder / "other.txt";
  std::ofstream(other) << std::string(3000, 'b');
  CHECK_NOTHROW(check_text(checkpoint, job_of(other, 7, 200)));
  CHECK_THROWS_WITH_AS(check_text(checkpoint, job_of(other, 6, 200)),
                       doctest::Contains("nothing would be trained: runs/a has all of 6 steps, "
                                         "made with another text: it was book.txt (2,000 bytes"),
                       UsageError);
  CHECK_NOTHROW(check_text(checkpoint, job_of(other, 6, 200, true)));
  checkpoint.settings.clear();  // of an earlier version
  CHECK_NOTHROW(check_text(checkpoint, job_of(other, 6, 200)));
}

TEST_CASE("a job says what it trains: parameters, data, epochs, validation") {
  const TemporaryFolder folder;
  const fs::path book = folder / "book.txt";
  std::ofstream(book) << std::string(2600, 'a');
  Job job = job_of(book, 20, 200);
  job.config.train.training.batch = 8;
  // Tokens 256 x 16; of each layer, projections 4 (16 x 16 + 16), feed-forward 2 (16 x 24) + 24 +
  // 16 and norms 2 (2 x 16); the last norm 2 x 16: 4096 + 2 (1088 + 808 + 64) + 32.
  CHECK(
      start_report(job, 0, 0) ==
      std::vector<std::string>{
          "trains 8,048 parameters on book.txt: 2,400 bytes to train on, 200 held out",
          "an epoch has 98 windows of 24 bytes; steps 1 to 20, 8 windows each, lead to epoch 1.63",
          "validates on all 16 windows at the end"});
  job.config.train.training.eval_every = 5;
  job.config.train.eval_samples = 4;
  const auto later = start_report(job, 10, 80);
  REQUIRE(later.size() == 3);
  CHECK(later[1] ==
        "an epoch has 98 windows of 24 bytes; steps 11 to 20, 8 windows each, lead from epoch "
        "0.816 to epoch 1.63");
  CHECK(later[2] == "validates on all 16 windows at the end, on 4 of them every 5 steps");
  CHECK(start_report(job, 20, 160).size() == 2);
}

TEST_CASE("a job says where a low precision saves memory alone, and nothing where it saves time") {
  const TemporaryFolder folder;
  const fs::path book = folder / "book.txt";
  std::ofstream(book) << std::string(2600, 'a');
  Job job = job_of(book, 20, 200);
  const auto says_so = [&](Precision precision, worker::Instructions instructions) {
    job.config.train.training.precision = precision;
    job.config.products.instructions = instructions;
    const std::string begin = name_of(precision) + " saves memory here, not time";
    return start_report(job, 0, 0).back().starts_with(begin);
  };
  CHECK(says_so(Precision::bf16, worker::Instructions::avx512));
  CHECK_FALSE(says_so(Precision::bf16, worker::Instructions::avx512_bf16));
  CHECK_FALSE(says_so(Precision::bf16, worker::Instructions::amx));
  CHECK(says_so(Precision::fp16, worker::Instructions::amx));
  CHECK_FALSE(says_so(Precision::fp32, worker::Instructions::avx2));
  job.config.products.library = worker::ProductLibrary::openblas;
  CHECK(says_so(Precision::bf16, worker::Instructions::amx));
}

}  // namespace

}  // namespace weir::test::checkpoint_changes_test
