#include "worker/data/dataset.hpp"

#include <sstream>

#include "common/base/error.hpp"
#include "worker/data/listops.hpp"
#include "worker/data/text_dataset.hpp"

namespace weir::worker {

std::vector<Option> options(DataConfig& c) {
  return {
      {"data.kind", "", "what to learn: text (bytes, language model) or listops (classifier)",
       choice(c.kind, {{"text", DataKind::text}, {"listops", DataKind::listops}})},
      {"data.files", "", "text files, also gzip'ed, comma-separated, read as one text", &c.files},
      {"data.held-out",
       "bytes",
       "end of the text kept for validation, at most a tenth of the text",
       &c.held_out,
       {1, 1e15}},
      {"data.stride",
       "tokens",
       "tokens scored by each validation window but the first; 0: half the length",
       &c.stride,
       {0, 1e15}},
      {"data.listops-split", "", "ListOps samples that are scored",
       choice(c.listops_split,
              {{"validation", ListopsSplit::validation}, {"test", ListopsSplit::test}})},
  };
}

static std::vector<std::string> split_at_commas(const std::string& list) {
  std::vector<std::string> parts;
  std::istringstream stream(list);
  for (std::string part; std::getline(stream, part, ',');) {
    if (!part.empty()) parts.push_back(part);
  }
  return parts;
}

std::unique_ptr<Dataset> make_dataset(const DataConfig& config, index_t length,
                                      std::uint64_t seed) {
  switch (config.kind) {
    case DataKind::text: {
      const auto files = split_at_commas(config.files);
      if (files.empty()) {
        throw UsageError(
            "no text to train on: set data.files, e.g. --data.files=$(launch/corpus), or "
            "--data.kind=listops");
      }
      return std::make_unique<TextDataset>(Corpus(files), length, config.held_out, config.stride,
                                           seed);
    }
    case DataKind::listops:
      return std::make_unique<ListopsDataset>(length, seed, config.listops_split);
  }
  WEIR_UNREACHABLE();
}

}  // namespace weir::worker
