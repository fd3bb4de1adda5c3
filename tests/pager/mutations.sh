#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Breaks the core and the driver on purpose, one line at a time, and expects the simulator to notice each time: a test of the simulator.
# usage: mutations.sh SOURCE_DIR WORK_DIR COMPILER SIMULATOR_MAIN SIMULATOR_LIBRARY PAGER_LIBRARY
set -euo pipefail
source_dir=$1 work_dir=$2 compiler=$3 main=$4 simulator=$5 pager=$6
passed=0 failed=0
mkdir -p "$work_dir"

# mutate NAME FILE OLD NEW: the first line that contains OLD, literally, gets NEW in its place. The driver's files are run
# by the driver's simulator.
mutate() {
  local name=$1 file=$2 old=$3 new=$4
  local -a subject=()
  case $file in
    driver.cpp | stream_reports.cpp | remapping.cpp)
      file=driver/$file
      subject=(--driver)
      ;;
    *) file=core/$file ;;
  esac
  local mutant=$work_dir/mutant.cpp
  OLD=$old NEW=$new awk '
    !done && (at = index($0, ENVIRON["OLD"])) {
      $0 = substr($0, 1, at - 1) ENVIRON["NEW"] substr($0, at + length(ENVIRON["OLD"])); done = 1
    }
    { print }
    END { exit !done }' "$source_dir/src/$file" > "$mutant" ||
    { echo "FAIL $name: '$old' is not in $file any more; mend this mutation"; failed=$((failed + 1)); return; }
  "$compiler" -std=c++20 -O1 -w -I"$source_dir/include" -I"$source_dir/src" "$mutant" "$main" -I"$(dirname "$main")" \
    "$simulator" "$pager" -pthread -o "$work_dir/mutant" 2> "$work_dir/errors.txt" ||
    { echo "FAIL $name: does not compile: $(head -n 1 "$work_dir/errors.txt")"; failed=$((failed + 1)); return; }
  local out=$work_dir/out.txt
  if timeout 120 "$work_dir/mutant" "${subject[@]}" --seeds 20000 --events 500 > "$out" 2>&1; then
    echo "FAIL $name: not noticed in 20000 seeds"
    failed=$((failed + 1))
  else
    echo "ok   $name: $(head -n 1 "$out")"
    passed=$((passed + 1))
  fi
}

planning=core_planning.cpp
mutate "evict a page that queued work still reads" $planning 'residency.fences == 0 &&' 'true &&'
mutate "evict a page that a lease holds" $planning 'residency.pins == 0 &&' 'true &&'
mutate "evict a page that a planned step needs" $planning 'residency.promised == 0 &&' 'true &&'
mutate "evict a page while its copy is under way" $planning \
  '(residency.state == ResidencyState::resident || residency.state == ResidencyState::failed)' 'true'
mutate "forget a wake-up when a fence passes" core.cpp \
  'for (const ResidencyId id : node.mapped()) --residencies_[id].fences;' \
  'for (const ResidencyId id : node.mapped()) --residencies_[id].fences; return;'
mutate "forget a wake-up when a copy ends" core.cpp \
  'residencies_[id].state = ResidencyState::resident;' 'residencies_[id].state = ResidencyState::resident; return;'
mutate "forget those who wait for a release" core.cpp \
  'if (!lease.blocked || !lease.failure.empty() || !fits(lease.pages)) continue;' 'continue;'
mutate "count a frame twice" $planning 'free_frames_.erase(frame);' ''
mutate "lose a frame" $planning 'if (load.outgoing == kNone) free_frames_.insert(incoming.frame);' ''
mutate "forget whose frame it is" $planning 'frames_[incoming.frame.value].holder = load.outgoing;' ''
mutate "forget to give frames up when the budget shrinks" $planning 'while (alive_ - retiring_ > budget_) {' 'while (false) {'
mutate "ignore what leases hold when asked whether pages fit" core.cpp \
  'return pinned_ - static_cast<std::size_t>(shared) + pages.size() <= budget_;' 'return pages.size() <= budget_;'
mutate "wait for oneself" $planning 'if (!awaited) return;' 'return;'
mutate "leave a page mapped where it was" $planning 'if (page.mapped != incoming.frame) map' 'if (!page.mapped) map'
mutate "leave addresses pointing to a destroyed frame" $planning \
  'for (const PageIndex page : pages) unmap(page);' ''
mutate "forget an address that points to a frame" $planning 'frames_[frame.value].mapped.push_back(page);' ''
mutate "move an address through which work reads" core_homes.cpp 'if (home && !read[page] &&' 'if (home &&'
mutate "copy a page that is not on the host" $planning '.host_ready) break;' '.host_ready && false) break;'
mutate "take a failed copy for a page" core.cpp \
  'residency.state = ResidencyState::failed;' 'residency.state = ResidencyState::resident;'
mutate "promise a step's page and forget it" $planning '++residencies_[step.residencies.back()].promised;' ''
mutate "never tell a caller that it would wait for ever" core.cpp \
  'if (!budget_waits && newest == leases_.rend()) return;' 'return;'
mutate "tell a caller so although another may release" core.cpp '|| waits(entry.second.caller)' '|| true'
mutate "never put a budget back" core.cpp 'if (budget_waits && (all_wait' 'if (false && (all_wait'
mutate "bring in a page that has still to leave" $planning 'if (leaving(page)) return false;' ''
mutate "wait for a step that comes later" $planning \
  'if (outgoing.pins == 0 && outgoing.promised == 0) return;' 'if (outgoing.pins == 0) return;'

mutate "report a failure twice" stream_reports.cpp 'relying_.erase(first, last);' ''
mutate "lose a failure that comes after the lease" stream_reports.cpp '++report.copies;' ''
mutate "report to whoever asks first" stream_reports.cpp 'reports_[work.stream];' 'reports_[StreamId{1}];'
mutate "forget what a lease relies on" driver.cpp 'reports_.rely(lease, held_.at(lease).caller.queue, copies);' ''
mutate "let a failed acquire be reported by its stream, too" driver.cpp 'reports_.withdraw(lease);' 'reports_.hand_out(lease);'
mutate "wait for no copy" driver.cpp 'return copies.back();' 'return std::nullopt;'
mutate "wait for the oldest copy alone" driver.cpp 'return copies.back();' 'return copies.front();'
mutate "grant before copies are queued" driver.cpp 'return queued ? Answer::yes : Answer::waiting;' 'return Answer::yes;'
mutate "lose a fence" driver.cpp 'fences_.insert(*fence);' ''
mutate "forget a fence that passed early" driver.cpp 'passed_early_.insert(fence);' ''
mutate "release without a fence" driver.cpp 'drop(lease, fence, end.stamp);' 'drop(lease, std::nullopt, end.stamp);'
mutate "fence the first of those that end together" driver.cpp 'drop(lease, fence, end.stamp);' \
  'drop(lease, fence, end.stamp), fence.reset();'
mutate "forget a lease that ended in a capture" driver.cpp 'fence_the_unfenced();' ''
mutate "take a captured stream's lease for done" driver.cpp \
  'unfenced_.insert(leases.begin(), leases.end());' \
  'for (const LeaseId lease : leases) drop(lease, std::nullopt, std::nullopt);'
mutate "count frames that were refused" driver.cpp 'finish_budget(outcome.frames_failure);' \
  'core_.set_budget(change_->frames, change_->caller), finish_budget(outcome.frames_failure);'
mutate "keep some of the frames that were refused" driver.cpp \
  'while (created > 0) range.destroy_frame(frames[--created]);' ''
mutate "never say that a budget cannot be" driver.cpp 'if (core_.budget_state() == BudgetState::failed) {' 'if (false) {'
mutate "say that memory is free before it is" driver.cpp \
  'core_.budget_state() == BudgetState::done && !core_.has_commands() && !executing_' 'true'
mutate "forget to wake those who wait for a copy to be queued" driver.cpp '  ++done_;' '  ++done_; if (outcome.started.empty()) return;'
mutate "forget to wake when a lease ends" driver.cpp '  held_.erase(lease);' '  held_.erase(lease); news_ = false;'
mutate "settle before copies have ended" driver.cpp 'return fences_.empty() && in_flight_.empty()' 'return fences_.empty()'
mutate "go on after the device has failed" driver.cpp 'return !fatal_ && (core_.has_commands()' 'return (core_.has_commands()'
mutate "end while queued work reads" driver.cpp '(lost_track_ || (fences_.empty() && in_flight_.empty()))' '(lost_track_ || in_flight_.empty())'
mutate "leave held leases without a fence at the end" driver.cpp \
  'for (const LeaseId lease : leases) release({&lease' 'for (const LeaseId lease : leases) if (false) release({&lease'
mutate "take a copy that ended early for one that never ends" driver.cpp 'ended_early_.push_back(std::move(*ended));' \
  'if (!in_flight_.empty()) ended_early_.push_back(std::move(*ended));'

echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
