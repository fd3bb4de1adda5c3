#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <exception>
#include <string>

#include "options.hpp"
#include "program.hpp"

namespace {

constexpr int kFailure = 1;
constexpr int kWrongUsage = 2;

int fail(int status, std::string message) {
  std::ranges::replace(message, '\n', ' ');  // one line, whatever a library says
  fmt::print(stderr, "qwen_prefill: {}\n", message);
  return status;
}

}  // namespace

int main(int argc, char** argv) {
  using namespace tensor_pager::qwen_prefill;
  try {
    const auto parsed = parse_options(argc, argv);
    if (const auto* help = std::get_if<std::string>(&parsed)) {
      fmt::print("{}", *help);
      return 0;
    }
    run(std::get<Options>(parsed));
    return 0;
  } catch (const UsageError& error) {
    return fail(kWrongUsage, fmt::format("{}; see --help", error.what()));
  } catch (const std::bad_alloc&) {
    return fail(kFailure, "out of host memory; choose a smaller --ctx, --ubatch or --vram");
  } catch (const std::exception& error) {
    return fail(kFailure, error.what());
  }
}
