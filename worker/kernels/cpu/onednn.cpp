#include "worker/kernels/cpu/onednn.hpp"

#include <omp.h>

#include <bit>
#include <compare>
#include <dnnl.hpp>
#include <map>
#include <unordered_map>
#include <utility>
#include <vector>

#include "common/base/error.hpp"
#include "common/number/memory.hpp"

namespace weir::worker {
namespace {

using Format = dnnl::memory::format_tag;
using Layout = dnnl::memory::desc;
using Arguments = std::unordered_map<int, dnnl::memory>;

dnnl::memory::data_type type_of(Dtype dtype) {
  WEIR_ASSERT(dtype == Dtype::f32 || dtype == Dtype::bf16);
  return dtype == Dtype::f32 ? dnnl::memory::data_type::f32 : dnnl::memory::data_type::bf16;
}

Layout layout(index_t rows, index_t columns, Dtype dtype, Format format) {
  return {{rows, columns}, type_of(dtype), format};
}

/// A product and all that its primitive depends on.
struct ProductKey {
  bool a_is_transposed = false;
  bool has_bias = false;
  bool accumulates = false;
  index_t m = 0, n = 0, k = 0;
  Dtype in = Dtype::f32;
  Dtype out = Dtype::f32;
  auto operator<=>(const ProductKey&) const = default;
};

struct PackingKey {
  bool is_transposed = false;
  index_t k = 0, n = 0;
  Dtype dtype = Dtype::f32;
  auto operator<=>(const PackingKey&) const = default;
};

/// A primitive with the memory it works on, whose addresses are set for each call.
struct Primitive {
  dnnl::matmul matmul;
  dnnl::memory a, b, bias, out, scratch;
};

struct Packed {
  index_t k = 0, n = 0;
  Dtype dtype = Dtype::f32;
  Memory memory;
  dnnl::memory factor;
};

void set_address(const dnnl::memory& memory, const void* address) {
  memory.set_data_handle(const_cast<void*>(address));
}

template <class Byte>
const void* address_of(const MatrixOf<Byte>& matrix) {
  WEIR_ASSERT(matrix.kind() == MemoryKind::host);
  return matrix.flat().bytes().data();
}

/// oneDNN asks OpenMP how many threads there are, and OpenMP keeps a number for each thread.
class Threads {
 public:
  explicit Threads(int wanted) : before_(omp_get_max_threads()) {
    if (before_ != wanted) omp_set_num_threads(wanted);
    wanted_ = wanted;
  }
  ~Threads() {
    if (before_ != wanted_) omp_set_num_threads(before_);
  }
  Threads(const Threads&) = delete;
  Threads& operator=(const Threads&) = delete;

 private:
  int before_;
  int wanted_ = 0;
};

}  // namespace

struct OneDnn::State {
  int threads;
  dnnl::engine engine = {dnnl::engine::kind::cpu, 0};
  dnnl::stream stream = dnnl::stream(engine);
  std::map<ProductKey, Primitive> primitives = {};
  std::map<PackingKey, dnnl::reorder> packings = {};
  std::map<PackingKey, Layout> layouts = {};  ///< packed factors, never transposed
  std::vector<Packed> packed = {};
  Memory scratch = {};  ///< what the product at work needs

  dnnl::memory no_memory(const Layout& of) const { return {of, engine, nullptr}; }

  dnnl::matmul::primitive_desc describe(const ProductKey& key, const Layout& b) const {
    const Layout a = layout(key.m, key.k, key.in, key.a_is_transposed ? Format::ba : Format::ab);
    const Layout out = layout(key.m, key.n, key.out, Format::ab);
    dnnl::primitive_attr attributes;
    attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
    if (key.accumulates) {
      dnnl::post_ops sum;
      sum.append_sum(1.0F);
      attributes.set_post_ops(sum);
    }
    try {
      if (!key.has_bias) return {dnnl::matmul::desc(a, b, out), attributes, engine};
      const Layout bias = layout(1, key.n, Dtype::f32, Format::ab);
      return {dnnl::matmul::desc(a, b, bias, out), attributes, engine};
    } catch (const dnnl::error& error) {
      throw Error(text("oneDNN has no product of ", key.m, " x ", key.k, " and ", key.k, " x ",
                       key.n, " in ", name_of(key.in), ": ", error.what(),
                       "; take --products openblas"));
    }
  }

  const Layout& layout_of_packed(index_t k, index_t n, Dtype dtype) {
    const PackingKey key = {.k = k, .n = n, .dtype = dtype};
    const auto found = layouts.find(key);
    if (found != layouts.end()) return found->second;
    const ProductKey product = {.m = kStripRows, .n = n, .k = k, .in = dtype, .out = dtype};
    const Layout free = layout(k, n, dtype, Format::any);
    return layouts.emplace(key, describe(product, free).weights_desc()).first->second;
  }

  Primitive& primitive_of(const ProductKey& key, const Layout& b) {
    const auto found = primitives.find(key);
    if (found != primitives.end()) return found->second;
    const dnnl::matmul::primitive_desc description = describe(key, b);
    Primitive made = {.matmul = dnnl::matmul(description),
                      .a = no_memory(description.src_desc()),
                      .b = no_memory(b),
                      .bias = {},
                      .out = no_memory(description.dst_desc()),
                      .scratch = no_memory(description.scratchpad_desc())};
    if (key.has_bias) made.bias = no_memory(description.bias_desc());
    const auto scratch_bytes = static_cast<index_t>(description.scratchpad_desc().get_size());
    if (scratch_bytes > scratch.bytes()) scratch = Memory(scratch_bytes, 1);
    return primitives.emplace(key, std::move(made)).first->second;
  }

  void run(Primitive& product, const dnnl::memory& b) {
    set_address(product.scratch, scratch.data());
    Arguments arguments = {{DNNL_ARG_SRC, product.a},
                           {DNNL_ARG_WEIGHTS, b},
                           {DNNL_ARG_DST, product.out},
                           {DNNL_ARG_SCRATCHPAD, product.scratch}};
    if (product.bias) arguments.emplace(DNNL_ARG_BIAS, product.bias);
    product.matmul.execute(stream, arguments);
    stream.wait();
  }
};

OneDnn::OneDnn(index_t threads) : threads_(threads) {}
OneDnn::~OneDnn() = default;

OneDnn::State& OneDnn::state() {
  if (!state_) state_ = std::make_unique<State>(State{.threads = static_cast<int>(threads_)});
  return *state_;
}

Instructions OneDnn::instructions() {
  using Isa = dnnl::cpu_isa;
  const auto has = [](Isa isa) {
    // Each set is a superset of the weaker ones, as bits.
    const auto wanted = static_cast<unsigned>(isa);
    return (static_cast<unsigned>(dnnl::get_effective_cpu_isa()) & wanted) == wanted;
  };
  if (has(Isa::avx512_core_amx)) return Instructions::amx;
  if (has(Isa::avx512_core_bf16)) return Instructions::avx512_bf16;
  if (has(Isa::avx512_core)) return Instructions::avx512;
  if (has(Isa::avx2)) return Instructions::avx2;
  return Instructions::other;
}

index_t OneDnn::strip_of(index_t left) {
  if (left >= kStripRows) return kStripRows;
  return static_cast<index_t>(std::bit_floor(static_cast<std::uint64_t>(left)));
}

index_t OneDnn::packed_bytes(index_t k, index_t n, Dtype dtype) {
  const Threads threads(state().threads);
  return static_cast<index_t>(state().layout_of_packed(k, n, dtype).get_size());
}

index_t OneDnn::add_packed(index_t k, index_t n, Dtype dtype) {
  const Threads threads(state().threads);
  const Layout& form = state().layout_of_packed(k, n, dtype);
  Packed packed = {
      .k = k, .n = n, .dtype = dtype, .memory = Memory(packed_bytes(k, n, dtype), 1), .factor = {}};
  packed.factor = dnnl::memory(form, state().engine, packed.memory.data());
  state().packed.push_back(std::move(packed));
  return std::ssize(state().packed) - 1;
}

void OneDnn::pack(ConstMatrix b, bool is_transposed, index_t packed) {
  const Threads threads(state().threads);
  const Packed& to = state().packed[static_cast<std::size_t>(packed)];
  WEIR_ASSERT(b.dtype() == to.dtype && b.extent(is_transposed ? 1 : 0) == to.k &&
              b.extent(is_transposed ? 0 : 1) == to.n);
  const Layout plain = layout(to.k, to.n, to.dtype, is_transposed ? Format::ba : Format::ab);
  const PackingKey key = {.is_transposed = is_transposed, .k = to.k, .n = to.n, .dtype = to.dtype};
  auto packing = state().packings.find(key);
  if (packing == state().packings.end()) {
    const dnnl::reorder::primitive_desc description(state().engine, plain, state().engine,
                                                    to.factor.get_desc());
    packing = state().packings.emplace(key, dnnl::reorder(description)).first;
  }
  dnnl::memory from = state().no_memory(plain);
  set_address(from, address_of(b));
  dnnl::memory factor = to.factor;
  packing->second.execute(state().stream, from, factor);
  state().stream.wait();
}

void OneDnn::multiply(ConstMatrix a, index_t packed, std::span<const float> bias, bool accumulate,
                      Matrix out) {
  const Threads threads(state().threads);
  const Packed& b = state().packed[static_cast<std::size_t>(packed)];
  WEIR_ASSERT(a.dtype() == b.dtype && a.extent(1) == b.k && out.extent(1) == b.n &&
              out.extent(0) == a.extent(0) && strip_of(a.extent(0)) == a.extent(0));
  const ProductKey key = {.has_bias = !bias.empty(),
                          .accumulates = accumulate,
                          .m = a.extent(0),
                          .n = b.n,
                          .k = b.k,
                          .in = a.dtype(),
                          .out = out.dtype()};
  Primitive& product = state().primitive_of(key, b.factor.get_desc());
  set_address(product.a, address_of(a));
  set_address(product.out, address_of(out));
  if (key.has_bias) set_address(product.bias, bias.data());
  state().run(product, b.factor);
}

void OneDnn::add_transposed_product(ConstMatrix a, ConstMatrix b, Matrix out) {
  const Threads threads(state().threads);
  WEIR_ASSERT(a.dtype() == b.dtype() && out.dtype() == Dtype::f32 && a.extent(0) == b.extent(0) &&
              out.extent(0) == a.extent(1) && out.extent(1) == b.extent(1));
  const ProductKey key = {.a_is_transposed = true,
                          .accumulates = true,
                          .m = out.extent(0),
                          .n = out.extent(1),
                          .k = a.extent(0),
                          .in = a.dtype(),
                          .out = Dtype::f32};
  Primitive& product = state().primitive_of(key, layout(key.k, key.n, key.in, Format::ab));
  set_address(product.a, address_of(a));
  set_address(product.b, address_of(b));
  set_address(product.out, address_of(out));
  state().run(product, product.b);
}

}  // namespace weir::worker
