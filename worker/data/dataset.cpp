#include "worker/data/dataset.hpp"

#include "common/base/error.hpp"
#include "worker/data/file_list.hpp"
#include "worker/data/listops/listops.hpp"
#include "worker/data/text/text_dataset.hpp"

namespace weir::worker {

std::vector<Option> options(DataConfig& c) {
  return {
      {"data.kind", "", "what to learn: text (bytes, language model) or listops (classifier)",
       choice(c.kind, {{"text", DataKind::text}, {"listops", DataKind::listops}})},
      {"data.files",
       "",
       "text to learn: files (plain or gzip'ed), folders, patterns like 'books/*.txt', or @FILE "
       "that lists such; commas between them, \\, for a comma in a name",
       &c.files,
       {},
       Scope::run,
       true},
      {"data.validation",
       "",
       "text to validate on, written like data.files; then all of data.files is trained on",
       &c.validation,
       {},
       Scope::run,
       true},
      {"data.held-out",
       "bytes",
       "end of the text kept for validation, at most a tenth of the text; none with "
       "data.validation",
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

std::string tokenizer_of(DataKind kind) {
  switch (kind) {
    case DataKind::text:
      return "bytes";
    case DataKind::listops: {
      std::string words = "symbols";
      for (const std::string_view symbol : kListopsSymbols) words += text(" ", symbol);
      return words;
    }
  }
  WEIR_UNREACHABLE();
}

std::unique_ptr<Dataset> make_dataset(const DataConfig& config, index_t length,
                                      std::uint64_t seed) {
  switch (config.kind) {
    case DataKind::text: {
      if (items_of(config.files).empty()) {
        throw UsageError(
            "no text to train on: set data.files, e.g. --data.files=$(launch/scripts/corpus), or "
            "--data.kind=listops");
      }
      const FileList files = find_files(config.files);
      if (items_of(config.validation).empty()) {
        return std::make_unique<TextDataset>(Corpus(files.paths, files.warnings), length,
                                             config.held_out, config.stride, seed);
      }
      const FileList scored = find_files(config.validation);
      return std::make_unique<TextDataset>(Corpus(files.paths, files.warnings), length,
                                           config.held_out, config.stride, seed,
                                           Corpus(scored.paths, scored.warnings));
    }
    case DataKind::listops:
      return std::make_unique<ListopsDataset>(length, seed, config.listops_split);
  }
  WEIR_UNREACHABLE();
}

}  // namespace weir::worker
