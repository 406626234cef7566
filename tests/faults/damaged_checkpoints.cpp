#include <algorithm>

#include "common/io/best_checkpoint.hpp"
#include "common/io/checkpoint_format.hpp"
#include "launch/inspect.hpp"
#include "launch/trained_model.hpp"
#include "tests/faults/damage_subject.hpp"
#include "tests/ps/simulated_job.hpp"
#include "tests/temporary_folder.hpp"
#include "worker/models/transformer/config.hpp"

namespace weir::test {
namespace {

constexpr index_t kOlderStep = 2;
constexpr index_t kNewerStep = 4;
constexpr index_t kContentsMax = 64 << 20;

RunConfig model_to_damage() {
  RunConfig config;
  config.model.layers = 1;
  config.model.width = 8;
  config.model.heads = 2;
  config.model.feed_forward = 8;
  config.model.left = 4;
  config.model.global_tokens = "0";
  config.train.length = 16;
  config.train.training.batch = config.train.training.micro_batch = 2;
  config.data.files = "corpus.txt";
  fit_model_to_data(config);
  return config;
}

/// All tensors of a checkpoint, by name.
std::map<std::string, std::vector<float>> tensors_of(const CheckpointReader& reader) {
  std::map<std::string, std::vector<float>> tensors;
  const Manifest& manifest = reader.manifest();
  for (index_t record = 0; record < manifest.records.size(); ++record) {
    index_t elements = 1;
    for (const index_t extent : manifest.records[record].shape) elements *= extent;
    std::vector<float>& values = tensors[manifest.records[record].name];
    values.resize(static_cast<std::size_t>(elements));
    reader.read(record, 0, values);
  }
  return tensors;
}

/// Checkpoints of two steps, made by a server, and what they hold.
class CheckpointsToDamage {
 public:
  CheckpointsToDamage() {
    ps::ServerConfig saving = config(kNewerStep);
    saving.checkpoint.folder = checkpoints();
    saving.checkpoint.every = kOlderStep;
    SimulatedJob job(plan_, saving, 1);
    job.run();
    write_best(checkpoints(), {kOlderStep, 2.5});
    for (const auto& [step, folder] : checkpoints_in(checkpoints())) {
      const CheckpointReader reader(folder);
      truths_[step] = {manifest_text(reader.manifest()), tensors_of(reader)};
      ps::Server server(plan_, 0, config(kNewerStep));
      server.load(folder);
      truths_[step].weights = weights_of(server);
    }
  }

  fs::path checkpoints() const { return folder_ / "checkpoints"; }
  const fs::path& folder() const { return folder_.path(); }

  /// The tensors of the checkpoint at this folder are those of its step.
  void compare(const CheckpointReader& reader, bool is_forged) const {
    const auto tensors = tensors_of(reader);
    if (is_forged) return;  // it says of itself what it holds
    const auto truth = truths_.find(reader.manifest().step);
    right(truth != truths_.end() && manifest_text(reader.manifest()) == truth->second.manifest,
          "another MANIFEST is taken for whole");
    for (const auto& [name, values] : tensors) {
      const std::vector<float>& expected = truth->second.tensors.at(name);
      const bool same =
          values.size() == expected.size() &&
          std::ranges::equal(std::as_bytes(std::span(values)), std::as_bytes(std::span(expected)));
      right(same, name, " has other bits");
    }
  }

  /// A job goes on from the checkpoint.
  void resume(const fs::path& folder, bool is_forged) const {
    SimulatedJob job(plan_, config(kNewerStep + 2), 1);
    job.load(folder);
    const index_t step = job.servers[0]->start().step;
    if (is_forged) return job.run();
    const auto truth = truths_.find(step);
    right(truth != truths_.end() && weights_of(*job.servers[0]) == truth->second.weights,
          "a job goes on with other weights");
  }

 private:
  struct Truth {
    std::string manifest;
    std::map<std::string, std::vector<float>> tensors;
    std::vector<float> weights = {};
  };

  ps::ServerConfig config(index_t steps) const {
    ps::ServerConfig config = server_config(steps);
    config.optimizer.kind = ps::OptimizerKind::sgd;
    RunConfig all = model_;
    for (const Setting& setting : parse_options(options(all), std::nullopt, {}, {})) {
      config.checkpoint.notes[setting.name] = setting.value;
    }
    config.checkpoint.settings["model.layers"] = text(model_.model.layers);
    return config;
  }
  static std::vector<float> weights_of(const ps::Server& server) {
    std::vector<float> weights;
    for (const index_t bucket : server.buckets()) {
      const std::span<const float> its = server.weights(bucket);
      weights.insert(weights.end(), its.begin(), its.end());
    }
    return weights;
  }

  const RunConfig model_ = model_to_damage();
  const BucketPlan plan_{worker::parameter_specs(model_.model), {0, 0, 0}, Layout{}, 65536};
  TemporaryFolder folder_{memory_folder()};
  std::map<index_t, Truth> truths_;
};

void evaluate(const fs::path& folder, Mutator& random) {
  const CheckpointReader reader(folder);
  RunConfig config = config_of(reader);
  if (random.chance(4)) {
    scorer_of(reader, config);
  } else {
    complete(reader, config);
    worker::Scorer::check(reader, config.model);
  }
}

}  // namespace

std::map<std::string, std::string> files_in(const fs::path& folder) {
  std::map<std::string, std::string> files;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    if (!entry.is_regular_file()) continue;
    files[entry.path().lexically_relative(folder).string()] =
        read_whole(entry.path(), kContentsMax);
  }
  return files;
}

std::vector<DamageSubject> checkpoint_subjects() {
  const auto made = std::make_shared<CheckpointsToDamage>();
  const fs::path newer = checkpoint_folder("checkpoints", kNewerStep);
  const fs::path older = checkpoint_folder("checkpoints", kOlderStep);
  DamageSubject one = {.name = "a checkpoint", .share = 8};
  for (const char* const name : {"MANIFEST", "model.h5"}) {
    one.files[name] = read_whole(made->folder() / newer / name, kContentsMax);
    one.other[name] = read_whole(made->folder() / older / name, kContentsMax);
  }
  one.also_names = {"--", "setting", "the checkpoint of step", "another model"};
  one.read = [made](const DamagedRead& damaged) {
    switch (damaged.random.below(4)) {
      case 0: {
        const CheckpointReader reader(damaged.folder);
        reader.verify();
        return made->compare(reader, damaged.is_forged);
      }
      case 1:
        return made->resume(damaged.folder, damaged.is_forged);
      case 2:
        inspect_path(damaged.folder, {.verify = damaged.random.chance(2)});
        return;
      case 3:
        return evaluate(damaged.folder, damaged.random);
    }
  };

  DamageSubject all = {.name = "checkpoints", .share = 3, .files = files_in(made->folder())};
  for (const auto& [name, contents] : all.files) all.other[name] = contents;
  for (const char* const name : {"MANIFEST", "model.h5"}) {
    std::swap(all.other.at((newer / name).string()), all.other.at((older / name).string()));
  }
  all.read = [made](const DamagedRead& damaged) {
    const fs::path checkpoints = damaged.folder / "checkpoints";
    const bool retains = damaged.random.chance(3);
    if (damaged.random.chance(3)) inspect_path(damaged.folder, {.verify = true});
    read_best(checkpoints);
    if (retains) remove_old_checkpoints(posix_file_system(), checkpoints, kNewerStep, 2);
    const auto newest = newest_complete(checkpoints);
    right(newest.has_value(), "no checkpoint is left");
    made->compare(CheckpointReader(*newest), damaged.is_forged);
  };
  return {one, all};
}

}  // namespace weir::test
