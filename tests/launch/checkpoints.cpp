#include "tests/launch/checkpoints.hpp"

#include <algorithm>
#include <iostream>
#include <sstream>

#include "common/io/checkpoint_format.hpp"
#include "common/number/random.hpp"
#include "worker/models/transformer/config.hpp"

namespace weir::test {

RunConfig tiny_language(const std::filesystem::path& text) {
  RunConfig config;
  config.model.layers = 2;
  config.model.width = 16;
  config.model.heads = 2;
  config.model.feed_forward = 24;
  config.model.left = 5;
  config.model.global_tokens = "0-1";
  config.train.length = 24;
  config.data.files = text.string();
  fit_model_to_data(config);
  return config;
}

Arrays random_parameters(const RunConfig& config) {
  Arrays parameters;
  for (const ParameterSpec& spec : worker::parameter_specs(config.model)) {
    const bool is_matrix = spec.shape.size() == 2;
    std::vector<float>& values = parameters[spec.name];
    values.resize(spec.element_count());
    fill_normal(values, 5, stream_of(spec.name), 0, is_matrix ? 0.5F : 0.2F);
    if (spec.initial == Initial::ones) {
      for (float& value : values) value += 1;
    }
  }
  return parameters;
}

std::map<std::string, std::string> settings_of(RunConfig config) {
  std::map<std::string, std::string> settings = {{"optimizer.kind", "adamw"}};
  for (const Setting& setting : parse_options(options(config), std::nullopt, {}, {})) {
    settings[setting.name] = setting.value;
  }
  return settings;
}

std::filesystem::path write_checkpoint(const std::filesystem::path& checkpoints, index_t step,
                                       const RunConfig& config, const Arrays& parameters,
                                       const std::map<std::string, std::string>& settings) {
  FileSystem& files = posix_file_system();
  Manifest manifest;
  manifest.step = step;
  manifest.cursor = step * 16;
  manifest.settings = settings;
  for (const ParameterSpec& spec : worker::parameter_specs(config.model)) {
    if (!parameters.contains(spec.name)) continue;
    manifest.records.push_back({"/model/" + spec.name, spec.shape});
  }
  for (const auto& [name, values] : parameters) {
    const bool is_known = std::ranges::find(manifest.records, "/model/" + name,
                                            &CheckpointRecord::name) != manifest.records.end();
    if (!is_known) manifest.records.push_back({"/model/" + name, {std::ssize(values)}});
  }
  manifest.records.push_back({"/optimizer/first/final_norm.bias", {3}});
  begin_checkpoint(files, checkpoints, step, manifest.records);
  CheckpointWriter writer(files, checkpoints, step, manifest.records);
  for (index_t record = 0; record < manifest.records.size(); ++record) {
    const std::string& name = manifest.records[record].name;
    const std::vector<float> moment(3, 9.0F);
    const std::span<const float> values =
        name.starts_with("/model/") ? parameters.at(name.substr(7)) : moment;
    const std::size_t cut = values.size() / 3;
    writer.write(record, 0, values.first(cut));
    writer.write(record, cut, values.subspan(cut));
  }
  manifest.digests = writer.finish();
  commit_checkpoint(files, checkpoints, manifest);
  return checkpoint_folder(checkpoints, step);
}

std::filesystem::path write_checkpoint(const std::filesystem::path& checkpoints, index_t step,
                                       const RunConfig& config, const Arrays& parameters) {
  return write_checkpoint(checkpoints, step, config, parameters, settings_of(config));
}

std::string output_of(int (*command)(const Arguments&), const Arguments& arguments) {
  std::ostringstream out;
  std::streambuf* const before = std::cout.rdbuf(out.rdbuf());
  try {
    command(arguments);
  } catch (...) {
    std::cout.rdbuf(before);
    throw;
  }
  std::cout.rdbuf(before);
  return out.str();
}

}  // namespace weir::test
