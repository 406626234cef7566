#include "common/net/messages.hpp"

#include <cereal/archives/portable_binary.hpp>
#include <optional>
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
  template <class Struct>
  void one(const Struct& value) {
    Struct::fields(*this, value);
  }
  template <class Value>
  void one(const List<Value>& values) {
    archive_(static_cast<std::uint64_t>(values.size()));
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
    constexpr auto kLast = static_cast<std::uint8_t>(SkipReason::overflow);
    value = static_cast<SkipReason>(byte_below(kLast + 1, "a reason to skip"));
  }
  template <class Struct>
  void one(Struct& value) {
    Struct::fields(*this, value);
  }
  void one(std::string& value) {
    value.resize(count_of(1));
    archive_(cereal::binary_data(value.data(), value.size()));
  }
  template <class Value>
  void one(List<Value>& values) {
    values.resize(count_of(sizeof(Value)));
    for (Value& value : values) one(value);
  }
  /// A count of elements of `element_bytes` bytes each (on the wire as in memory).
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

template <class Content>
Content read(std::span<const std::byte> bytes) {
  const auto refuse = [&](std::string_view why) {
    return Error(text("reading a ", Content::kName, " of ", bytes.size(), " bytes: ", why,
                      "; do all ranks run the same program?"));
  };
  Content content;
  try {
    Reader reader(bytes);
    Content::fields(reader, content);
    if (reader.remaining() > 0) {
      throw Error(text(reader.remaining(), " bytes are left over"));
    }
  } catch (const cereal::Exception&) {
    throw refuse("it ends too early");
  } catch (const Error& error) {
    throw refuse(error.what());
  }
  return content;
}

/// Reads as the one row of the table that has this kind.
template <class... Rows>
Message read_row(const MessageRows<Rows...>&, MessageKind kind, std::span<const std::byte> bytes) {
  std::optional<Message> message;
  const auto try_row = [&]<class Row>(const Row*) {
    if (Row::kKind == kind) message = read<typename Row::Content>(bytes);
  };
  (try_row(static_cast<const Rows*>(nullptr)), ...);
  if (!message) {
    throw Error(text("a control message has the kind ", static_cast<int>(kind),
                     ", which is none; do all ranks run the same program?"));
  }
  return std::move(*message);
}

}  // namespace

std::vector<std::byte> to_bytes(const Message& message) {
  Writer writer;
  std::visit([&]<class Content>(const Content& content) { Content::fields(writer, content); },
             message);
  return writer.bytes();
}

Message from_bytes(MessageKind kind, std::span<const std::byte> bytes) {
  return read_row(MessageTable(), kind, bytes);
}

}  // namespace weir
