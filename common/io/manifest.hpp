#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "common/base/index.hpp"
#include "common/base/list.hpp"

namespace weir {

/// A tensor of a checkpoint: whole, in full shape, as one dataset of f32 in model.h5.
struct CheckpointRecord {
  std::string name;     ///< `/model/PARAMETER`, `/optimizer/SLOT/PARAMETER`; no blanks
  List<index_t> shape;  ///< empty: one number
  index_t offset = 0;   ///< where its first byte is in model.h5
  /// What the dimensions are, `[outputs, inputs]`: an attribute of the dataset, not in MANIFEST.
  std::string layout = {};
};

/// CRC-32C of the elements [begin, end) of a record, little-endian as in the file. At most
/// kDigestElements of them, because they are read at once for the check.
struct RangeDigest {
  index_t record = 0;  ///< index
  index_t begin = 0;
  index_t end = 0;
  std::uint32_t crc = 0;
};
constexpr index_t kDigestElements = index_t{1} << 18;  // 1 MiB

/// No step, sample or update of a training has a greater number; what is added to one does not
/// overflow.
constexpr index_t kCountMax = index_t{1} << 53;

/// The version of the format: of MANIFEST and of what stands in model.h5.
inline constexpr index_t kCheckpointVersion = 1;

/// What MANIFEST holds: all of a checkpoint that is no tensor, and what the tensors must look like.
struct Manifest {
  index_t step = 0;    ///< steps done
  index_t cursor = 0;  ///< global index of the first sample of the next step
  /// Names without blanks to whatever their owners keep: settings of the model that must agree;
  /// positions and counters; state such as the threshold of the clip, to the bit.
  std::map<std::string, std::string> settings;
  std::map<std::string, index_t> integers;
  std::map<std::string, double> numbers;
  index_t file_bytes = 0;  ///< size of model.h5
  List<CheckpointRecord> records;
  List<RangeDigest> digests;  ///< each record's tile it: ordered by record and begin
};

/// The manifest as lines of text for people, the last of which is the CRC-32C of the others.
std::string manifest_text(const Manifest& manifest);

/// Reads back what manifest_text wrote, and nothing else: throws Error, beginning with `place`, for
/// a wrong CRC, another format version, any line it would not have written, records that repeat,
/// overlap or leave the file, and digests that do not tile them. Allocates no more than a small
/// multiple of the text.
Manifest parse_manifest(const std::string& bytes, const std::string& place);

/// Throws Error, beginning with `place`, for impossible names and for records or digests that
/// contradict each other, as above.
void check_manifest(const Manifest& manifest, const std::string& place);

}  // namespace weir
