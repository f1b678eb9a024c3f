//! Machine: what a number was measured on.
//!
//! For: the head of every result. May touch: `/proc`, `git`, `rustc`. Promises: what cannot be learnt is called unknown.
//! Read next: `times.rs`.

use std::process::Command;

/// A few lines of Markdown: machine, system, compiler, commit.
#[must_use]
pub fn described() -> String {
    // Not what this process may use: a bench may keep one core for what it measures.
    let cores = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default().matches("processor\t:").count();
    let (processor, memory) = (of_file("/proc/cpuinfo", "model name"), of_file("/proc/meminfo", "MemTotal"));
    let (kernel, compiler) = (said("uname", &["-sr"]), said("rustc", &["--version"]));
    let (day, commit) = (said("date", &["--utc", "+%F"]), said("git", &["describe", "--always", "--dirty"]));
    format!(
        "- {day}, commit {commit}\n- {processor}, {cores} cores, memory {memory}\n- {kernel}, {compiler}, release build\n"
    )
}

fn of_file(path: &str, key: &str) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let value = text.lines().find_map(|line| line.strip_prefix(key)?.split_once(':').map(|(_, value)| value.trim()));
    value.unwrap_or("unknown").to_owned()
}

fn said(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().ok().filter(|output| output.status.success());
    output.map_or_else(|| "unknown".into(), |output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
