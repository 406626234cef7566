#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "common/base/attribute.hpp"
#include "common/base/list.hpp"
#include "common/io/file.hpp"
#include "common/io/folder_lock.hpp"
#include "common/io/manifest.hpp"

namespace weir {

/// A checkpoint is a folder `step-00001200` with model.h5, which any HDF5 tool reads, and MANIFEST,
/// which says that it is complete. It is made under the name `.tmp-step-00001200`:
///
///   server 0       begin_checkpoint: the folder, model.h5 without data, room on the disk
///   every server   CheckpointWriter: its own ranges, their digests, fsync
///   server 0       commit_checkpoint, once all have finished: MANIFEST, fsync, the final name
///
/// If a process dies or the power fails at any moment, the committed checkpoints stay as they were.
/// After an Error at any moment, abandon_checkpoint cleans up and training may go on.
fs::path checkpoint_folder(const fs::path& checkpoints, index_t step);

/// About how many bytes a checkpoint with these tensors takes on the disk.
index_t checkpoint_bytes(const List<CheckpointRecord>& records);

/// Sets the records' offsets. What an earlier attempt at this step has left is removed. model.h5
/// gets `attributes`, what a reader of it alone must know; `format.version` and `step` join them.
void begin_checkpoint(FileSystem& files, const fs::path& checkpoints, index_t step,
                      List<CheckpointRecord>& records, std::vector<Attribute> attributes = {});

/// Writes ranges of elements into the checkpoint that was begun.
class CheckpointWriter {
 public:
  /// `records` as begin_checkpoint left them.
  CheckpointWriter(FileSystem& files, const fs::path& checkpoints, index_t step,
                   List<CheckpointRecord> records);
  /// The elements of a record from `begin` on. Every element is written once, by one server.
  void write(index_t record, index_t begin, std::span<const float> values);
  /// Brings everything to the disk. Returns the digests of what was written.
  List<RangeDigest> finish();

 private:
  FileSystem& files_;
  List<CheckpointRecord> records_;
  File file_;
  List<RangeDigest> digests_;
};

/// `manifest` has all but file_bytes; digests of all servers, in any order, cover every record. A
/// checkpoint of this step that exists already is replaced. The claim is checked before each of the
/// two renames that commit.
void commit_checkpoint(FileSystem& files, const fs::path& checkpoints, Manifest manifest,
                       const Claim& claim = {});

/// Removes what begin_checkpoint has made.
void abandon_checkpoint(FileSystem& files, const fs::path& checkpoints, index_t step);

/// Gives a checkpoint its name back that a save was about to replace when it was killed, on a file
/// system that cannot exchange two names (NFS). For the start of a job, before it looks for the
/// newest.
void restore_replaced(FileSystem& files, const fs::path& checkpoints);

/// Removes what saves have left unfinished.
void remove_leftovers(FileSystem& files, const fs::path& checkpoints);

/// Removes old checkpoints and what saves have left unfinished. The newest `keep` up to `step`,
/// which has just been committed, stay, and so do the first one of each `keep_every` steps, if that
/// is not 0, and the best one (read_best). Checkpoints of more steps stay: the run was resumed from
/// before them. A checkpoint whose MANIFEST or size is wrong is not one of the `keep`; the data are
/// not read for this. Throws Error if something cannot be read or removed.
void remove_old_checkpoints(FileSystem& files, const fs::path& checkpoints, index_t step,
                            index_t keep, index_t keep_every = 0);

/// The same for checkpoints that belong to those in the folder `of`, step for step, and are
/// committed before them; the one of `step` has just been committed. Removes those whose
/// counterpart in `of` is gone. Those of more steps than the newest complete one in `of` stay:
/// their counterparts may still be on their way.
void remove_checkpoints_beside(FileSystem& files, const fs::path& checkpoints, index_t step,
                               const fs::path& of);

/// The folders of checkpoints, complete or damaged, those with most steps first; none if there is
/// no such folder.
std::map<index_t, fs::path, std::greater<>> checkpoints_in(const fs::path& checkpoints);

/// The checkpoint with the most steps that is whole: MANIFEST, size and the digests of all data,
/// which are read for this. Nothing if none was ever committed. What is damaged is skipped with a
/// warning. Throws Error if there are some but all are damaged, since only the user may decide to
/// start anew in their place; and if one cannot be read for another reason, since it may be whole.
std::optional<fs::path> newest_complete(const fs::path& checkpoints);

/// Whether the folder holds a MANIFEST. Throws FileError if this user may not look.
bool is_checkpoint(const fs::path& folder);

/// Whether an Error from reading a checkpoint means that it is damaged or incomplete, and not that
/// it cannot be read here, now or by this user.
bool means_damage(const Error& error);

/// The manifest of a checkpoint's folder, checked.
Manifest read_manifest(const fs::path& folder);

/// Reads the tensors of a checkpoint, and checks the digests of all it reads. HDF5 takes no part: a
/// damaged file can do no worse than to be refused. Opening throws Error for a file that is
/// truncated or not HDF5; reading, with record and elements, for one that is damaged.
class CheckpointReader {
 public:
  explicit CheckpointReader(const fs::path& folder);

  const Manifest& manifest() const { return manifest_; }
  /// The index of a record.
  std::optional<index_t> find(const std::string& name) const;
  /// The elements of a record from `begin` on.
  void read(index_t record, index_t begin, std::span<float> out) const;
  /// Reads everything for the digests alone.
  void verify() const;

 private:
  Manifest manifest_;
  File file_;
};

}  // namespace weir
