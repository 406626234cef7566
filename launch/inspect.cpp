#include "launch/inspect.hpp"

#include <algorithm>
#include <cmath>
#include <iostream>
#include <limits>

#include "common/base/error.hpp"
#include "common/base/safe_text.hpp"
#include "common/base/spelling.hpp"
#include "common/io/checkpoint_format.hpp"
#include "common/io/hdf5.hpp"
#include "launch/checkpoint_path.hpp"
#include "launch/command.hpp"
#include "launch/terminal/quantities.hpp"
#include "launch/terminal/table.hpp"
#include "ps/save/resume.hpp"

namespace weir {
namespace {

const std::string kModel = "/model/";

std::string shape_text(const std::vector<index_t>& shape) {
  std::string words;
  for (const index_t extent : shape) words += text(words.empty() ? "" : " x ", extent);
  return words.empty() ? "one number" : words;
}

/// What inspect shows about the values of a tensor.
struct Values {
  double low = std::numeric_limits<double>::infinity();
  double high = -std::numeric_limits<double>::infinity();
  double sum = 0;
  double squares = 0;
  index_t count = 0;
  index_t not_finite_count = 0;
  std::vector<float> first;

  void add(std::span<const float> values) {
    constexpr std::size_t kShown = 8;
    for (const float value : values) {
      if (first.size() < kShown) first.push_back(value);
      ++count;
      if (!std::isfinite(value)) {
        ++not_finite_count;
        continue;
      }
      low = std::min(low, double{value});
      high = std::max(high, double{value});
      sum += value;
      squares += double{value} * value;
    }
  }
  double mean() const { return sum / static_cast<double>(count - not_finite_count); }
  double rms() const { return std::sqrt(squares / static_cast<double>(count - not_finite_count)); }
};

/// Reading also checks the digests.
Values values_of(const CheckpointReader& reader, index_t record) {
  const index_t elements = elements_of(reader.manifest().records[record].shape);
  Values values;
  std::vector<float> part;
  for (index_t begin = 0; begin < elements; begin += kDigestElements) {
    part.resize(std::min(kDigestElements, elements - begin));
    reader.read(record, begin, part);
    values.add(part);
  }
  return values;
}

std::string number_text(double value) {
  return value != 0 && (std::abs(value) < 1e-3 || std::abs(value) >= 1e4) ? text(float(value))
                                                                          : fixed(value, 5);
}

std::string tensor_text(const CheckpointReader& reader, const std::string& name) {
  const Manifest& manifest = reader.manifest();
  auto index = reader.find(name);
  if (!index) index = reader.find(kModel + name);
  if (!index) {
    std::vector<std::string> known;
    for (const CheckpointRecord& record : manifest.records) {
      known.push_back(record.name.starts_with(kModel) ? record.name.substr(kModel.size())
                                                      : record.name);
    }
    throw UsageError(text("--tensor ", name, ": the checkpoint has no such tensor",
                          did_you_mean(name, known), "; weir inspect lists them"));
  }
  const CheckpointRecord& record = manifest.records[*index];
  const Values values = values_of(reader, *index);
  std::string first;
  for (const float value : values.first) first += text(first.empty() ? "" : ", ", value);
  if (values.count > std::ssize(values.first)) first += ", ...";
  Table table("ll", {"", ""});
  table.add({"tensor", record.name});
  table.add({"shape", shape_text(record.shape)});
  table.add({"elements", text(grouped(values.count), ", f32, from byte ", grouped(record.offset),
                              " of model.h5")});
  table.add({"not finite", grouped(values.not_finite_count)});
  if (values.not_finite_count < values.count) {
    table.add({"range", text(number_text(values.low), " to ", number_text(values.high))});
    table.add({"mean", number_text(values.mean())});
    table.add({"rms", number_text(values.rms())});
  }
  table.add({"values", first});
  return table.to_text();
}

std::string checkpoint_text(const fs::path& folder, const InspectRequest& request) {
  const CheckpointReader reader(folder);
  if (request.verify) reader.verify();
  if (!request.tensor.empty()) return tensor_text(reader, request.tensor);

  const Manifest& manifest = reader.manifest();
  Table parameters("llrr", {"parameter", "shape", "elements", "rms"});
  index_t model_elements = 0, model_records = 0, other_elements = 0, other_records = 0;
  for (index_t at = 0; at < manifest.records.size(); ++at) {
    const CheckpointRecord& record = manifest.records[at];
    const index_t elements = elements_of(record.shape);
    if (!record.name.starts_with(kModel)) {
      other_elements += elements;
      ++other_records;
      continue;
    }
    model_elements += elements;
    ++model_records;
    const Values values = values_of(reader, at);
    parameters.add({record.name.substr(kModel.size()), shape_text(record.shape), grouped(elements),
                    values.not_finite_count == 0 ? number_text(values.rms())
                                                 : text(values.not_finite_count, " not finite")});
  }
  Table table("ll", {"", ""});
  table.add({"checkpoint", folder.string()});
  table.add({"step", grouped(ps::steps_done(manifest))});
  table.add({"cursor", grouped(manifest.cursor)});
  table.add({"parameters", text(grouped(model_elements), " in ", model_records, " tensors")});
  table.add({"optimizer", text(grouped(other_elements), " in ", other_records, " tensors")});
  table.add({"model.h5", bytes_text(manifest.file_bytes)});
  table.add({"digests", request.verify
                            ? text("all ", manifest.digests.size(), " hold")
                            : std::string("those of the parameters hold; --verify checks all")});
  for (const auto& [name, value] : manifest.settings) table.add({name, value});
  for (const auto& [name, value] : manifest.integers) table.add({name, text(value)});
  for (const auto& [name, value] : manifest.numbers) table.add({name, text(value)});
  return table.to_text() + "\n" + parameters.to_text();
}

Inspection inspect_run(const fs::path& checkpoints, const InspectRequest& request) {
  if (!request.tensor.empty()) {
    throw UsageError(text("--tensor needs a checkpoint, but ", checkpoints.parent_path().string(),
                          " is a run folder; name one of ", checkpoints.string()));
  }
  Table table("lrrl", {"checkpoint", "step", "model.h5", "state"});
  const auto folders = checkpoints_in(checkpoints);
  if (folders.empty()) return {text(checkpoints.string(), " holds no checkpoint yet\n"), ""};
  fs::path newest;
  index_t damaged_count = 0, unreadable_count = 0;
  for (auto at = folders.rbegin(); at != folders.rend(); ++at) {
    const auto& [step, folder] = *at;
    const std::string name = folder.filename().string();
    try {
      const CheckpointReader reader(folder);
      if (reader.manifest().step != step) {
        throw Error(text("MANIFEST is that of step ", reader.manifest().step));
      }
      if (request.verify) reader.verify();
      table.add({name, grouped(ps::steps_done(reader.manifest())),
                 bytes_text(reader.manifest().file_bytes),
                 request.verify ? "complete, all digests hold" : "complete"});
      newest = folder;
    } catch (const Error& error) {
      ++(means_damage(error) ? damaged_count : unreadable_count);
      table.add({name, "-", "-", error.what()});
    }
  }
  Inspection inspection = {table.to_text(), ""};
  inspection.text += newest.empty() ? text("none is complete\n")
                                    : text("newest complete: ", newest.string(), "\n");
  if (unreadable_count > 0 || newest.empty() || (request.verify && damaged_count > 0)) {
    inspection.problem = text(checkpoints.string(), ": ", damaged_count, " of ", folders.size(),
                              " checkpoints are damaged, ", unreadable_count, " cannot be read");
  }
  return inspection;
}

}  // namespace

Inspection inspect_path(const fs::path& path, const InspectRequest& request) {
  const CheckpointPath found = checkpoint_path(path);
  if (found.checkpoint.empty()) return inspect_run(found.checkpoints, request);
  return {checkpoint_text(found.checkpoint, request), ""};
}

int inspect(const Arguments& all) {
  Arguments arguments = all;
  InspectRequest request;
  const std::vector<Option> table = {
      {"tensor", "", "shows only this tensor, in more detail", &request.tensor},
      {"verify", "",
       "reads everything and checks all digests; the exit code is 1 if something is damaged",
       &request.verify},
  };
  if (asks_for_help(arguments)) {
    std::cout << help_of_command("inspect", "CHECKPOINT|RUN [options]",
                                 "Prints what is in a checkpoint (step, cursor, settings, "
                                 "parameters), or lists the checkpoints\n"
                                 "of a run folder.",
                                 table);
    return 0;
  }
  const std::string path = take_path("inspect", "a checkpoint or a run folder", table, arguments);
  parse_options(table, std::nullopt, {}, arguments);
  const Inspection inspection = inspect_path(path, request);
  std::cout << safe_text(inspection.text) << std::flush;
  if (!inspection.problem.empty()) throw Error(inspection.problem);
  return 0;
}

}  // namespace weir
