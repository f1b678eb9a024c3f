//! Load: the programs that send requests, and what they counted.
//!
//! For: `wrk` for HTTP/1.1, `h2load` for HTTP/2. May touch: the server it is told of.
//! Promises: an answer that is not 2xx, or a connection that broke, ends the measurement instead of counting.
//! Read next: `wire.rs`.

use std::path::Path;
use std::process::Command;

/// Connections of one load.
pub const CONNECTIONS: usize = 64;

/// How requests are sent.
#[derive(Clone, Copy, Debug)]
pub enum Sent<'a> {
    /// HTTP/1.1 on connections that stay.
    Http1,
    /// HTTP/1.1, each request on a connection of its own.
    Http1Once,
    /// HTTP/1.1 on connections that stay, each request with the next token of `wrk`'s script.
    Http1By(&'a Path),
    /// HTTP/2: a quarter of the connections, with four streams each.
    Http2,
}

/// Sends requests for that many seconds, and tells how many were answered.
///
/// # Panics
/// When the program is missing, or a request failed.
#[must_use]
pub fn send(sent: Sent<'_>, url: &str, seconds: u64) -> u64 {
    match sent {
        Sent::Http1 => wrk(&[], url, seconds),
        Sent::Http1Once => wrk(&["-H", "Connection: close"], url, seconds),
        Sent::Http1By(script) => wrk(&["-s", &script.to_string_lossy()], url, seconds),
        Sent::Http2 => h2load(url, seconds),
    }
}

fn wrk(more: &[&str], url: &str, seconds: u64) -> u64 {
    let mut command = Command::new("wrk");
    command.args(["-t1", &format!("-c{CONNECTIONS}"), &format!("-d{seconds}s")]).args(more).arg(url);
    let said = said(command, url);
    let failed = said.lines().find(|line| line.contains("Non-2xx") || line.contains("Socket errors"));
    // A connection that is closed after its answer is counted as a read error by `wrk`, when it was told to expect more.
    assert!(
        failed.is_none_or(|line| more.contains(&"Connection: close") && line.contains("Socket")),
        "{url}: {said}"
    );
    number_before(&said, " requests in ").unwrap_or_else(|| panic!("{url}: {said}"))
}

fn h2load(url: &str, seconds: u64) -> u64 {
    let mut command = Command::new("h2load");
    command.args(["-t1", &format!("-c{}", CONNECTIONS / 4), "-m4", &format!("-D{seconds}")]).arg(url);
    let said = said(command, url);
    let (succeeded, failed) = (number_before(&said, " succeeded"), number_before(&said, " failed"));
    assert_eq!(failed, Some(0), "{url}: {said}");
    succeeded.filter(|count| *count > 0).unwrap_or_else(|| panic!("{url}: {said}"))
}

fn said(mut command: Command, url: &str) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{url}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The whole number that stands right before these words.
fn number_before(text: &str, words: &str) -> Option<u64> {
    let before = text.split_once(words)?.0;
    let digits = before.rsplit(|letter: char| !letter.is_ascii_digit()).next()?;
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_read() {
        assert_eq!(number_before("  81234 requests in 4.00s, 22MB read", " requests in "), Some(81_234));
        let h2load = "requests: 10 total, 10 started, 10 done, 9 succeeded, 1 failed, 0 errored";
        assert_eq!(number_before(h2load, " succeeded"), Some(9));
        assert_eq!(number_before(h2load, " failed"), Some(1));
        assert_eq!(number_before("nothing", " failed"), None);
    }
}
