#include <doctest/doctest.h>

#include <cmath>
#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>
#include <numeric>

#include "common/base/error.hpp"
#include "tests/launch/checkpoints.hpp"
#include "tests/temporary_folder.hpp"
#include "tests/worker/models/twin.hpp"
#include "worker/data/batch.hpp"
#include "worker/data/dataset.hpp"

namespace weir::test::evaluate_test {
namespace {

/// 3,000 bytes, the last 150 of them held out.
struct Text {
  TemporaryFolder folder;
  std::filesystem::path path = folder.path() / "text.txt";
  RunConfig config;

  Text() {
    std::ofstream file(path);
    for (int i = 0; file.tellp() < 3000; ++i) file << "line " << i * i << " of the weir\n";
    file.close();
    std::filesystem::resize_file(path, 3000);
    config = tiny_language(path);
    config.data.held_out = 150;
  }
};

/// Summed loss of these validation samples, in double.
double twin_loss(const RunConfig& config, const Arrays& parameters,
                 const std::vector<index_t>& samples) {
  Twin::Parameters values;
  for (const auto& [name, array] : parameters) values[name].assign(array.begin(), array.end());
  const Twin twin(config.model, values);
  const auto dataset =
      worker::make_dataset(config.data, config.train.length, config.train.training.random_seed());
  worker::Batch batch(*dataset, samples.size());
  batch.load_validation(samples);
  return twin.loss(batch.view(), 0, false);
}

std::vector<index_t> first(index_t count) {
  std::vector<index_t> all(count);
  std::iota(all.begin(), all.end(), 0);
  return all;
}

nlohmann::json eval_json(Arguments arguments) {
  arguments.push_back("--json");
  return nlohmann::json::parse(output_of(eval, arguments));
}

TEST_CASE("eval scores every held-out byte once, with the loss of the twin in double") {
  for (const auto positions : {worker::Positions::rotary, worker::Positions::learned}) {
    Text text;
    text.config.model.positions = positions;
    text.config.model.dropout = 0.3;  // not in evaluation
    const Arrays parameters = random_parameters(text.config);
    const auto folder =
        write_checkpoint(text.folder.path() / "checkpoints", 7, text.config, parameters);
    const auto json = eval_json({folder.string(), "--micro-batch", "4"});
    // The first window scores 24 bytes, each later one 12: 1 + 126 / 12, rounded up.
    const double truth = twin_loss(text.config, parameters, first(12)) / 150;
    CHECK(json["loss"].get<double>() == doctest::Approx(truth).epsilon(1e-5));
    CHECK(json["bits_per_byte"].get<double>() ==
          doctest::Approx(truth / std::log(2.0)).epsilon(1e-5));
    CHECK(json["count"] == 150);
    CHECK(json["samples"] == 12);
    CHECK(json["length"] == 24);
    CHECK(json["stride"] == 12);
    CHECK(json["step"] == 7);
    CHECK(json["checkpoint"] == folder.string());
  }
}

TEST_CASE("eval takes other files, stride, held-out part, length and samples than the run had") {
  Text text;
  const Arrays parameters = random_parameters(text.config);
  const auto folder =
      write_checkpoint(text.folder.path() / "checkpoints", 7, text.config, parameters);
  const auto other = text.folder.path() / "other.txt";
  std::ofstream(other) << std::string(1500, 'x') << std::string(500, 'y');
  RunConfig config = text.config;
  config.data.files = other.string();
  config.data.stride = 5;
  config.data.held_out = 100;
  config.train.length = config.model.length = 40;
  auto json = eval_json({folder.string(), "--data.files", other.string(), "--data.stride=5",
                         "--data.held-out=100", "--length=40"});
  CHECK(json["loss"].get<double>() ==
        doctest::Approx(twin_loss(config, parameters, first(13)) / 100).epsilon(1e-5));
  CHECK(json["count"] == 100);
  CHECK(json["stride"] == 5);

  // Two of the twelve windows of the run's own text: 24 and 12 bytes.
  json = eval_json({folder.string(), "--samples=2"});
  CHECK(json["count"] == 36);
  CHECK(output_of(eval, {folder.string(), "--samples=2"})
            .find("36 bytes, each once, in 2 of 12 windows, evenly spread, of length 24 with "
                  "stride 12\n") != std::string::npos);
  CHECK(json["loss"].get<double>() ==
        doctest::Approx(twin_loss(text.config, parameters, {0, 6}) / 36).epsilon(1e-5));
}

TEST_CASE("eval takes the newest complete checkpoint of a run folder, its values as read") {
  Text text;
  Arrays parameters = random_parameters(text.config);
  const auto run = text.folder.path();
  write_checkpoint(run / "checkpoints", 100, text.config, parameters);
  for (float& value : parameters["final_norm.weight"]) value *= 0.5F;
  write_checkpoint(run / "checkpoints", 200, text.config, parameters);
  std::filesystem::create_directories(run / "checkpoints" / "step-00000300");
  for (const auto& path : {run, run / "checkpoints"}) {
    const auto json = eval_json({path.string()});
    CHECK(json["step"] == 200);
    CHECK(json["loss"].get<double>() ==
          doctest::Approx(twin_loss(text.config, parameters, first(12)) / 150).epsilon(1e-5));
  }
}

TEST_CASE("eval prints loss, bits per byte, and how they were scored") {
  Text text;
  const auto folder = write_checkpoint(text.folder.path() / "checkpoints", 1234, text.config,
                                       random_parameters(text.config));
  const std::string out = output_of(eval, {folder.string()});
  for (const char* words :
       {"1,234", " nats\n", "bits per byte ", "text.txt (3000 bytes",
        "150 bytes, each once, in all 12 windows of length 24 with stride 12"}) {
    CAPTURE(words);
    CHECK(out.find(words) != std::string::npos);
  }
}

TEST_CASE("eval scores a text of its own with all but its first byte") {
  Text text;
  const Arrays parameters = random_parameters(text.config);
  const auto folder =
      write_checkpoint(text.folder.path() / "checkpoints", 7, text.config, parameters);
  const auto other = text.folder.path() / "a,b.txt";
  std::ofstream(other) << std::string(40, 'x') << std::string(61, 'y');
  RunConfig config = text.config;
  config.data.validation = (text.folder.path() / "a\\,b.txt").string();
  const auto json = eval_json({folder.string(), "--data.validation=" + config.data.validation});
  CHECK(json["count"] == 100);
  // 1 + 76 / 12 windows, rounded up.
  CHECK(json["loss"].get<double>() ==
        doctest::Approx(twin_loss(config, parameters, first(8)) / 100).epsilon(1e-5));
}

TEST_CASE("eval --json is JSON whatever the name of a file, and says why a loss is null") {
  Text text;
  const auto odd = text.folder.path() / "odd\xff.txt";
  std::filesystem::copy_file(text.path, odd);
  Arrays parameters = random_parameters(text.config);
  auto folder = write_checkpoint(text.folder.path() / "checkpoints", 7, text.config, parameters);
  auto json = eval_json({folder.string(), "--data.files", odd.string()});
  CHECK(json["data"].get<std::string>().starts_with("odd\\xff.txt (3000 bytes"));
  CHECK_FALSE(json.contains("reason"));

  parameters["final_norm.weight"][3] = std::nanf("");
  folder = write_checkpoint(text.folder.path() / "checkpoints", 8, text.config, parameters);
  json = eval_json({folder.string()});
  CHECK(json["loss"].is_null());
  CHECK(json["reason"].get<std::string>().starts_with("the loss is not finite"));
  int code = 0;
  static int* const seen = &code;
  const std::string table = output_of(
      [](const Arguments& arguments) { return *seen = eval(arguments); }, {folder.string()});
  CHECK(table.find("the loss is not finite") != std::string::npos);
  CHECK(code == static_cast<int>(ExitCode::diverged));
}

TEST_CASE("a classifier is scored by its accuracy, beside the guesses without a model") {
  const TemporaryFolder folder;
  RunConfig config = tiny_language("");
  config.model.task = worker::Task::classifier;
  config.model.layers = 1;
  config.model.right = 3;
  config.data.kind = worker::DataKind::listops;
  config.data.listops_split = worker::ListopsSplit::test;
  config.train.length = 2000;
  config.train.training.seed = 3;
  fit_model_to_data(config);
  Arrays parameters = random_parameters(config);
  const auto path = write_checkpoint(folder.path() / "checkpoints", 1, config, parameters);
  auto json = eval_json({path.string(), "--samples=4", "--micro-batch=3"});
  const std::vector<index_t> samples = {0, 500, 1000, 1500};
  CHECK(json["loss"].get<double>() ==
        doctest::Approx(twin_loss(config, parameters, samples) / 4).epsilon(1e-5));
  CHECK(json["majority"] == 0.171);
  CHECK(json["root_operator"] == 0.364);

  // A model that always says the class of the second sample is right where that is the label.
  const auto dataset = worker::make_dataset(config.data, 2000, 3);
  worker::Batch batch(*dataset, 4);
  batch.load_validation(samples);
  const worker::MicroBatch view = batch.view();
  const auto labels = view.integers("labels");
  for (float& weight : parameters["classifier.weight"]) weight = 0;
  for (float& bias : parameters["classifier.bias"]) bias = 0;
  parameters["classifier.bias"][labels[1]] = 1;
  write_checkpoint(folder.path() / "checkpoints", 2, config, parameters);
  json = eval_json({folder.path().string(), "--samples=4"});
  CHECK(json["accuracy"] == double(std::ranges::count(labels, labels[1])) / 4);
  CHECK_FALSE(json.contains("bits_per_byte"));
}

TEST_CASE(
    "WEIR_ variables count, those of other commands do not disturb, unknown ones are refused") {
  Text text;
  const auto folder = write_checkpoint(text.folder.path() / "checkpoints", 1, text.config,
                                       random_parameters(text.config));
  setenv("WEIR_DATA_STRIDE", "6", 1);
  setenv("WEIR_STEPS", "9", 1);
  CHECK(eval_json({folder.string()})["stride"] == 6);
  CHECK(eval_json({folder.string(), "--data.stride=7"})["stride"] == 7);
  setenv("WEIR_STRIDE", "6", 1);
  CHECK_THROWS_WITH_AS(eval({folder.string()}), doctest::Contains("unknown variable WEIR_STRIDE"),
                       UsageError);
  for (const char* name : {"WEIR_DATA_STRIDE", "WEIR_STEPS", "WEIR_STRIDE"}) unsetenv(name);
}

TEST_CASE("eval refuses wrong arguments with what to do") {
  Text text;
  const auto folder = write_checkpoint(text.folder.path() / "checkpoints", 1, text.config,
                                       random_parameters(text.config));
  const std::string path = folder.string();
  const auto refuses = [](const Arguments& arguments, const char* words) {
    CAPTURE(words);
    CHECK_THROWS_WITH_AS(eval(arguments), doctest::Contains(words), UsageError);
  };
  refuses({}, "eval: name a checkpoint or a run folder");
  refuses({"--json"}, "eval: name a checkpoint or a run folder");
  refuses({path, "more"}, "eval takes one path, and here are ");
  refuses({path, "--model.width=32"}, "unknown option --model.width");
  refuses({path, "--sampels=3"}, "did you mean --samples?");
  refuses({path, "--data.stride=25"},
          "data.stride is 25 tokens, more than a sample's length of 24");
  refuses({path, "--length=4000"}, "the text (text.txt) has 3000 bytes");
}

}  // namespace

}  // namespace weir::test::evaluate_test
