#include "worker/data/dataset.hpp"

#include "common/base/error.hpp"
#include "worker/data/file_list.hpp"
#include "worker/data/listops/listops.hpp"
#include "worker/data/text/text_dataset.hpp"

namespace weir::worker {

std::vector<Option> options(DataConfig& c) {
  return {
      {"data.kind", "",
       "what to learn: text (its bytes, by a language model) or listops (by a classifier)",
       choice(c.kind, {{"text", DataKind::text}, {"listops", DataKind::listops}})},
      {"data.files",
       "",
       "text to train on: files (plain or gzip'ed), folders, patterns like 'books/*.txt', or "
       "@FILE, "
       "a file that lists these; separate them by commas, and write \\, for a comma in a name",
       &c.files,
       {},
       Scope::run,
       true},
      {"data.validation",
       "",
       "text to validate on, written like data.files; all of data.files is then for training",
       &c.validation,
       {},
       Scope::run,
       true},
      {"data.held-out",
       "bytes",
       "the end of the text is kept for validation: this much, but at most a tenth of it; nothing "
       "if "
       "data.validation names a text",
       &c.held_out,
       {1, 1e15}},
      {"data.stride",
       "tokens",
       "tokens that each validation window scores, except the first; 0: half the length",
       &c.stride,
       {0, 1e15}},
      {"data.listops-split", "", "the ListOps samples to score",
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

DataShape shape_of(const DataConfig& config, index_t length) {
  switch (config.kind) {
    case DataKind::text:
      return text_shape(length);
    case DataKind::listops:
      return listops_shape(length);
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
