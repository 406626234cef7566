#include "common/net/part_exchange.hpp"

#include <algorithm>
#include <exception>
#include <map>
#include <thread>
#include <utility>

#include "common/base/activity.hpp"
#include "common/base/error.hpp"
#include "common/base/list.hpp"
#include "common/base/log.hpp"
#include "common/net/agree.hpp"
#include "common/net/window.hpp"
#include "common/net/words.hpp"
#include "common/number/memory.hpp"

namespace weir {
namespace {

using Bytes = std::span<std::byte>;
using ConstBytes = std::span<const std::byte>;

/// The bytes of parts of one matrix.
struct PartSizes {
  index_t bytes = 0;
  index_t rows = 0;
  int ranks = 1;

  Interval of(int rank) const {
    const Interval part = even_part(rows, rank, ranks);
    const index_t row_bytes = rows > 0 ? bytes / rows : 0;
    return {part.begin * row_bytes, part.end * row_bytes};
  }
  template <class Span>
  Span part(Span matrix, int rank) const {
    const Interval bytes_of_part = of(rank);
    return matrix.subspan(bytes_of_part.begin, bytes_of_part.count());
  }
};

/// How the ranks of a group wait for each other. They are in lock-step, so that a wait is short:
/// it stays awake, but lets others have the core.
class LockStep {
 public:
  LockStep(const Comm& comm, std::function<bool()> progress_elsewhere)
      : peer_(comm.size() == 2 ? comm.rank_in_job(1 - comm.rank()) : kSeveralRanks),
        progress_elsewhere_(std::move(progress_elsewhere)) {}

  template <class Done>
  void wait(const Done& done) const {
    if (done()) return;
    const Waiting waiting("a sum over ranks", peer_);
    while (!done()) {
      if (progress_elsewhere_ && progress_elsewhere_()) note_move();
      std::this_thread::yield();
    }
  }

 private:
  int peer_;
  std::function<bool()> progress_elsewhere_;
};

/// Each rank copies what it gives to its own part of a window, and the others read it there.
///
/// A swap needs one meeting. Two halves of the part are used in turn: whoever has met the others in
/// a swap knows that they have read what the swap before it left in the other half.
class WindowExchange final : public PartExchange {
 public:
  WindowExchange(const Comm& comm, index_t bytes, std::function<bool()> progress_elsewhere)
      : comm_(comm),
        lock_step_(comm, std::move(progress_elsewhere)),
        half_bytes_(round_up(bytes, kPageBytes)),
        window_(comm, kPageBytes + 2 * half_bytes_) {}

  void start_scatter(ConstBytes matrix, index_t rows) override {
    offer(matrix, 0);
    sizes_ = {std::ssize(matrix), rows, comm_.size()};
  }

  std::span<const ConstBytes> finish_scatter() override {
    meet();
    parts_.clear();
    for (int rank = 0; rank < comm_.size(); ++rank) {
      parts_.push_back(sizes_.part(half_of(rank), comm_.rank()));
    }
    return parts_;
  }

  void gather(Bytes matrix, index_t rows) override {
    const PartSizes sizes{std::ssize(matrix), rows, comm_.size()};
    offer(sizes.part(matrix, comm_.rank()), sizes.of(comm_.rank()).begin);
    meet();
    for (int rank = 0; rank < comm_.size(); ++rank) {
      if (rank == comm_.rank()) continue;
      std::ranges::copy(sizes.part(half_of(rank), rank), sizes.part(matrix, rank).begin());
    }
  }

  void progress() override {}

 private:
  WindowLine& line(int rank) const {
    return *reinterpret_cast<WindowLine*>(window_.part(rank).data());
  }
  Bytes half_of(int rank) const {
    return window_.part(rank).subspan(kPageBytes + swaps_ % 2 * half_bytes_, half_bytes_);
  }
  void offer(ConstBytes bytes, index_t at) {
    ++swaps_;
    WEIR_ASSERT(at + std::ssize(bytes) <= half_bytes_);
    std::ranges::copy(bytes, half_of(comm_.rank()).begin() + at);
    line(comm_.rank()).offered.store(swaps_, std::memory_order_release);
  }
  void meet() const {
    for (int rank = 0; rank < comm_.size(); ++rank) {
      lock_step_.wait([&] { return line(rank).offered.load(std::memory_order_acquire) >= swaps_; });
    }
  }

  const Comm& comm_;
  LockStep lock_step_;
  index_t half_bytes_;
  SharedWindow window_;
  index_t swaps_ = 0;  ///< started so far
  PartSizes sizes_;
  List<ConstBytes> parts_;
};

/// Each part goes straight to the rank that it belongs to.
class MessageExchange final : public PartExchange {
 public:
  MessageExchange(const Comm& comm, index_t bytes, std::function<bool()> progress_elsewhere)
      : comm_(comm),
        lock_step_(comm, std::move(progress_elsewhere)),
        outgoing_(bytes, 1),
        incoming_(bytes, 1) {}
  ~MessageExchange() override {
    WEIR_ASSERT(running_ == nullptr || std::uncaught_exceptions() > 0);
  }

  void start_scatter(ConstBytes matrix, index_t rows) override {
    sizes_ = {std::ssize(matrix), rows, comm_.size()};
    WEIR_ASSERT(std::ssize(matrix) <= outgoing_.bytes());
    std::ranges::copy(matrix, outgoing_.data());
    start(Swap::scatter);
  }

  std::span<const ConstBytes> finish_scatter() override {
    finish();
    parts_.clear();
    for (int rank = 0; rank < comm_.size(); ++rank) {
      const ConstBytes own = sizes_.part(outgoing(), rank);
      parts_.push_back(rank == comm_.rank() ? own : ConstBytes(arriving(Swap::scatter, rank)));
    }
    return parts_;
  }

  void gather(Bytes matrix, index_t rows) override {
    sizes_ = {std::ssize(matrix), rows, comm_.size()};
    const ConstBytes own = sizes_.part(matrix, comm_.rank());
    WEIR_ASSERT(std::ssize(matrix) <= outgoing_.bytes());
    std::ranges::copy(own, outgoing_.data() + sizes_.of(comm_.rank()).begin);
    start(Swap::gather);
    finish();
    for (int rank = 0; rank < comm_.size(); ++rank) {
      if (rank == comm_.rank()) continue;
      std::ranges::copy(arriving(Swap::gather, rank), sizes_.part(matrix, rank).begin());
    }
  }

  void progress() override {
    if (running_ == nullptr) return;
    int ended = 0;
    check_mpi(MPI_Testall(static_cast<int>(running_->raw.size()), running_->raw.data(), &ended,
                          running_->statuses.data()),
              kDoing);
    if (ended == 0) return;
    for (index_t at = 0; at < running_->received.size(); ++at) {
      MPI_Count bytes = 0;
      check_mpi(MPI_Get_elements_x(&running_->statuses[at], MPI_BYTE, &bytes), kDoing);
      if (bytes == running_->received[at]) continue;
      throw Error(text(kDoing, ": ", bytes, " bytes came instead of ", running_->received[at],
                       "; do all ranks run the same program with the same configuration?"));
    }
    running_ = nullptr;
    note_move();
  }

 private:
  static constexpr const char* kDoing = "swapping parts with a group of ranks";
  enum class Swap { scatter, gather };

  /// What moves in swaps of one kind and size: receives, then sends.
  struct Transfers {
    List<Request> requests;
    List<MPI_Request> raw;
    List<MPI_Status> statuses;
    List<index_t> received;  ///< bytes
  };

  Bytes outgoing() const { return {outgoing_.data(), static_cast<std::size_t>(sizes_.bytes)}; }
  /// Where what `rank` sends arrives.
  Bytes arriving(Swap swap, int rank) const {
    if (swap == Swap::gather) {
      const Interval part = sizes_.of(rank);
      return {incoming_.data() + part.begin, static_cast<std::size_t>(part.count())};
    }
    const index_t own = sizes_.of(comm_.rank()).count();
    const int place = rank < comm_.rank() ? rank : rank - 1;
    return {incoming_.data() + place * own, static_cast<std::size_t>(own)};
  }

  Transfers make(Swap swap) const {
    Transfers made;
    const int size = comm_.size();
    const auto add = [&](auto init, Bytes bytes, int peer) {
      const Words words(bytes.size());
      MPI_Request raw = MPI_REQUEST_NULL;
      check_mpi(init(bytes.data(), words.count, words.type, peer, static_cast<int>(swap),
                     comm_.raw(), &raw),
                kDoing);
      made.requests.emplace_back(raw);
    };
    for (int step = 1; step < size; ++step) {
      const int from = (comm_.rank() + size - step) % size;
      const Bytes bytes = arriving(swap, from);
      if (bytes.empty()) continue;
      made.received.push_back(std::ssize(bytes));
      add(MPI_Recv_init, bytes, from);
    }
    for (int step = 1; step < size; ++step) {
      const int to = (comm_.rank() + step) % size;
      const Bytes bytes = sizes_.part(outgoing(), swap == Swap::gather ? comm_.rank() : to);
      if (!bytes.empty()) add(MPI_Send_init, bytes, to);
    }
    for (const Request& request : made.requests) made.raw.push_back(request.get());
    made.statuses.resize(made.raw.size());
    return made;
  }

  void start(Swap swap) {
    WEIR_ASSERT(running_ == nullptr);
    // A row more or less in this rank's part shows as often as there are others.
    const index_t most = (comm_.size() - 1) * sizes_.of(comm_.rank()).count();
    if (swap == Swap::scatter && most > incoming_.bytes()) {
      transfers_.clear();
      incoming_ = Memory(most, 1);
    }
    const std::pair key(swap, std::pair(sizes_.bytes, sizes_.rows));
    auto found = transfers_.find(key);
    if (found == transfers_.end()) found = transfers_.emplace(key, make(swap)).first;
    if (found->second.raw.empty()) return;
    running_ = &found->second;
    check_mpi(MPI_Startall(static_cast<int>(running_->raw.size()), running_->raw.data()), kDoing);
  }

  void finish() {
    lock_step_.wait([&] {
      progress();
      return running_ == nullptr;
    });
  }

  const Comm& comm_;
  LockStep lock_step_;
  Memory outgoing_;
  Memory incoming_;
  PartSizes sizes_;
  std::map<std::pair<Swap, std::pair<index_t, index_t>>, Transfers> transfers_;
  Transfers* running_ = nullptr;
  List<ConstBytes> parts_;
};

}  // namespace

std::unique_ptr<PartExchange> make_part_exchange(const Comm& comm, index_t bytes, bool may_share,
                                                 std::function<bool()> progress_elsewhere) {
  const Comm host = comm.host();
  const bool on_one_host = comm.sum(index_t{host.size() == comm.size()}) == comm.size();
  if (may_share && on_one_host) {
    try {
      return std::make_unique<WindowExchange>(comm, bytes, progress_elsewhere);
    } catch (const AgreedError& error) {
      if (error.speaks()) {
        log_warning(text("sums over shards travel as messages on this host, which is slower: ",
                         error.what()));
      }
    }
  }
  return std::make_unique<MessageExchange>(comm, bytes, std::move(progress_elsewhere));
}

}  // namespace weir
