//! Used: what a running program costs, by the kernel's accounts.
//!
//! For: processor time and memory of a program and of all it started. May touch: `/proc`.
//! Promises: nothing is asked of the program itself, so that each is measured the same way.
//! Read next: `load.rs`.

use std::fs;
use std::time::Duration;

/// What Linux calls `USER_HZ`: the unit of `/proc/PID/stat`, the same on every machine.
const TICKS_PER_SECOND: u64 = 100;

/// Processor time of a process and of its living children, in the kernel and outside.
#[must_use]
pub fn processor(pid: u32) -> Duration {
    let ticks: u64 = family(pid).into_iter().map(ticks).sum();
    Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND)
}

/// Memory that a process and its living children hold (`VmRSS`), in KiB.
#[must_use]
pub fn resident_kib(pid: u32) -> u64 {
    family(pid).into_iter().map(resident).sum()
}

/// A process, its children, and theirs.
fn family(pid: u32) -> Vec<u32> {
    let mut all = vec![pid];
    let mut looked_at = 0;
    while let Some(pid) = all.get(looked_at).copied() {
        looked_at += 1;
        let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
        for thread in threads {
            let children = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
            all.extend(children.split_whitespace().filter_map(|child| child.parse::<u32>().ok()));
        }
    }
    all
}

fn ticks(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The program's name stands in parentheses and may hold anything; `utime` and `stime` are fields 14 and 15.
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    after_name.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum()
}

fn resident(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_this_very_process_uses_is_seen() {
        let pid = std::process::id();
        let before = processor(pid);
        let mut sum = 0_u64;
        while processor(pid) < before + Duration::from_millis(30) {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        assert!(resident_kib(pid) > 100, "a test needs some memory");
    }

    #[test]
    fn children_count() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().expect("sleep starts");
        let seen = family(std::process::id()).contains(&child.id());
        child.kill().and_then(|()| child.wait()).expect("it ends");
        assert!(seen);
    }
}
