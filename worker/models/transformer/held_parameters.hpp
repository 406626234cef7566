#pragma once

#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "common/job/bucket.hpp"
#include "worker/layers/held.hpp"
#include "worker/models/transformer/config.hpp"

namespace weir::worker {

/// Finds the parameters of a model in a holder's arena by name.
class HeldParameters {
 public:
  /// holding: of a plan made from parameter_specs(config).
  HeldParameters(const ModelConfig& config, const Holding& holding);
  HeldParameters(const HeldParameters&) = delete;
  HeldParameters& operator=(const HeldParameters&) = delete;

  /// This holder's rows of a parameter; 0 rows if its slice is empty.
  HeldMatrix matrix(std::string_view name) const;
  HeldVector vector(std::string_view name) const;
  /// Several parameters that lie one after the other, as one.
  HeldMatrix matrices(const std::vector<std::string>& names) const;
  HeldVector vectors(const std::vector<std::string>& names) const;
  /// The first row of a parameter that this holder has.
  index_t first_row(std::string_view name) const;

 private:
  struct Found {
    const ParameterSpec* spec;
    HeldSlice slice;
  };
  const Found& find(std::string_view name) const;

  List<ParameterSpec> specs_;
  std::unordered_map<std::string_view, Found> found_;  ///< the keys are the names in specs_
};

}  // namespace weir::worker
