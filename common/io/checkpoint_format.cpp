#include "common/io/checkpoint_format.hpp"

#include <algorithm>
#include <bit>
#include <cerrno>
#include <charconv>
#include <map>

#include "common/base/error.hpp"
#include "common/base/log.hpp"
#include "common/io/best_checkpoint.hpp"
#include "common/io/digest.hpp"
#include "common/io/hdf5.hpp"

namespace weir {
namespace {

static_assert(std::endian::native == std::endian::little, "the files are little-endian");

constexpr const char* kDataName = "model.h5";
constexpr const char* kManifestName = "MANIFEST";
constexpr std::string_view kFolderPrefix = "step-";
constexpr std::string_view kTemporaryPrefix = ".tmp-";
constexpr std::string_view kReplacedPrefix = ".old-";
constexpr index_t kManifestBytesMax = index_t{64} << 20;

std::string name_of(index_t step) {
  const std::string digits = text(step);
  constexpr std::size_t kDigits = 8;  // so that names sort like numbers
  return text(kFolderPrefix, std::string(kDigits - std::min(kDigits, digits.size()), '0'), digits);
}

fs::path temporary_folder(const fs::path& checkpoints, index_t step) {
  return checkpoints / text(kTemporaryPrefix, name_of(step));
}

std::optional<index_t> step_of(const std::string& folder_name) {
  if (!folder_name.starts_with(kFolderPrefix)) return std::nullopt;
  const char* const end = folder_name.data() + folder_name.size();
  index_t step = 0;
  const auto result = std::from_chars(folder_name.data() + kFolderPrefix.size(), end, step);
  if (result.ec != std::errc() || folder_name != name_of(step)) return std::nullopt;
  return step;
}

/// What a folder of checkpoints holds, by name alone.
struct CheckpointFolders {
  std::map<index_t, fs::path, std::greater<>> by_step;  ///< those with most steps first
  std::vector<fs::path> leftovers;                      ///< folders of saves that never ended
};

CheckpointFolders folders_in(const fs::path& checkpoints) {
  CheckpointFolders folders;
  std::error_code problem;
  for (const auto& entry : fs::directory_iterator(checkpoints, problem)) {
    const std::string name = entry.path().filename().string();
    if (const auto step = step_of(name)) {
      folders.by_step[*step] = entry.path();
    } else if (name.starts_with(text(kTemporaryPrefix, kFolderPrefix)) ||
               name.starts_with(text(kReplacedPrefix, kFolderPrefix))) {
      folders.leftovers.push_back(entry.path());
    }
  }
  if (problem) {
    throw FileError(
        text("cannot look for checkpoints in ", checkpoints.string(), ": ", problem.message()),
        problem.value());
  }
  return folders;
}

std::uint32_t crc_of(std::span<const float> values) { return crc32c(std::as_bytes(values)); }

/// Throws Error unless model.h5 begins as HDF5 and has the size that the manifest says.
void check_data_file(const fs::path& folder, const Manifest& manifest) {
  const fs::path path = folder / kDataName;
  const index_t size = File::open(path).size();
  if (size != manifest.file_bytes) {
    throw Error(text(path.string(), ": has ", size, " bytes, MANIFEST says ", manifest.file_bytes,
                     size < manifest.file_bytes ? ": truncated" : ""));
  }
  check_hdf5_signature(path);
}

/// Throws Error unless the folder's manifest is that of this step.
void check_step(const fs::path& folder, const Manifest& manifest, index_t step) {
  if (manifest.step == step) return;
  throw Error(text(folder.string(), ": MANIFEST is that of step ", manifest.step));
}

/// Whether MANIFEST and size are right. Throws Error if they cannot be read.
bool looks_complete(const fs::path& folder, index_t step) {
  try {
    const Manifest manifest = read_manifest(folder);
    check_step(folder, manifest, step);
    check_data_file(folder, manifest);
    return true;
  } catch (const Error& error) {
    if (!means_damage(error)) throw;
    return false;
  }
}

void write_manifest(FileSystem& files, const fs::path& folder, const Manifest& manifest) {
  const fs::path unfinished = folder / text(kManifestName, ".tmp");
  File file = files.create(unfinished);
  const std::string bytes = manifest_text(manifest);
  files.write(file, 0, std::as_bytes(std::span(bytes)));
  files.sync(file);
  files.close(std::move(file));
  files.rename(unfinished, folder / kManifestName);
  files.sync_folder(folder);
}

/// Gives `made` the name `target`, which may be taken.
void put_in_place(FileSystem& files, const fs::path& made, const fs::path& target) {
  if (!path_exists(target)) {
    files.rename(made, target);
    files.sync_folder(target.parent_path());
    return;
  }
  if (!files.exchange(made, target)) {
    // This file system cannot swap them in one step: for a moment an older checkpoint is the
    // newest.
    const fs::path old = target.parent_path() / text(kReplacedPrefix, target.filename().string());
    files.remove_all(old);
    files.rename(target, old);
    files.rename(made, target);
    files.sync_folder(target.parent_path());
    files.remove_all(old);
    return;
  }
  files.sync_folder(target.parent_path());
  files.remove_all(made);
}

/// Renames the folder before it is removed: a checkpoint is whole or does not count.
void remove_checkpoint(FileSystem& files, const fs::path& checkpoints, index_t step) {
  const fs::path leaving = temporary_folder(checkpoints, step);
  files.rename(checkpoints / name_of(step), leaving);
  files.remove_all(leaving);
}

}  // namespace

fs::path checkpoint_folder(const fs::path& checkpoints, index_t step) {
  return checkpoints / name_of(step);
}

index_t checkpoint_bytes(const List<CheckpointRecord>& records) {
  constexpr index_t kPage = 4096;  // each dataset begins on one
  index_t bytes = 4 * kPage;       // MANIFEST and HDF5's own
  for (const CheckpointRecord& record : records) {
    const index_t its = elements_of(record.shape) * index_t{sizeof(float)};
    bytes += (its + kPage - 1) / kPage * kPage;
  }
  return bytes;
}

namespace {

/// HDF5 does not make a call again that a signal has interrupted: so the file is made again.
void create_uninterrupted(FileSystem& files, const fs::path& file, List<Hdf5Dataset>& datasets,
                          const std::vector<Attribute>& attributes) {
  while (true) {
    try {
      return create_hdf5(file, datasets, attributes);
    } catch (const FileError& error) {
      if (error.number() != EINTR) throw;
      files.remove_all(file);
    }
  }
}

}  // namespace

void begin_checkpoint(FileSystem& files, const fs::path& checkpoints, index_t step,
                      List<CheckpointRecord>& records, std::vector<Attribute> attributes) {
  if (!path_exists(checkpoints)) {
    files.make_folder(checkpoints);
    files.sync_folder(fs::absolute(checkpoints).parent_path());
  }
  const fs::path folder = temporary_folder(checkpoints, step);
  files.remove_all(folder);
  files.make_folder(folder);
  List<Hdf5Dataset> datasets;
  for (const auto& record : records) {
    datasets.push_back({.path = record.name, .shape = record.shape});
    if (!record.layout.empty()) datasets.back().attributes = {{"layout", record.layout}};
  }
  attributes.push_back({"format.version", kCheckpointVersion});
  attributes.push_back({"step", step});
  create_uninterrupted(files, folder / kDataName, datasets, attributes);
  for (index_t i = 0; i < records.size(); ++i) records[i].offset = datasets[i].offset;
  File file = files.open_for_writing(folder / kDataName);
  files.preallocate(file, file.size());
  files.close(std::move(file));
}

CheckpointWriter::CheckpointWriter(FileSystem& files, const fs::path& checkpoints, index_t step,
                                   List<CheckpointRecord> records)
    : files_(files),
      records_(std::move(records)),
      file_(files.open_for_writing(temporary_folder(checkpoints, step) / kDataName)) {}

void CheckpointWriter::write(index_t record, index_t begin, std::span<const float> values) {
  const auto& target = records_[record];
  const auto end = begin + std::ssize(values);
  WEIR_ASSERT(begin >= 0 && end <= elements_of(target.shape));
  files_.write(file_, target.offset + begin * index_t{sizeof(float)}, std::as_bytes(values));
  for (index_t next = begin; next < end;) {
    const index_t stop = std::min(end, (next / kDigestElements + 1) * kDigestElements);
    const auto part = values.subspan(next - begin, stop - next);
    digests_.push_back({record, next, stop, crc_of(part)});
    next = stop;
  }
}

List<RangeDigest> CheckpointWriter::finish() {
  files_.sync(file_);
  files_.close(std::move(file_));
  return std::move(digests_);
}

void commit_checkpoint(FileSystem& files, const fs::path& checkpoints, Manifest manifest,
                       const Claim& claim) {
  const fs::path folder = temporary_folder(checkpoints, manifest.step);
  std::ranges::sort(manifest.digests, {}, [](const RangeDigest& digest) {
    return std::pair(digest.record, digest.begin);
  });
  manifest.file_bytes = File::open(folder / kDataName).size();
  check_manifest(manifest, folder.string());
  check_claim(claim);
  write_manifest(files, folder, manifest);
  check_claim(claim);
  put_in_place(files, folder, checkpoint_folder(checkpoints, manifest.step));
}

void abandon_checkpoint(FileSystem& files, const fs::path& checkpoints, index_t step) {
  files.remove_all(temporary_folder(checkpoints, step));
}

Manifest read_manifest(const fs::path& folder) {
  const fs::path path = folder / kManifestName;
  return parse_manifest(read_whole(path, kManifestBytesMax), path.string());
}

void restore_replaced(FileSystem& files, const fs::path& checkpoints) {
  if (!path_exists(checkpoints)) return;
  for (const fs::path& leftover : folders_in(checkpoints).leftovers) {
    const std::string name = leftover.filename().string();
    if (!name.starts_with(kReplacedPrefix)) continue;
    const fs::path target = checkpoints / name.substr(kReplacedPrefix.size());
    if (path_exists(target)) continue;
    files.rename(leftover, target);
    files.sync_folder(checkpoints);
  }
}

void remove_leftovers(FileSystem& files, const fs::path& checkpoints) {
  if (!path_exists(checkpoints)) return;
  for (const fs::path& leftover : folders_in(checkpoints).leftovers) files.remove_all(leftover);
}

void remove_old_checkpoints(FileSystem& files, const fs::path& checkpoints, index_t step,
                            index_t keep, index_t keep_every) {
  remove_leftovers(files, checkpoints);
  const auto best = read_best(checkpoints);
  const auto all = checkpoints_in(checkpoints);
  index_t kept = 0;
  for (auto at = all.begin(); at != all.end(); ++at) {
    const auto& [each, folder] = *at;
    if (each > step) continue;
    if (kept < keep) {
      if (looks_complete(folder, each)) ++kept;
      continue;
    }
    if (keep_every > 0) {
      const auto before = std::next(at);
      const index_t done = before == all.end() ? 0 : before->first / keep_every;
      if (each / keep_every > done) continue;
    }
    if (best && best->step == each) continue;
    remove_checkpoint(files, checkpoints, each);
  }
}

void remove_checkpoints_beside(FileSystem& files, const fs::path& checkpoints, index_t step,
                               const fs::path& of) {
  remove_leftovers(files, checkpoints);
  const auto fellows = checkpoints_in(of);
  const auto newest = std::ranges::find_if(fellows, [&](const auto& each) {
    return each.first <= step && looks_complete(each.second, each.first);
  });
  if (newest == fellows.end()) return;
  for (const auto& [each, folder] : checkpoints_in(checkpoints)) {
    if (each < newest->first && !fellows.contains(each)) {
      remove_checkpoint(files, checkpoints, each);
    }
  }
}

std::map<index_t, fs::path, std::greater<>> checkpoints_in(const fs::path& checkpoints) {
  if (!path_exists(checkpoints)) return {};
  return folders_in(checkpoints).by_step;
}

std::optional<fs::path> newest_complete(const fs::path& checkpoints) {
  if (!path_exists(checkpoints)) return std::nullopt;
  const auto [folders, leftovers] = folders_in(checkpoints);
  for (const fs::path& leftover : leftovers) {
    log_info(text(leftover.string(), " was never finished and does not count"));
  }
  std::string problems;
  for (const auto& [step, folder] : folders) {
    try {
      const CheckpointReader reader(folder);
      check_step(folder, reader.manifest(), step);
      reader.verify();
      if (!problems.empty()) log_warning(text("the newest checkpoint is now ", folder.string()));
      return folder;
    } catch (const Error& error) {
      if (!means_damage(error)) {
        throw Error(text(error.what(), "; ", folder.string(),
                         " may be whole: make it readable, or move it away to use an older one"));
      }
      log_warning(text("skipping a damaged checkpoint: ", error.what()));
      problems += text("\n  ", error.what());
    }
  }
  if (folders.empty()) return std::nullopt;
  throw Error(text("no checkpoint in ", checkpoints.string(),
                   " is complete; repair one, or start anew in another folder:", problems));
}

bool is_checkpoint(const fs::path& folder) { return path_exists(folder / kManifestName); }

bool means_damage(const Error& error) {
  const auto* const of_system = dynamic_cast<const FileError*>(&error);
  return of_system == nullptr || of_system->is_missing();
}

CheckpointReader::CheckpointReader(const fs::path& folder) : manifest_(read_manifest(folder)) {
  check_data_file(folder, manifest_);
  file_ = File::open(folder / kDataName);
}

std::optional<index_t> CheckpointReader::find(const std::string& name) const {
  const auto found = std::ranges::find(manifest_.records, name, &CheckpointRecord::name);
  if (found == manifest_.records.end()) return std::nullopt;
  return found - manifest_.records.begin();
}

void CheckpointReader::read(index_t record, index_t begin, std::span<float> out) const {
  const auto& source = manifest_.records[record];
  const auto end = begin + std::ssize(out);
  WEIR_ASSERT(begin >= 0 && end <= elements_of(source.shape));
  auto digest =
      std::ranges::upper_bound(manifest_.digests, std::pair(record, begin), {},
                               [](const RangeDigest& d) { return std::pair(d.record, d.begin); });
  if (begin < end) --digest;  // digests tile the record: the one before holds `begin`
  List<float> whole;
  for (index_t next = begin; next < end; ++digest) {
    const index_t stop = std::min(end, digest->end);
    const auto part = out.subspan(next - begin, stop - next);
    // Only whole ranges can be checked: one that is needed in part is read whole beside `out`.
    const bool is_whole = next == digest->begin && stop == digest->end;
    if (!is_whole) whole.resize(digest->end - digest->begin);
    const std::span<float> range = is_whole ? part : std::span(whole);
    file_.read(source.offset + digest->begin * index_t{sizeof(float)},
               std::as_writable_bytes(range));
    if (const auto crc = crc_of(range); crc != digest->crc) {
      throw Error(text(file_.path().string(), ": ", source.name, " is damaged in the elements ",
                       digest->begin, " to ", digest->end - 1, " (CRC-32C ", hexadecimal(crc),
                       ", MANIFEST says ", hexadecimal(digest->crc),
                       "); take an older checkpoint"));
    }
    if (!is_whole) {
      const auto first = whole.begin() + (next - digest->begin);
      std::copy_n(first, part.size(), part.begin());
    }
    next = stop;
  }
}

void CheckpointReader::verify() const {
  List<float> scratch(kDigestElements);
  for (const auto& digest : manifest_.digests) {
    read(digest.record, digest.begin, std::span(scratch).first(digest.end - digest.begin));
  }
}

}  // namespace weir
