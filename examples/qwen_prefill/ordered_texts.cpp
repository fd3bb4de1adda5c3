// SPDX-License-Identifier: Apache-2.0
#include "ordered_texts.hpp"

#include <fmt/format.h>

#include <cstdlib>

#include "qwen/error.hpp"
#include "text_output.hpp"

namespace tensor_pager::qwen_prefill {

class OrderedTexts::Held {
 public:
  Held() : stream_(::open_memstream(&data_, &size_)) {
    if (stream_ == nullptr) throw qwen::Error("there is no memory for the generated text");
  }
  ~Held() {
    std::fclose(stream_);
    std::free(data_);  // NOLINT(cppcoreguidelines-no-malloc): open_memstream's
  }
  Held(const Held&) = delete;
  Held& operator=(const Held&) = delete;

  std::FILE* stream() const { return stream_; }
  void finish() { is_finished_ = true; }
  bool is_finished() const { return is_finished_; }

  void write_to(std::FILE* out) const {
    std::fflush(stream_);
    std::fwrite(data_, 1, size_, out);
  }

 private:
  char* data_ = nullptr;
  std::size_t size_ = 0;
  std::FILE* stream_;
  bool is_finished_ = false;
};

OrderedTexts::OrderedTexts(std::FILE* out, std::size_t count) : out_(out), texts_(count) {}

OrderedTexts::~OrderedTexts() = default;

std::FILE* OrderedTexts::stream(std::size_t index) {
  if (count() == 1) return out_;
  std::unique_ptr<Held>& text = texts_.at(index);
  if (!text) text = std::make_unique<Held>();
  return text->stream();
}

void OrderedTexts::finish(std::size_t index) {
  if (count() == 1) return;
  texts_.at(index)->finish();
  write_due();
}

void OrderedTexts::write_due() {
  for (; written_ < count(); ++written_) {
    std::unique_ptr<Held>& text = texts_[written_];
    if (!text || !text->is_finished()) break;
    fmt::print(out_, "--- {} of {} ---\n", written_ + 1, count());
    text->write_to(out_);
    text.reset();
  }
  std::fflush(out_);
  require_written(out_);
}

}  // namespace tensor_pager::qwen_prefill
