#!/usr/bin/env bash
# Breaks the core on purpose, one line at a time, and expects the simulator to notice each time: a test of the simulator.
# usage: mutations.sh SOURCE_DIR WORK_DIR COMPILER SIMULATOR_MAIN SIMULATOR_LIBRARY PAGER_LIBRARY
set -euo pipefail
source_dir=$1 work_dir=$2 compiler=$3 main=$4 simulator=$5 pager=$6
passed=0 failed=0
mkdir -p "$work_dir"

# mutate NAME FILE OLD NEW: the first line that contains OLD, literally, gets NEW in its place.
mutate() {
  local name=$1 file=$2 old=$3 new=$4
  local mutant=$work_dir/mutant.cpp
  OLD=$old NEW=$new awk '
    !done && (at = index($0, ENVIRON["OLD"])) {
      $0 = substr($0, 1, at - 1) ENVIRON["NEW"] substr($0, at + length(ENVIRON["OLD"])); done = 1
    }
    { print }
    END { exit !done }' "$source_dir/src/core/$file" > "$mutant" ||
    { echo "FAIL $name: '$old' is not in $file any more; mend this mutation"; failed=$((failed + 1)); return; }
  "$compiler" -std=c++20 -O1 -w -I"$source_dir/include" -I"$source_dir/src" "$mutant" "$main" -I"$(dirname "$main")" \
    "$simulator" "$pager" -pthread -o "$work_dir/mutant"
  local out=$work_dir/out.txt
  if timeout 120 "$work_dir/mutant" --seeds 20000 --events 500 > "$out" 2>&1; then
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

echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
