#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "common/base/error.hpp"
#include "common/base/index.hpp"

namespace weir::test {

/// One kind of fault, tried many times.
class Part {
 public:
  virtual ~Part() = default;

  /// Makes what the trials have in common, such as the result of an undisturbed job. Returns the
  /// number of trials: a few that take seconds, or those of the published table.
  virtual index_t prepare(bool is_long) = 0;

  /// The first trials break the protocol on purpose, and pass if the damage is noticed: so many.
  virtual index_t controls() const { return 0; }

  /// One trial; its number and `seed` decide all that is random in it. Several threads may call
  /// this. Throws Error that says what went wrong, and at which point.
  virtual void attempt(index_t trial, std::uint64_t seed) = 0;

  /// What the trials made so far have measured, for the row; empty if they measure nothing.
  virtual std::string figures() const { return {}; }
};

/// Thrown by Part::prepare: this machine does not permit these trials.
class NotPermitted : public Error {
 public:
  using Error::Error;
};

/// Throws Error with these words if it does not hold.
template <class... Words>
void expect(bool holds, const Words&... words) {
  if (!holds) throw Error(text(words...));
}

/// A row of the matrix.
struct Row {
  std::string name;   ///< what the command line calls it
  std::string fault;  ///< what is done, and what must come of it
  std::function<std::unique_ptr<Part>()> make;
};

/// All rows, in the order of the table.
std::vector<Row> rows();

}  // namespace weir::test
