// SPDX-License-Identifier: Apache-2.0
#include "qwen/saved_session.hpp"

#include <fmt/format.h>
#include <sys/stat.h>
#include <xxhash.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cstring>
#include <system_error>
#include <utility>

#include "qwen/error.hpp"

namespace tensor_pager::qwen {
namespace {

static_assert(std::endian::native == std::endian::little, "files are little-endian");

constexpr std::uint64_t kMagic = 0x3130736573677074;  // "tpgses01"
constexpr std::uint32_t kVersion = 1;

class Checksum {
 public:
  Checksum() : state_(XXH3_createState(), XXH3_freeState) { XXH3_64bits_reset(state_.get()); }
  void add(std::span<const std::byte> bytes) {
    XXH3_64bits_update(state_.get(), bytes.data(), bytes.size());
  }
  template <class T>
  void add_value(const T& value) {
    add(std::as_bytes(std::span(&value, 1)));
  }
  void add_text(const std::string& text) {
    add_value(text.size());
    add(std::as_bytes(std::span(text)));
  }
  std::uint64_t value() const { return XXH3_64bits_digest(state_.get()); }

 private:
  std::unique_ptr<XXH3_state_t, XXH_errorcode (*)(XXH3_state_t*)> state_;
};

// What decides which rotation a position has.
void add_positions(Checksum& sum, const loaders::ModelConfig& config) {
  const loaders::RopeScaling& scaling = config.rope_scaling;
  sum.add_value(config.rope_freq_base);
  sum.add_value(config.rope_dimension_count);
  sum.add_value(scaling.kind);
  sum.add_value(scaling.factor);
  sum.add_value(scaling.original_context_length);
  sum.add_value(scaling.yarn_beta_fast);
  sum.add_value(scaling.yarn_beta_slow);
  sum.add_value(scaling.yarn_ext_factor);
  sum.add_value(scaling.attention_factor);
}

// Tensors as the file describes them, and the beginning of each: two models of one shape differ
// there, and not all of a large one has to be read.
void add_weights(Checksum& sum, const Inference& inference) {
  constexpr std::uint64_t kSample = 256;
  std::array<std::byte, kSample> sample{};
  for (const loaders::TensorInfo& tensor : inference.model().gguf.tensors()) {
    sum.add_text(tensor.name);
    sum.add_value(tensor.type);
    sum.add_value(tensor.ne);
    const std::span<std::byte> read =
        std::span(sample).first(std::min(kSample, tensor.bytes.size.count));
    inference.store().read(tensor.bytes.offset, read);
    sum.add(read);
  }
}

// Whose keys and values these are.
std::uint64_t identity(const Inference& inference) {
  Checksum sum;
  add_positions(sum, inference.model().config);
  add_weights(sum, inference);
  return sum.value();
}

std::uint64_t cache_bytes(const Inference& inference, std::size_t tokens) {
  return KvCache::bytes(inference.model().config,
                        {.sequences = 1, .context = static_cast<std::uint32_t>(tokens)},
                        inference.plan().cache_type)
      .count;
}

}  // namespace

void save_session(Inference& inference, SequenceId sequence, output::ReplacementFile& file) {
  const std::span<const loaders::TokenId> tokens = inference.tokens(sequence);
  const SavedSession::Header header{
      .magic = kMagic,
      .version = kVersion,
      .cache_type = static_cast<std::uint32_t>(inference.plan().cache_type),
      .belongs_to = identity(inference),
      .tokens = tokens.size(),
      .cache_bytes = cache_bytes(inference, tokens.size())};
  Checksum sum;
  const auto write = [&](std::span<const std::byte> bytes) {
    sum.add(bytes);
    file.write(bytes);
  };
  write(std::as_bytes(std::span(&header, 1)));
  write(std::as_bytes(tokens));
  inference.read_cache(sequence, write);
  const std::uint64_t total = sum.value();
  file.write(std::as_bytes(std::span(&total, 1)));
}

SavedSession::SavedSession(std::filesystem::path path)
    : path_(std::move(path)), file_(nullptr, std::fclose) {
  // Opening a FIFO would wait for its other end.
  std::error_code ignored;
  if (std::filesystem::is_fifo(path_, ignored)) fail("is not a saved session");
  file_.reset(std::fopen(path_.c_str(), "rbe"));
  struct ::stat status {};
  if (file_ == nullptr || ::fstat(::fileno(file_.get()), &status) != 0) {
    throw Error(fmt::format("{}: cannot read the session: {}; give another file", path_.string(),
                            std::generic_category().message(errno)));
  }
  const auto size = static_cast<std::uint64_t>(std::max<off_t>(status.st_size, 0));
  if (!S_ISREG(status.st_mode) || size < sizeof(Header)) fail("is not a saved session");
  read(std::as_writable_bytes(std::span(&header_, 1)));
  if (header_.magic != kMagic) fail("is not a saved session");
  if (header_.version != kVersion) {
    fail(fmt::format("was saved in form {}, but this program reads form {}", header_.version,
                     kVersion));
  }
  const std::uint64_t rest = size - sizeof(Header);
  const bool agrees = header_.tokens <= rest / sizeof(loaders::TokenId) &&
                      header_.cache_bytes <= rest &&
                      rest == header_.tokens * sizeof(loaders::TokenId) + header_.cache_bytes +
                                  sizeof(std::uint64_t);
  if (!agrees) fail(fmt::format("is cut off or damaged: it has {} bytes", size));
}

void SavedSession::verify(const Inference& inference) {
  require_belongs_to(inference);
  Checksum sum;
  sum.add_value(header_);
  std::vector<std::byte> buffer(std::size_t{1} << 20);
  for (std::uint64_t left = header_.tokens * sizeof(loaders::TokenId) + header_.cache_bytes;
       left > 0;) {
    const auto part = std::span(buffer).first(std::min<std::uint64_t>(left, buffer.size()));
    read(part);
    sum.add(part);
    left -= part.size();
  }
  require_total(sum.value());
  std::fseek(file_.get(), sizeof(Header), SEEK_SET);
}

void SavedSession::require_total(std::uint64_t sum) const {
  std::uint64_t total = 0;
  read(std::as_writable_bytes(std::span(&total, 1)));
  if (total != sum) fail("is damaged");
}

void SavedSession::load(Inference& inference, SequenceId sequence) {
  require_belongs_to(inference);
  Checksum sum;
  sum.add_value(header_);
  std::vector<loaders::TokenId> ids(tokens());
  read(std::as_writable_bytes(std::span(ids)));
  sum.add(std::as_bytes(std::span(ids)));
  std::uint64_t left = header_.cache_bytes;
  const std::uint32_t vocabulary = inference.model().config.vocab_size;
  if (std::ranges::any_of(ids, [&](loaders::TokenId id) { return id >= vocabulary; })) {
    fail("is damaged");
  }
  inference.restore(sequence, ids, [&](std::span<std::byte> part) {
    read(part);
    sum.add(part);
    left -= part.size();
    if (left == 0) require_total(sum.value());
  });
}

void SavedSession::require_belongs_to(const Inference& inference) const {
  if (header_.cache_type != static_cast<std::uint32_t>(inference.plan().cache_type)) {
    fail("has keys and values of another device");
  }
  if (header_.tokens > inference.context()) {
    throw Error(
        fmt::format("{}: the session has {} tokens, but the context only {}; give a larger "
                    "--ctx",
                    path_.string(), header_.tokens, inference.context()));
  }
  const bool is_of_model = header_.belongs_to == identity(inference) &&
                           header_.cache_bytes == cache_bytes(inference, tokens());
  if (!is_of_model) fail("is of another model, or of other --rope-scaling");
}

void SavedSession::read(std::span<std::byte> bytes) const {
  if (std::fread(bytes.data(), 1, bytes.size(), file_.get()) == bytes.size()) return;
  fail("is cut off or damaged: it ended early");
}

void SavedSession::fail(const std::string& problem) const {
  throw Error(fmt::format("{} {}; save it again", path_.string(), problem));
}

}  // namespace tensor_pager::qwen
