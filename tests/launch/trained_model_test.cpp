#include "launch/trained_model.hpp"

#include <doctest/doctest.h>

#include <fstream>

#include "common/base/error.hpp"
#include "launch/checkpoint_path.hpp"
#include "tests/launch/checkpoints.hpp"
#include "tests/temporary_folder.hpp"

namespace weir::test::trained_model_test {
namespace {

worker::Scorer model_of(const fs::path& folder) {
  const CheckpointReader reader(folder);
  RunConfig config = config_of(reader);
  return scorer_of(reader, config);
}

TEST_CASE("the configuration comes back from the checkpoint, for one worker in one process") {
  const TemporaryFolder folder;
  RunConfig config = tiny_language("emma.txt,persuasion.txt");
  config.layout.stages = 2;
  config.train.training.seed = 77;
  config.data.stride = 3;
  config.model.dropout = 0.125;
  const CheckpointReader reader(
      write_checkpoint(folder.path(), 5, config, random_parameters(config)));
  const RunConfig back = config_of(reader);
  CHECK(back.model.layers == 2);
  CHECK(back.model.left == 5);
  CHECK(back.model.dropout == 0.125);
  CHECK(back.train.length == 24);
  CHECK(back.train.training.seed == 77);
  CHECK(back.data.files == "emma.txt,persuasion.txt");
  CHECK(back.data.stride == 3);
  CHECK(back.layout.rank_count() == 1);
  CHECK(back.layout.stages == 1);
}

TEST_CASE("settings that a checkpoint does not have are listed") {
  const TemporaryFolder folder;
  const RunConfig config = tiny_language("a.txt");
  auto settings = settings_of(config);
  settings.erase("model.heads");
  settings.erase("length");
  const CheckpointReader reader(
      write_checkpoint(folder.path(), 5, config, random_parameters(config), settings));
  CHECK_THROWS_WITH_AS(config_of(reader),
                       doctest::Contains("its MANIFEST has no length, model.heads;"), Error);
}

TEST_CASE("what is to be scored may be missing: another version had no such option") {
  const TemporaryFolder folder;
  const RunConfig config = tiny_language("a.txt");
  auto settings = settings_of(config);
  settings.erase("data.validation");
  const CheckpointReader reader(
      write_checkpoint(folder.path(), 5, config, random_parameters(config), settings));
  CHECK(config_of(reader).data.validation == "");
  CHECK(config_of(reader).data.files == "a.txt");
}

TEST_CASE("settings of a giant model are held against the file before anything is planned") {
  const TemporaryFolder folder;
  const RunConfig config = tiny_language("a.txt");
  auto settings = settings_of(config);
  settings["model.layers"] = std::string("10000");
  settings["model.width"] = std::string("1048576");
  settings["model.feed-forward"] = std::string("1048576");
  CHECK_THROWS_WITH_AS(
      model_of(write_checkpoint(folder.path(), 1, config, random_parameters(config), settings)),
      doctest::Contains("does not hold the model that its settings describe"), Error);
}

TEST_CASE("parameters that are missing, of another shape or too many are listed") {
  const TemporaryFolder folder;
  const RunConfig config = tiny_language("a.txt");
  Arrays parameters = random_parameters(config);
  auto settings = settings_of(config);
  settings["model.feed-forward"] = std::string("48");
  CHECK_THROWS_WITH_AS(
      model_of(write_checkpoint(folder.path(), 1, config, parameters, settings)),
      doctest::Contains("\n  layers.0.feed_forward.up.weight: 24 x 16 in the checkpoint, 48 x 16 "
                        "in the model\n  layers.0.feed_forward.up.bias: 24 in the checkpoint, 48 "
                        "in the model\n"),
      Error);
  settings = settings_of(config);
  settings["model.layers"] = std::string("1");  // GCC 12 warns of "1" alone
  CHECK_THROWS_WITH_AS(model_of(write_checkpoint(folder.path(), 2, config, parameters, settings)),
                       doctest::Contains("\n  layers.1.attention.key.bias: not in the model"),
                       Error);
  parameters.erase("layers.1.attention.query.weight");
  CHECK_THROWS_WITH_AS(model_of(write_checkpoint(folder.path(), 3, config, parameters)),
                       doctest::Contains("describe:\n  layers.1.attention.query.weight: missing"),
                       Error);
}

TEST_CASE("a model with learned positions takes shorter sequences, as beginnings of longer ones") {
  const TemporaryFolder folder;
  RunConfig config = tiny_language("a.txt");
  config.model.positions = worker::Positions::learned;
  const CheckpointReader reader(
      write_checkpoint(folder.path(), 1, config, random_parameters(config)));
  CHECK(learned_positions(reader.manifest()) == 24);
  RunConfig shorter = config_of(reader);
  shorter.train.length = 9;
  RunConfig config_whole = config_of(reader);
  worker::Scorer whole = scorer_of(reader, config_whole);
  worker::Scorer part = scorer_of(reader, shorter);
  const std::vector<std::int32_t> tokens = {5, 250, 3, 3, 77, 9, 12, 0, 255};
  std::vector<float> expected(256), found(256);
  whole.next_token_logits(tokens, expected);
  part.next_token_logits(tokens, found);
  CHECK(found == expected);
  RunConfig longer = config_of(reader);
  longer.train.length = 25;
  CHECK_THROWS_WITH_AS(scorer_of(reader, longer),
                       "--length 25: the checkpoint has learned 24 positions, and a token behind "
                       "them has none; take --length 24 or less",
                       UsageError);
}

TEST_CASE("key biases of an older checkpoint with learned positions are dropped") {
  const TemporaryFolder folder;
  RunConfig config = tiny_language("a.txt");
  config.model.positions = worker::Positions::learned;
  const Arrays parameters = random_parameters(config);
  const std::vector<std::int32_t> tokens = {5, 250, 3, 3, 77};
  std::vector<float> expected(256), found(256);
  model_of(write_checkpoint(folder.path(), 1, config, parameters))
      .next_token_logits(tokens, expected);
  Arrays more = parameters;
  more["layers.0.attention.key.bias"] = std::vector<float>(16, 0.7F);
  more["layers.1.attention.key.bias"] = std::vector<float>(16, -0.3F);
  model_of(write_checkpoint(folder.path(), 2, config, more)).next_token_logits(tokens, found);
  CHECK(found == expected);
}

TEST_CASE("what is no checkpoint is refused as what it is") {
  const TemporaryFolder folder;
  const fs::path run = folder.path() / "run";
  const auto message_of = [](const fs::path& path) {
    try {
      return checkpoint_at(path).string();
    } catch (const Error& error) {
      return text(error.code() == ExitCode::usage ? "usage: " : "error: ", error.what());
    }
  };
  const std::string name = run.string();
  CHECK(message_of(run) == "usage: " + name + ": there is no such file or folder");
  fs::create_directories(run);
  CHECK(message_of(run) ==
        "usage: " + name +
            " is neither a checkpoint (a folder with MANIFEST and model.h5) nor a run folder (with "
            "checkpoints/ in it)");
  fs::create_directories(run / "checkpoints");
  CHECK(message_of(run) == "error: " + name + " holds no checkpoint yet");

  const RunConfig config = tiny_language("a.txt");
  const fs::path made = write_checkpoint(run / "checkpoints", 4, config, random_parameters(config));
  CHECK(message_of(run) == made.string());
  CHECK(message_of(made) == made.string());
  fs::resize_file(made / "model.h5", 5000);
  CHECK_THROWS_WITH_AS(CheckpointReader(checkpoint_at(made)), doctest::Contains(": truncated"),
                       Error);
  fs::remove(made / "MANIFEST");
  CHECK(message_of(made) == "error: " + made.string() +
                                " is a checkpoint that was never completed: MANIFEST is missing");
}

}  // namespace

}  // namespace weir::test::trained_model_test
