// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace tensor_pager::command_line {

/// Makes failures of a program's files errors of the calls that meet them, as what surrounds it may
/// make something else of them. Before anything is opened.
///
/// Standard streams that were closed get a descriptor that can neither be read nor written: the
/// next file that is opened would have its number, and what is printed would go there. A file that
/// grows beyond `ulimit -f` fails with EFBIG instead of ending the process.
void prepare_files();

}  // namespace tensor_pager::command_line
