//! Accept: which codings a client takes, and how much it likes each (`Accept-Encoding`, RFC 9110 §12.5.3).

use http::HeaderMap;
use http::header::ACCEPT_ENCODING;

use crate::config::checked::Coding;

/// Items of the field that are read; a browser sends five.
const ITEMS_MAX: usize = 64;

/// A weight, in thousandths; 0 refuses.
type Weight = u16;

/// The most that a client can like a coding.
const WEIGHT_MAX: Weight = 1000;

/// The weights of those codings that there are here; `None` for one that is not named.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Accepted {
    zstd: Option<Weight>,
    brotli: Option<Weight>,
    gzip: Option<Weight>,
    identity: Option<Weight>,
    /// `*`: whatever is not named.
    others: Option<Weight>,
}

impl Accepted {
    /// Reads a request's field. An item that breaks the grammar is passed over; of two for one coding, the greater counts.
    pub(crate) fn read(headers: &HeaderMap) -> Self {
        let mut accepted = Self::default();
        let fields = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|field| field.to_str().ok());
        for item in fields.flat_map(|field| field.split(',')).take(ITEMS_MAX) {
            accepted.note(item);
        }
        accepted
    }

    fn note(&mut self, item: &str) {
        let (coding, weight) = match item.split_once(';') {
            None => (item, Some(WEIGHT_MAX)),
            Some((coding, weight)) => (coding, weight_of(weight)),
        };
        let Some(weight) = weight else { return };
        let is = |name: &str| coding.trim().eq_ignore_ascii_case(name);
        // `x-gzip` is an old name of the same (RFC 9110 §8.4.1.3).
        let slot = if is("gzip") || is("x-gzip") {
            &mut self.gzip
        } else if is("br") {
            &mut self.brotli
        } else if is("zstd") {
            &mut self.zstd
        } else if is("identity") {
            &mut self.identity
        } else if is("*") {
            &mut self.others
        } else {
            return;
        };
        *slot = Some(slot.map_or(weight, |before| before.max(weight)));
    }

    /// The coding that the client likes best; among those it likes equally well, the first. `None` when it takes none of them,
    /// or would rather have what is not encoded. Who says nothing takes nothing: old clients know no codings.
    pub(crate) fn choose(&self, offered: &[Coding]) -> Option<Coding> {
        let weight = |coding: &Coding| self.of(*coding).or(self.others).unwrap_or(0);
        // `max_by_key` takes the last of equals.
        let best = offered.iter().rev().max_by_key(|coding| weight(coding))?;
        let liked = weight(best);
        (liked > 0 && self.identity.is_none_or(|identity| identity <= liked)).then_some(*best)
    }

    /// Whether an answer that is not encoded will not do.
    pub(crate) fn refuses_identity(&self) -> bool {
        self.identity.or(self.others) == Some(0)
    }

    fn of(&self, coding: Coding) -> Option<Weight> {
        match coding {
            Coding::Zstd => self.zstd,
            Coding::Brotli => self.brotli,
            Coding::Gzip => self.gzip,
        }
    }
}

/// `q=0.5` (RFC 9110 §12.4.2).
fn weight_of(parameter: &str) -> Option<Weight> {
    let (name, value) = parameter.trim().split_once('=')?;
    if !name.eq_ignore_ascii_case("q") {
        return None;
    }
    let (whole, fraction) = value.split_once('.').unwrap_or((value, ""));
    if fraction.len() > 3 || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let digits = fraction.bytes().chain(std::iter::repeat(b'0')).take(3);
    let thousandths = digits.fold(0, |sum, digit| sum * 10 + Weight::from(digit - b'0'));
    match (whole, thousandths) {
        ("0", thousandths) => Some(thousandths),
        ("1", 0) => Some(WEIGHT_MAX),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    const ALL: [Coding; 3] = [Coding::Zstd, Coding::Brotli, Coding::Gzip];

    fn accepted(fields: &[&str]) -> Accepted {
        let mut headers = HeaderMap::new();
        for field in fields {
            headers.append(ACCEPT_ENCODING, HeaderValue::from_str(field).expect("a value"));
        }
        Accepted::read(&headers)
    }

    #[test]
    fn the_best_liked_coding_is_chosen() {
        let cases: &[(&[&str], Option<Coding>)] = &[
            (&[], None),
            (&[""], None),
            (&["gzip"], Some(Coding::Gzip)),
            (&["x-gzip"], Some(Coding::Gzip)),
            (&["GZip;Q=1.000"], Some(Coding::Gzip)),
            (&["gzip, deflate, br, zstd"], Some(Coding::Zstd)),
            (&["gzip", "br"], Some(Coding::Brotli)),
            (&["gzip;q=1.0, br;q=0.9"], Some(Coding::Gzip)),
            (&["gzip;q=0.001, br;q=0.002"], Some(Coding::Brotli)),
            (&["gzip;q=0"], None),
            (&["gzip;q=0.000, br"], Some(Coding::Brotli)),
            (&["gzip ; q=0.5 , br ; q=0.4"], Some(Coding::Gzip)),
            // What is not named.
            (&["*"], Some(Coding::Zstd)),
            (&["*;q=0.5, zstd;q=0, br;q=0.4"], Some(Coding::Gzip)),
            (&["*;q=0"], None),
            (&["*;q=0, gzip"], Some(Coding::Gzip)),
            (&["deflate"], None),
            // What is not encoded.
            (&["identity"], None),
            (&["identity;q=1, gzip;q=0.5"], None),
            (&["identity;q=0.5, gzip;q=0.5"], Some(Coding::Gzip)),
            (&["identity;q=0, gzip;q=0.1"], Some(Coding::Gzip)),
            (&["identity;q=0"], None),
            // What breaks the grammar is passed over.
            (&["gzip;q=2"], None),
            (&["gzip;q=1.001"], None),
            (&["gzip;q=0.0001"], None),
            (&["gzip;q=-1, br"], Some(Coding::Brotli)),
            (&["gzip;q=.5"], None),
            (&["gzip;q"], None),
            (&["gzip;level=9"], None),
            (&["gzip;q=0.5;x=1"], None),
            (&["gzip;q=0, gzip"], Some(Coding::Gzip)),
            (&[",,gzip,,"], Some(Coding::Gzip)),
        ];
        for (fields, expected) in cases {
            assert_eq!(accepted(fields).choose(&ALL), *expected, "{fields:?}");
        }
        assert_eq!(accepted(&["br, zstd, gzip"]).choose(&[Coding::Gzip, Coding::Brotli]), Some(Coding::Gzip));
        assert_eq!(accepted(&["br"]).choose(&[]), None);
    }

    #[test]
    fn what_is_not_encoded_may_be_refused() {
        for (field, refused) in [
            ("identity;q=0", true),
            ("*;q=0", true),
            ("*;q=0, identity", false),
            ("*;q=0, identity;q=0.1", false),
            ("gzip", false),
            ("gzip;q=0", false),
        ] {
            assert_eq!(accepted(&[field]).refuses_identity(), refused, "{field}");
        }
        assert!(!accepted(&[]).refuses_identity());
    }

    proptest! {
        #[test]
        fn whatever_is_sent_is_read(
            field in "[ -~]{0,64}",
            grammatical in "((gzip|br|zstd|\\*|identity)(;q=[01](\\.[0-9]{0,3})?)?, ?){0,8}",
        ) {
            for field in [field.as_str(), grammatical.as_str()] {
                let accepted = accepted(&[field]);
                if let Some(chosen) = accepted.choose(&ALL) {
                    let weight = accepted.of(chosen).or(accepted.others);
                    prop_assert!(weight.is_some_and(|weight| weight > 0), "{}", field);
                }
            }
        }
    }
}
