//! The normal form of a path (RFC 3986 §6.2.2), and the paths that have none.
//!
//! Two servers that read one path differently are how access rules are walked around. So there is one form: percent
//! codes of plain characters are decoded, the others are upper case, empty and dot segments are resolved. What cannot
//! be made plain without a guess (an encoded slash, a climb above the root) is refused.

use std::borrow::Cow;

/// Why a path has no normal form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PathError {
    #[error("the path does not begin with a slash")]
    NotAbsolute,
    #[error("the path holds a broken percent code")]
    BrokenPercentCode,
    #[error("the path holds an encoded slash, backslash or control character")]
    EncodedSeparator,
    #[error("the path holds a character that must be percent-encoded")]
    BareCharacter,
    #[error("the path climbs above the root")]
    AboveRoot,
    #[error("the path holds a \";\"")]
    Parameter,
}

/// Whether `;` may stand in a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Parameters {
    Refuse,
    Allow,
}

/// The normal form of `path`; borrowed when the path is in it already, as nearly every one is.
///
/// # Errors
/// When two servers might read the path differently.
pub(crate) fn normalise(path: &[u8], parameters: Parameters) -> Result<Cow<'_, [u8]>, PathError> {
    if path.first() != Some(&b'/') {
        return Err(PathError::NotAbsolute);
    }
    if is_normal(path) {
        return Ok(Cow::Borrowed(path));
    }
    let decoded = decode(path, parameters)?;
    let resolved = resolve(&decoded)?;
    Ok(if resolved == path { Cow::Borrowed(path) } else { Cow::Owned(resolved) })
}

/// One pass over the bytes: plain characters only, and no segment that is empty or begins with a dot. A harmless
/// `/.well-known` goes the long way round, which comes to the same.
fn is_normal(path: &[u8]) -> bool {
    let mut after_slash = false;
    for &byte in path {
        let plain = byte.is_ascii_alphanumeric() || b"-_~!$&'()*+,=:@".contains(&byte);
        let fits = plain || (matches!(byte, b'/' | b'.') && !after_slash);
        if !fits {
            return false;
        }
        after_slash = byte == b'/';
    }
    true
}

/// Decodes the codes of unreserved characters, writes the others in upper case, refuses what is ambiguous.
fn decode(path: &[u8], parameters: Parameters) -> Result<Vec<u8>, PathError> {
    let mut decoded = Vec::with_capacity(path.len());
    let mut rest = path;
    while let [byte, tail @ ..] = rest {
        rest = tail;
        match byte {
            b'%' => {
                let [high, low, tail @ ..] = rest else { return Err(PathError::BrokenPercentCode) };
                rest = tail;
                push_code(&mut decoded, *high, *low)?;
            }
            b';' if parameters == Parameters::Refuse => return Err(PathError::Parameter),
            b'\\' | b'#' | b'"' | b'<' | b'>' | b'^' | b'`' | b'{' | b'|' | b'}' => {
                return Err(PathError::BareCharacter);
            }
            byte if !byte.is_ascii_graphic() => return Err(PathError::BareCharacter),
            byte => decoded.push(*byte),
        }
    }
    Ok(decoded)
}

fn push_code(decoded: &mut Vec<u8>, high: u8, low: u8) -> Result<(), PathError> {
    let byte = hex(high).zip(hex(low)).map(|(high, low)| high << 4 | low).ok_or(PathError::BrokenPercentCode)?;
    match byte {
        b'/' | b'\\' => return Err(PathError::EncodedSeparator),
        byte if byte.is_ascii_control() => return Err(PathError::EncodedSeparator),
        byte if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) => decoded.push(byte),
        _ => decoded.extend([b'%', high.to_ascii_uppercase(), low.to_ascii_uppercase()]),
    }
    Ok(())
}

fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

/// Resolves empty, `.` and `..` segments. A final `.` or `..` leaves a slash, as in RFC 3986 §5.2.4.
fn resolve(path: &[u8]) -> Result<Vec<u8>, PathError> {
    let mut resolved: Vec<u8> = Vec::with_capacity(path.len());
    let mut segments = path[1..].split(|byte| *byte == b'/').peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        // A server that cuts parameters off would see the bare name.
        let name = segment.split(|byte| *byte == b';').next().unwrap_or(segment);
        match name {
            b".." | b"." if name.len() < segment.len() => return Err(PathError::Parameter),
            b".." => {
                let parent = resolved.iter().rposition(|byte| *byte == b'/').ok_or(PathError::AboveRoot)?;
                resolved.truncate(parent);
            }
            b"." => {}
            _ if segment.is_empty() && !last => {}
            _ => {
                resolved.push(b'/');
                resolved.extend_from_slice(segment);
                continue;
            }
        }
        if last {
            resolved.push(b'/');
        }
    }
    Ok(resolved)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(path: &str) -> Result<String, PathError> {
        let normal = normalise(path.as_bytes(), Parameters::Refuse)?;
        Ok(String::from_utf8(normal.into_owned()).expect("ASCII"))
    }

    #[test]
    fn one_form_for_all_spellings() {
        for (path, normal) in [
            ("/", "/"),
            ("/api/v1/query", "/api/v1/query"),
            ("/api/v1/query/", "/api/v1/query/"),
            ("//admin", "/admin"),
            ("/api//v1///x", "/api/v1/x"),
            ("/api/v1/../admin", "/api/admin"),
            ("/api/v1/%2e%2e/admin", "/api/admin"),
            ("/api/v1/%2E./admin", "/api/admin"),
            ("/api/./v1/.", "/api/v1/"),
            ("/api/v1/..", "/api/"),
            ("/%61dmin", "/admin"),
            ("/%41dmin", "/Admin"),
            ("/a%c3%a9", "/a%C3%A9"),
            ("/a%3Bb", "/a%3Bb"),
            ("/a%252e", "/a%252e"),
            ("/.well-known/jwks.json", "/.well-known/jwks.json"),
            ("/...", "/..."),
        ] {
            assert_eq!(text(path).as_deref(), Ok(normal), "{path}");
        }
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_refused() {
        for (path, error) in [
            ("", PathError::NotAbsolute),
            ("*", PathError::NotAbsolute),
            ("http://x/", PathError::NotAbsolute),
            ("/a%2fb", PathError::EncodedSeparator),
            ("/a%2Fb", PathError::EncodedSeparator),
            ("/a%5cb", PathError::EncodedSeparator),
            ("/a%00", PathError::EncodedSeparator),
            ("/a%0d%0ab", PathError::EncodedSeparator),
            ("/a\\b", PathError::BareCharacter),
            ("/a b", PathError::BareCharacter),
            ("/é", PathError::BareCharacter),
            ("/a#b", PathError::BareCharacter),
            ("/a%", PathError::BrokenPercentCode),
            ("/a%4", PathError::BrokenPercentCode),
            ("/a%zz", PathError::BrokenPercentCode),
            ("/..", PathError::AboveRoot),
            ("/a/../../b", PathError::AboveRoot),
            ("/%2e%2e/b", PathError::AboveRoot),
            ("/admin;x", PathError::Parameter),
        ] {
            assert_eq!(text(path), Err(error), "{path}");
        }
        let lenient = |path: &'static str| normalise(path.as_bytes(), Parameters::Allow);
        assert_eq!(lenient("/admin;x").as_deref(), Ok(&b"/admin;x"[..]));
        assert_eq!(lenient("/api/..;/admin"), Err(PathError::Parameter), "no leniency hides a climb");
    }

    proptest! {
        #[test]
        fn the_normal_form_is_normal(path in "/[a-c/.%2eEfF5cC;~A]{0,24}") {
            for parameters in [Parameters::Refuse, Parameters::Allow] {
                let Ok(normal) = normalise(path.as_bytes(), parameters) else { continue };
                let again = normalise(&normal, parameters);
                prop_assert_eq!(again.as_deref(), Ok(&*normal), "once is enough");
                let shown = String::from_utf8(normal.to_vec()).expect("ASCII");
                prop_assert!(shown.starts_with('/') && !shown.contains("//"));
                prop_assert!(!shown.split('/').any(|segment| segment == "." || segment == ".."));
                let folded = shown.to_ascii_lowercase();
                prop_assert!(!folded.contains("%2f") && !folded.contains("%5c") && !folded.contains("%2e"));
            }
        }
    }
}
