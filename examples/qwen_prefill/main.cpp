// SPDX-License-Identifier: Apache-2.0
#include "command_line/run_program.hpp"
#include "options.hpp"
#include "program.hpp"

int main(int argc, char** argv) {
  using namespace tensor_pager::qwen_prefill;
  return tensor_pager::command_line::run_program(
      "qwen_prefill", [&] { run(parse_options(argc, argv)); },
      "choose a smaller --ctx, --ubatch or --vram");
}
