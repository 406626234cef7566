#include "common/net/mpi.hpp"

#include <cstdio>
#include <cstdlib>
#include <exception>
#include <iostream>
#include <limits>
#include <type_traits>

#include "common/base/activity.hpp"
#include "common/base/error.hpp"
#include "common/base/list.hpp"
#include "common/base/wait.hpp"

namespace weir {

namespace {

constexpr index_t kLongestBroadcast = index_t{64} << 20;
// What a rank waits for in a collective (Need::what).
constexpr const char* kAllRanks = "all ranks";
constexpr const char* kNewGroup = "a group of ranks";
constexpr const char* kNeighbours = "its neighbours";
constexpr index_t kLongestReduction = index_t{1} << 28;  // elements a call: counts of MPI are int

bool mpi_runs() {
  int initialized = 0, finalized = 0;
  MPI_Initialized(&initialized);
  MPI_Finalized(&finalized);
  return initialized && !finalized;
}

template <class T>
MPI_Datatype type_of();
template <>
MPI_Datatype type_of<double>() {
  return MPI_DOUBLE;
}
template <>
MPI_Datatype type_of<index_t>() {
  return MPI_INT64_T;
}

bool has_ended(MPI_Request& request, const char* doing) {
  int done = 0;
  check_mpi(MPI_Test(&request, &done, MPI_STATUS_IGNORE), doing);
  return done != 0;
}

/// Not MPI's own wait, which keeps the core busy.
void wait_for(MPI_Request request, const char* doing, const std::function<bool()>& progress = {}) {
  if (!progress) return wait_until([&] { return has_ended(request, doing); });
  wait_until([&] { return has_ended(request, doing); }, progress);
}

int message_size(const ConstVector& values) {
  WEIR_ASSERT(values.size() <= std::numeric_limits<int>::max());
  return static_cast<int>(values.size());
}

/// The type that moves such elements; nothing computes with it.
MPI_Datatype moved_as(Dtype dtype) { return bytes_of(dtype) == 4 ? MPI_UINT32_T : MPI_UINT16_T; }

template <class T>
void reduce(std::span<T> values, MPI_Op operation, MPI_Comm comm, const char* doing, int peer,
            const std::function<bool()>& progress = {}) {
  const Waiting waiting("a sum over ranks", peer);
  for (std::size_t begin = 0; begin < values.size(); begin += kLongestReduction) {
    const auto part =
        values.subspan(begin, std::min<std::size_t>(values.size() - begin, kLongestReduction));
    const int count = static_cast<int>(part.size());
    if constexpr (std::is_same_v<T, float>) {
      check_mpi(MPI_Allreduce(MPI_IN_PLACE, part.data(), count, MPI_FLOAT, operation, comm), doing);
    } else {
      MPI_Request request = MPI_REQUEST_NULL;
      check_mpi(
          MPI_Iallreduce(MPI_IN_PLACE, part.data(), count, type_of<T>(), operation, comm, &request),
          doing);
      wait_for(request, doing, progress);
    }
  }
}

}  // namespace

void check_mpi(int code, const char* doing) {
  if (code == MPI_SUCCESS) return;
  char reason[MPI_MAX_ERROR_STRING];
  int length = 0;
  MPI_Error_string(code, reason, &length);
  throw Error(text("MPI: ", doing, ": ", std::string_view(reason, length)));
}

bool started_by_mpi_launcher() {
  for (const char* name : {"OMPI_COMM_WORLD_SIZE", "PMIX_RANK", "PMI_RANK"}) {
    if (std::getenv(name) != nullptr) return true;
  }
  return false;
}

int launcher_rank() {
  for (const char* name : {"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK"}) {
    if (const char* const rank = std::getenv(name)) return std::atoi(rank);
  }
  return 0;
}

void abort_job(int exit_code) {
  std::cout.flush();
  std::cerr.flush();
  std::fflush(nullptr);
  if (mpi_runs()) MPI_Abort(MPI_COMM_WORLD, exit_code);
  std::_Exit(exit_code);
}

Session::Session(int& argument_count, char**& arguments) {
  // MPI looks for accelerators, and an OpenCL runtime would take SIGUSR1 away from this process.
  setenv("HWLOC_COMPONENTS", "-opencl", 0);
  int granted = 0;
  check_mpi(MPI_Init_thread(&argument_count, &arguments, MPI_THREAD_FUNNELED, &granted),
            "starting MPI");
  if (granted < MPI_THREAD_FUNNELED) {
    throw Error(
        "starting MPI: this MPI library allows no helper threads (MPI_THREAD_FUNNELED); "
        "use one that was built with threads");
  }
  check_mpi(MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN), "setting error handling");
}

Session::~Session() {
  if (std::uncaught_exceptions() == 0) MPI_Finalize();
}

void CommTraits::release(Raw raw) {
  if (std::uncaught_exceptions() == 0 && mpi_runs()) MPI_Comm_free(&raw);
}

void RequestTraits::release(Raw raw) {
  if (mpi_runs()) MPI_Request_free(&raw);
}

Comm::Comm(MPI_Comm raw) : handle_(raw) {
  if (raw == MPI_COMM_NULL) return;
  check_mpi(MPI_Comm_set_errhandler(raw, MPI_ERRORS_RETURN), "setting error handling");
  check_mpi(MPI_Comm_rank(raw, &rank_), "asking for the rank");
  check_mpi(MPI_Comm_size(raw, &size_), "asking for the number of ranks");
  peer_ = size_ == 2 ? rank_in_job(1 - rank_) : kSeveralRanks;
}

int Comm::rank_in_job(int rank) const {
  if (rank < 0 || rank >= size_) return kNobody;  // the call that it is for says what is wrong
  constexpr const char* kDoing = "asking for a rank of the job";
  MPI_Group group = MPI_GROUP_NULL, all = MPI_GROUP_NULL;
  int found = MPI_UNDEFINED;
  check_mpi(MPI_Comm_group(raw(), &group), kDoing);
  check_mpi(MPI_Comm_group(MPI_COMM_WORLD, &all), kDoing);
  check_mpi(MPI_Group_translate_ranks(group, 1, &rank, all, &found), kDoing);
  MPI_Group_free(&group);
  MPI_Group_free(&all);
  return found;
}

Comm Comm::world() {
  MPI_Comm raw = MPI_COMM_NULL;
  check_mpi(MPI_Comm_dup(MPI_COMM_WORLD, &raw), "duplicating the world");
  return Comm(raw);
}

Comm Comm::split(std::optional<int> color, int key) const {
  WEIR_ASSERT(!color || *color >= 0);
  const Waiting waiting(kNewGroup, peer_);
  MPI_Comm raw = MPI_COMM_NULL;
  check_mpi(MPI_Comm_split(this->raw(), color.value_or(MPI_UNDEFINED), key, &raw),
            "splitting a group of ranks");
  return Comm(raw);
}

Comm Comm::duplicate() const {
  const Waiting waiting(kNewGroup, peer_);
  MPI_Comm raw = MPI_COMM_NULL;
  check_mpi(MPI_Comm_dup(this->raw(), &raw), "duplicating a group of ranks");
  return Comm(raw);
}

Comm Comm::host() const {
  const Waiting waiting(kNewGroup, peer_);
  MPI_Comm raw = MPI_COMM_NULL;
  check_mpi(MPI_Comm_split_type(this->raw(), MPI_COMM_TYPE_SHARED, rank_, MPI_INFO_NULL, &raw),
            "finding the ranks of this host");
  return Comm(raw);
}

void Comm::barrier() const {
  const Waiting waiting(kAllRanks, peer_);
  MPI_Request request = MPI_REQUEST_NULL;
  check_mpi(MPI_Ibarrier(raw(), &request), "waiting for all ranks");
  wait_for(request, "waiting for all ranks");
}

void Comm::meet(const std::function<bool()>& progress) const {
  constexpr const char* kDoing = "waiting for all ranks";
  MPI_Request request = MPI_REQUEST_NULL;
  check_mpi(MPI_Ibarrier(raw(), &request), kDoing);
  const Waiting waiting(kAllRanks, peer_);
  while (!has_ended(request, kDoing)) {
    if (progress()) note_move();
  }
}

void Comm::broadcast(std::span<std::byte> bytes, int root) const {
  WEIR_ASSERT(bytes.size() <= std::size_t(std::numeric_limits<int>::max()));
  const Waiting waiting("what a rank tells all", root == rank_ ? peer_ : rank_in_job(root));
  check_mpi(MPI_Bcast(bytes.data(), static_cast<int>(bytes.size()), MPI_BYTE, root, raw()),
            "broadcasting");
}

std::string Comm::broadcast(std::string text, int root) const {
  index_t length = std::ssize(text);
  broadcast(std::as_writable_bytes(std::span(&length, 1)), root);
  if (length < 0 || length > kLongestBroadcast) {
    throw Error(weir::text("broadcast from rank ", root, ": ", length, " bytes, at most ",
                           kLongestBroadcast, " may be sent at once"));
  }
  text.resize(length);
  broadcast(std::as_writable_bytes(std::span(text)), root);
  return text;
}

void Comm::collect(std::string_view text, const std::function<void(std::string_view)>& take) const {
  constexpr const char* kDoing = "collecting texts";
  constexpr int kTag = 0;
  const auto piece_size = [](index_t length, index_t begin) {
    return static_cast<int>(std::min(length - begin, kLongestBroadcast));
  };
  if (rank_ > 0) {
    const Waiting waiting("its text to be collected", rank_in_job(0));
    const index_t length = std::ssize(text);
    check_mpi(MPI_Send(&length, 1, MPI_INT64_T, 0, kTag, raw()), kDoing);
    for (index_t begin = 0; begin < length; begin += kLongestBroadcast) {
      check_mpi(MPI_Send(text.data() + begin, piece_size(length, begin), MPI_BYTE, 0, kTag, raw()),
                kDoing);
      note_move();
    }
    return;
  }
  take(text);
  std::string piece;
  for (int rank = 1; rank < size_; ++rank) {
    const Waiting waiting("the text of a rank", rank_in_job(rank));
    index_t length = 0;
    check_mpi(MPI_Recv(&length, 1, MPI_INT64_T, rank, kTag, raw(), MPI_STATUS_IGNORE), kDoing);
    for (index_t begin = 0; begin < length; begin += kLongestBroadcast) {
      piece.resize(piece_size(length, begin));
      check_mpi(MPI_Recv(piece.data(), static_cast<int>(piece.size()), MPI_BYTE, rank, kTag, raw(),
                         MPI_STATUS_IGNORE),
                kDoing);
      take(piece);
      note_move();
    }
  }
}

void Comm::sum(std::span<float> values) const {
  reduce(values, MPI_SUM, raw(), "adding up", peer_);
}
void Comm::sum(std::span<double> values, const std::function<bool()>& progress) const {
  reduce(values, MPI_SUM, raw(), "adding up", peer_, progress);
}
void Comm::sum(std::span<index_t> values) const {
  reduce(values, MPI_SUM, raw(), "adding up", peer_);
}
void Comm::max(std::span<float> values) const {
  reduce(values, MPI_MAX, raw(), "maximizing", peer_);
}
void Comm::max(std::span<double> values) const {
  reduce(values, MPI_MAX, raw(), "maximizing", peer_);
}
void Comm::max(std::span<index_t> values) const {
  reduce(values, MPI_MAX, raw(), "maximizing", peer_);
}

void Comm::gather(ConstVector values, Vector all) const {
  WEIR_ASSERT(all.size() == values.size() * size_ && all.dtype() == values.dtype());
  const Waiting waiting(kNeighbours, peer_);
  const int count = message_size(values);
  const MPI_Datatype type = moved_as(values.dtype());
  check_mpi(
      MPI_Allgather(values.bytes().data(), count, type, all.bytes().data(), count, type, raw()),
      "gathering");
}

void Comm::exchange(ConstVector to_previous, ConstVector to_next, Vector from_previous,
                    Vector from_next) const {
  constexpr const char* kDoing = "exchanging with neighbours";
  constexpr int kTag = 0;
  const Waiting waiting(kNeighbours, peer_);
  List<MPI_Request> requests;
  const auto receive = [&](const Vector& values, int peer) {
    check_mpi(MPI_Irecv(values.bytes().data(), message_size(values), moved_as(values.dtype()), peer,
                        kTag, raw(), &requests.emplace_back()),
              kDoing);
  };
  const auto send = [&](const ConstVector& values, int peer) {
    check_mpi(MPI_Isend(values.bytes().data(), message_size(values), moved_as(values.dtype()), peer,
                        kTag, raw(), &requests.emplace_back()),
              kDoing);
  };
  const bool has_previous = rank_ > 0, has_next = rank_ + 1 < size_;
  if (has_previous) receive(from_previous, rank_ - 1);
  if (has_next) receive(from_next, rank_ + 1);
  if (has_previous) send(to_previous, rank_ - 1);
  if (has_next) send(to_next, rank_ + 1);
  check_mpi(MPI_Waitall(static_cast<int>(requests.size()), requests.data(), MPI_STATUSES_IGNORE),
            kDoing);
}

double Comm::sum(double value) const {
  sum(std::span(&value, 1));
  return value;
}
index_t Comm::sum(index_t value) const {
  sum(std::span(&value, 1));
  return value;
}
double Comm::max(double value) const {
  max(std::span(&value, 1));
  return value;
}
index_t Comm::max(index_t value) const {
  max(std::span(&value, 1));
  return value;
}

}  // namespace weir
