#include "common/net/messages.hpp"

#include <cereal/archives/portable_binary.hpp>
#include <sstream>
#include <streambuf>

#include "common/base/error.hpp"

namespace weir {

namespace {

/// Lets a stream read bytes where they lie.
class ByteSource : public std::streambuf {
 public:
  explicit ByteSource(std::span<const std::byte> bytes) {
    // std::streambuf takes no const, but input alone never writes.
    char* begin = const_cast<char*>(reinterpret_cast<const char*>(bytes.data()));
    setg(begin, begin, begin + bytes.size());
  }
  std::uint64_t remaining() const { return static_cast<std::uint64_t>(egptr() - gptr()); }
};

class Writer {
 public:
  template <class... Values>
  void operator()(const Values&... values) {
    (one(values), ...);
  }
  std::vector<std::byte> bytes() const {
    const std::string written = stream_.str();
    const auto all = std::as_bytes(std::span(written));
    return {all.begin(), all.end()};
  }

 private:
  void one(const index_t& value) { archive_(value); }
  void one(const double& value) { archive_(value); }
  void one(const bool& value) { archive_(std::uint8_t{value}); }
  void one(const SkipReason& value) { archive_(static_cast<std::uint8_t>(value)); }
  void one(const std::string& value) {
    archive_(std::uint64_t{value.size()});
    archive_(cereal::binary_data(value.data(), value.size()));
  }
  void one(const SavedRange& range) { (*this)(range.record, range.begin, range.end, range.crc); }
  void one(const Release& release) { (*this)(release.replica, release.step, release.cursor); }
  void one(const ServerTime& time) { (*this)(time.seconds, time.busy_seconds); }
  template <class Value>
  void one(const std::vector<Value>& values) {
    archive_(std::uint64_t{values.size()});
    for (const Value& value : values) one(value);
  }

  std::ostringstream stream_;
  cereal::PortableBinaryOutputArchive archive_{stream_};
};

/// Never lets cereal read a container: it allocates what a length says before it looks for bytes.
class Reader {
 public:
  explicit Reader(std::span<const std::byte> bytes) : source_(bytes) {}
  template <class... Values>
  void operator()(Values&... values) {
    (one(values), ...);
  }
  std::uint64_t remaining() const { return source_.remaining(); }

 private:
  void one(index_t& value) { archive_(value); }
  void one(double& value) { archive_(value); }
  void one(bool& value) { value = byte_below(2, "a truth value") != 0; }
  void one(SkipReason& value) {
    constexpr auto kLast = static_cast<std::uint8_t>(SkipReason::rollback);
    value = static_cast<SkipReason>(byte_below(kLast + 1, "a reason to skip"));
  }
  void one(SavedRange& range) { (*this)(range.record, range.begin, range.end, range.crc); }
  void one(Release& release) { (*this)(release.replica, release.step, release.cursor); }
  void one(ServerTime& time) { (*this)(time.seconds, time.busy_seconds); }
  void one(std::string& value) {
    value.resize(count_of(1));
    archive_(cereal::binary_data(value.data(), value.size()));
  }
  template <class Value>
  void one(std::vector<Value>& values) {
    values.resize(count_of(sizeof(Value)));
    for (Value& value : values) one(value);
  }
  /// Of elements that take so many bytes each (on the wire as in memory).
  std::uint64_t count_of(std::size_t element_bytes) {
    std::uint64_t count = 0;
    archive_(count);
    if (count > source_.remaining() / element_bytes) {
      throw Error(
          text("a count of ", count, " elements, but only ", source_.remaining(), " bytes follow"));
    }
    return count;
  }
  std::uint8_t byte_below(std::uint8_t end, const char* what) {
    std::uint8_t byte = 0;
    archive_(byte);
    if (byte >= end) throw Error(text(int{byte}, " is not ", what));
    return byte;
  }

  ByteSource source_;
  std::istream stream_{&source_};
  cereal::PortableBinaryInputArchive archive_{stream_};
};

/// The fields of a message on the wire: once, for both directions.
template <class Message>
struct Wire;

template <>
struct Wire<Report> {
  static constexpr const char* kName = "report";
  static void visit(auto& each, auto& m) {
    each(m.step, m.replica, m.context, m.loss_sum, m.count, m.seconds);
  }
};

template <>
struct Wire<Arrival> {
  static constexpr const char* kName = "arrival";
  static void visit(auto& each, auto& m) { each(m.server, m.replica); }
};

template <>
struct Wire<Close> {
  static constexpr const char* kName = "list of contributors";
  static void visit(auto& each, auto& m) { each(m.update, m.replicas); }
};

template <>
struct Wire<Partials> {
  static constexpr const char* kName = "sums of squares";
  static void visit(auto& each, auto& m) { each(m.update, m.server, m.time, m.squares); }
};

template <>
struct Wire<Directive> {
  static constexpr const char* kName = "directive";
  static void visit(auto& each, auto& m) {
    each(m.update, m.contributors, m.dropped, m.released, m.again, m.shares, m.step, m.cursor,
         m.factor, m.factors, m.rate, m.loss, m.count, m.norm, m.layer_norms, m.threshold,
         m.coefficient, m.clipped, m.skip, m.skipped_count, m.dropped_count, m.staleness,
         m.server_times, m.keep, m.checkpoint, m.stop);
  }
};

template <>
struct Wire<DirectionPartials> {
  static constexpr const char* kName = "sums of squares of directions";
  static void visit(auto& each, auto& m) { each(m.update, m.server, m.weights, m.directions); }
};

template <>
struct Wire<TrustRatios> {
  static constexpr const char* kName = "trust ratios";
  static void visit(auto& each, auto& m) { each(m.update, m.ratios); }
};

template <>
struct Wire<SaveBegin> {
  static constexpr const char* kName = "begin of a checkpoint";
  static void visit(auto& each, auto& m) { each(m.step, m.offsets); }
};

template <>
struct Wire<SavePrepared> {
  static constexpr const char* kName = "part of a checkpoint";
  static void visit(auto& each, auto& m) { each(m.step, m.server, m.error, m.ranges); }
};

template <>
struct Wire<SaveEnd> {
  static constexpr const char* kName = "end of a checkpoint";
  static void visit(auto& each, auto& m) { each(m.step, m.error); }
};

template <class Message>
std::vector<std::byte> write(const Message& message) {
  Writer writer;
  Wire<Message>::visit(writer, message);
  return writer.bytes();
}

}  // namespace

std::vector<std::byte> to_bytes(const Report& message) { return write(message); }
std::vector<std::byte> to_bytes(const Arrival& message) { return write(message); }
std::vector<std::byte> to_bytes(const Close& message) { return write(message); }
std::vector<std::byte> to_bytes(const Partials& message) { return write(message); }
std::vector<std::byte> to_bytes(const Directive& message) { return write(message); }
std::vector<std::byte> to_bytes(const DirectionPartials& message) { return write(message); }
std::vector<std::byte> to_bytes(const TrustRatios& message) { return write(message); }
std::vector<std::byte> to_bytes(const SaveBegin& message) { return write(message); }
std::vector<std::byte> to_bytes(const SavePrepared& message) { return write(message); }
std::vector<std::byte> to_bytes(const SaveEnd& message) { return write(message); }

template <class Message>
Message from_bytes(std::span<const std::byte> bytes) {
  const auto refuse = [&](std::string_view why) {
    return Error(text("reading a ", Wire<Message>::kName, " of ", bytes.size(), " bytes: ", why,
                      "; do all ranks run the same program?"));
  };
  Message message;
  try {
    Reader reader(bytes);
    Wire<Message>::visit(reader, message);
    if (reader.remaining() > 0) {
      throw Error(text(reader.remaining(), " bytes are left over"));
    }
  } catch (const cereal::Exception&) {
    throw refuse("it ends too early");
  } catch (const Error& error) {
    throw refuse(error.what());
  }
  return message;
}

template Report from_bytes<Report>(std::span<const std::byte>);
template Arrival from_bytes<Arrival>(std::span<const std::byte>);
template Close from_bytes<Close>(std::span<const std::byte>);
template Partials from_bytes<Partials>(std::span<const std::byte>);
template Directive from_bytes<Directive>(std::span<const std::byte>);
template DirectionPartials from_bytes<DirectionPartials>(std::span<const std::byte>);
template TrustRatios from_bytes<TrustRatios>(std::span<const std::byte>);
template SaveBegin from_bytes<SaveBegin>(std::span<const std::byte>);
template SavePrepared from_bytes<SavePrepared>(std::span<const std::byte>);
template SaveEnd from_bytes<SaveEnd>(std::span<const std::byte>);

}  // namespace weir
