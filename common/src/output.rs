//! Output: what a command answers, on standard output.
//!
//! For: commands of both programs that say something and end. May touch: standard output. Promises: a reader who has heard enough
//! and gone, as `| head` does, is no failure; nothing else that cannot be written is passed over. Read next: each program's
//! `main.rs`.

use std::io::{self, ErrorKind, Write};

/// Writes an answer whole.
///
/// # Errors
/// When it cannot be written, as on a full disk.
pub fn say(text: &str) -> io::Result<()> {
    write_whole(io::stdout().lock(), text)
}

fn write_whole(mut to: impl Write, text: &str) -> io::Result<()> {
    match to.write_all(text.as_bytes()).and_then(|()| to.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes nothing.
    struct Refusing(ErrorKind);

    impl Write for Refusing {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn only_a_reader_who_has_gone_is_no_failure() {
        let mut written = Vec::new();
        write_whole(&mut written, "a\nb").expect("a vector takes everything");
        assert_eq!(written, b"a\nb");
        assert!(write_whole(Refusing(ErrorKind::BrokenPipe), "a").is_ok());
        let full = write_whole(Refusing(ErrorKind::StorageFull), "a").expect_err("a full disk");
        assert_eq!(full.kind(), ErrorKind::StorageFull);
    }
}
