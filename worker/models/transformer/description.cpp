#include "worker/models/transformer/description.hpp"

#include "worker/kernels/kernels.hpp"

namespace weir::worker {
namespace {

std::variant<std::string, index_t, double> value_of(const Option& option) {
  if (const auto* const* flag = std::get_if<bool*>(&option.field)) return index_t{**flag};
  if (const auto* const* count = std::get_if<index_t*>(&option.field)) return **count;
  if (const auto* const* number = std::get_if<double*>(&option.field)) return **number;
  if (const auto* const* words = std::get_if<std::string*>(&option.field)) return **words;
  return std::get<Choice>(option.field).get();
}

/// Whether the weights mean the same whatever this option says.
bool is_idle(const std::string& option, const ModelConfig& config) {
  const bool language = config.task == Task::language;
  if (option == "model.dropout" || option == "model.deviation") return true;
  if (option == "model.tied") return !language;
  if (option == "model.pooling") return language;
  if (option == "attention.global-heads") return config.globals != GlobalForm::split;
  return false;
}

}  // namespace

std::vector<Attribute> description(const ModelConfig& config) {
  ModelConfig canonical = config;
  canonical.global_tokens = text_of(config.sparsity().globals);
  std::vector<Attribute> all;
  for (const Option& option : options(canonical)) {
    if (!is_idle(option.name, config)) all.push_back({option.name, value_of(option)});
  }
  all.push_back({"model.vocabulary", config.vocabulary});
  if (config.task == Task::classifier) all.push_back({"model.classes", config.classes});
  all.push_back({"length", config.length});
  all.push_back({"attention.causal", index_t{config.sparsity().causal}});
  all.push_back({"norm.epsilon", kNormEpsilon});
  all.push_back({"gelu", "tanh"});
  if (config.positions == Positions::rotary) {
    all.push_back({"rotary.base", kRotaryBase});
    all.push_back({"rotary.pairing", "halves"});
  }
  return all;
}

}  // namespace weir::worker
