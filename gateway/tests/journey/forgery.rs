//! Forgery: tokens as attackers and careless issuers make them. None is accepted, and each is refused for what it is.
//!
//! Sources: RFC 8725 (best current practices), RFC 7515 and 7519, and published flaws of verifiers (algorithm confusion,
//! `none`, keys from the token's own header, ECDSA with zeros). Signatures are sound wherever the case is not about them.
//! Read next: `auth.rs` for the plain cases.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE, URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use testkit::token::{Token, now, sealed};

use crate::harness::client;
use crate::harness::gateway::Gateway;
use crate::harness::issuer::{KEYS, Key, scheme, token_of};
use crate::harness::settings::{HEAD, HTTP, Pool, upstream};
use crate::harness::upstream::Echo;

/// One token, and the code it must be refused with.
type Case = (String, String, &'static str);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_forged_token_is_accepted() {
    let echo = Echo::start().await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let tokens = scheme("ES256, RS256, EdDSA", &KEYS.jwks_file(folder.path()));
    let upstream = upstream(&Pool::of(&[echo.address()]));
    let routes = "routes:\n  - { id: all, path: /*, auth: [tokens], require: [read], to: api }\n";
    let gateway = Gateway::plain(&format!("{HEAD}{HTTP}{upstream}auth:\n  tokens: {tokens}\n{routes}")).await;
    let sound = token_of("alice", "read").signed_by(&KEYS.es256);
    let ask = async |token: &str| {
        client::send(client::plain().get(gateway.url("/x")).header("Authorization", format!("Bearer {token}"))).await
    };
    ask(&sound).await.expect_status(200);
    let cases: Vec<Case> = [algorithms(), headers(), signatures(), claims(), forms()].concat();
    assert!(cases.len() >= 60, "there are {} cases", cases.len());
    for (name, token, code) in cases {
        let answer = ask(&token).await;
        assert_eq!(answer.status, 401, "{name}: {answer:?}");
        assert_eq!(answer.json()["code"], code, "{name}");
    }
    assert_eq!(echo.count(), 1, "only the sound one has reached the upstream");
    ask(&sound).await.expect_status(200);
}

fn token() -> Token {
    token_of("alice", "read")
}

fn case(name: impl Into<String>, token: String, code: &'static str) -> Case {
    (name.into(), token, code)
}

/// Algorithms that are not the key's, in every spelling.
fn algorithms() -> Vec<Case> {
    let es = &KEYS.es256;
    let spelled =
        ["none", "None", "NONE", "nOnE", "", "es256", "ES256K", "ES384", "ES512", "RS256", "PS256", "EdDSA"];
    let more = ["HS256", "HS384", "HS512", "ES256 ", "dir", "RSA-OAEP", "A128GCM"];
    let mut cases: Vec<Case> = spelled
        .into_iter()
        .chain(more)
        .map(|alg| case(format!("alg {alg:?}"), token().header("alg", alg).signed_by(es), "token_algorithm_invalid"))
        .collect();
    for secret in [
        ("the PEM", es.public_pem.as_bytes().to_vec()),
        ("the DER", es.public_der.clone()),
        ("nothing", Vec::new()),
        ("the key's id", es.id.as_bytes().to_vec()),
        ("the key set", KEYS.jwks().to_string().into_bytes()),
    ] {
        let forged = token().signed_with_secret(&secret.1, es.id);
        cases.push(case(format!("HS256 with {}", secret.0), forged, "token_algorithm_invalid"));
    }
    cases.push(case(
        "RS256 in the name of the EC key",
        token().header("kid", es.id).signed_by(&KEYS.rs256),
        "token_algorithm_invalid",
    ));
    for alg in [json!(null), json!(1), json!(["ES256"])] {
        let (_, claims) = token().texts(es);
        let header = json!({ "typ": "at+jwt", "kid": es.id, "alg": alg }).to_string();
        cases.push(case(format!("alg {alg}"), sealed(&header, &claims, es), "token_malformed"));
    }
    cases
}

/// Headers that would have the verifier take its key, or its rules, from the token.
fn headers() -> Vec<Case> {
    let es = &KEYS.es256;
    let stranger = Key::es256("stranger");
    let jwk = json!({ "kty": "EC", "crv": "P-256", "x": "AA", "y": "AA" });
    let mut cases = Vec::new();
    for (name, value) in [
        ("jwk", jwk),
        ("jku", json!("http://127.0.0.1:1/jwks.json")),
        ("x5u", json!("http://127.0.0.1:1/cert.pem")),
        ("x5c", json!(["MIIB"])),
        ("x5t", json!("AAAA")),
    ] {
        let forged = token().header(name, value).signed_by(&stranger);
        cases.push(case(format!("a key of one's own by {name}"), forged, "token_key_unknown"));
    }
    for kid in ["", "*", "../../../../dev/null", "es-1\0", "es-1 ", "ES-1", "' OR 1=1 --", "http://127.0.0.1:1/k"] {
        cases.push(case(format!("kid {kid:?}"), token().header("kid", kid).signed_by(es), "token_key_unknown"));
    }
    for kid in [json!(1), json!(["es-1"]), json!({ "id": "es-1" })] {
        cases.push(case(format!("kid {kid}"), token().header("kid", kid).signed_by(es), "token_malformed"));
    }
    for crit in [json!(["exp"]), json!(["b64"]), json!([]), json!("b64"), json!(["http://example.invalid/x"])] {
        cases.push(case(format!("crit {crit}"), token().header("crit", crit).signed_by(es), "token_malformed"));
    }
    let detached = token().header("b64", false).header("crit", json!(["b64"])).signed_by(es);
    cases.push(case("an unencoded payload (RFC 7797)", detached, "token_malformed"));
    for typ in ["JWT", "jwt", "application/jwt", "id+jwt", "dpop+jwt", "logout+jwt", "at+jwt ", "at", ""] {
        cases.push(case(format!("typ {typ:?}"), token().header("typ", typ).signed_by(es), "token_type_invalid"));
    }
    let (header, claims) = token().texts(es);
    let twice = header.replacen('{', "{\"alg\":\"none\",", 1);
    cases.push(case("alg twice", sealed(&twice, &claims, es), "token_malformed"));
    let twice = header.replacen('{', "{\"kid\":\"es-99\",", 1);
    cases.push(case("kid twice", sealed(&twice, &claims, es), "token_malformed"));
    cases
}

/// Signatures that are not the key's over these very bytes.
fn signatures() -> Vec<Case> {
    let es = &KEYS.es256;
    let sound = token().signed_by(es);
    let (message, signature) = sound.rsplit_once('.').expect("three parts");
    let bytes = URL_SAFE_NO_PAD.decode(signature).expect("base64url");
    let with = |bytes: &[u8]| format!("{message}.{}", URL_SAFE_NO_PAD.encode(bytes));
    let flipped = |index: usize| {
        let mut bytes = bytes.clone();
        bytes[index] ^= 1;
        with(&bytes)
    };
    let (r, s) = bytes.split_at(32);
    // The order of P-256 (SEC 2 §2.4.2).
    let order = hex("ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551");
    let der = [&[0x30, 0x44, 0x02, 0x20][..], r, &[0x02, 0x20], s].concat();
    [
        ("no signature", format!("{message}.")),
        ("zeros (CVE-2022-21449)", with(&[0; 64])),
        ("r is zero", with(&[&[0; 32], s].concat())),
        ("s is zero", with(&[r, &[0; 32]].concat())),
        ("r is the order", with(&[&order, s].concat())),
        ("s is the order", with(&[r, &order].concat())),
        ("all ones", with(&[0xff; 64])),
        ("the first bit flipped", flipped(0)),
        ("the last bit flipped", flipped(63)),
        ("r and s changed places", with(&[s, r].concat())),
        ("in DER", with(&der)),
        ("one byte short", with(&bytes[..63])),
        ("one byte long", with(&[&bytes[..], &[0]].concat())),
        ("half of it", with(r)),
        (
            "of another token",
            format!("{message}.{}", token_of("bob", "read").signed_by(es).rsplit_once('.').expect("parts").1),
        ),
    ]
    .map(|(name, token)| case(name, token, "token_signature_invalid"))
    .into()
}

fn hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).expect("hexadecimal")).collect()
}

/// Claims that are missing, of the wrong kind, or not for us.
fn claims() -> Vec<Case> {
    let es = &KEYS.es256;
    let mut cases = Vec::new();
    let wrong: [(&str, Value, &'static str); 33] = [
        ("exp", json!(now() - 31), "token_expired"),
        ("exp", json!(0), "token_expired"),
        ("exp", json!("4102444800"), "token_claim_invalid"),
        ("exp", json!(-1), "token_claim_invalid"),
        ("exp", json!(null), "token_claim_invalid"),
        ("exp", json!([4_102_444_800_u64]), "token_claim_invalid"),
        ("exp", json!(true), "token_claim_invalid"),
        ("nbf", json!(now() + 120), "token_not_yet_valid"),
        ("iat", json!(now() + 120), "token_not_yet_valid"),
        ("iat", json!("yesterday"), "token_claim_invalid"),
        ("iss", json!("https://auth.test"), "token_issuer_invalid"),
        ("iss", json!("https://AUTH.test/"), "token_issuer_invalid"),
        ("iss", json!("https://auth.test/ "), "token_issuer_invalid"),
        ("iss", json!("http://auth.test/"), "token_issuer_invalid"),
        ("iss", json!(""), "token_issuer_invalid"),
        ("iss", json!(null), "token_claim_invalid"),
        ("aud", json!("capibara"), "token_audience_invalid"),
        ("aud", json!("capibara66"), "token_audience_invalid"),
        ("aud", json!("CAPIBARA6"), "token_audience_invalid"),
        ("aud", json!(["elsewhere", "nowhere"]), "token_audience_invalid"),
        ("aud", json!([]), "token_audience_invalid"),
        ("aud", json!(""), "token_audience_invalid"),
        ("aud", json!(null), "token_claim_invalid"),
        ("sub", json!(null), "token_claim_invalid"),
        ("sub", json!(""), "token_claim_invalid"),
        ("sub", json!(7), "token_claim_invalid"),
        ("sub", json!(["alice"]), "token_claim_invalid"),
        ("sub", json!("alice\r\nX-Auth-Roles: admin"), "token_claim_invalid"),
        ("scope", json!([1]), "token_claim_invalid"),
        ("scope", json!({ "read": true }), "token_claim_invalid"),
        ("scope", json!("read\nadmin"), "token_claim_invalid"),
        ("roles", json!("admin"), "token_claim_invalid"),
        ("roles", json!(["user,admin"]), "token_claim_invalid"),
    ];
    for (claim, value, code) in wrong {
        cases.push(case(format!("{claim} {value}"), token().claim(claim, value).signed_by(es), code));
    }
    let (header, claims) = token().texts(es);
    for twice in ["\"sub\":\"root\",", "\"scope\":\"admin\",", "\"exp\":4102444800,", "\"roles\":[\"admin\"],"] {
        let claims = claims.replacen('{', &format!("{{{twice}"), 1);
        cases.push(case(format!("twice {twice}"), sealed(&header, &claims, es), "token_claim_invalid"));
    }
    cases
}

/// Texts that are no token at all, or not quite one.
fn forms() -> Vec<Case> {
    let es = &KEYS.es256;
    let sound = token().signed_by(es);
    let [head, body, signature] = sound.split('.').collect::<Vec<_>>()[..] else { panic!("three parts") };
    let (header, claims) = token().texts(es);
    let padded = |text: &str| URL_SAFE.encode(text);
    let nested = sealed(&header, &format!("\"{sound}\""), es);
    [
        ("one part", head.to_owned(), "token_malformed"),
        ("two parts", format!("{head}.{body}"), "token_malformed"),
        ("four parts", format!("{sound}.x"), "token_malformed"),
        ("five parts, as an encrypted one", format!("{head}..{body}.{signature}.x"), "token_malformed"),
        ("nothing but dots", "..".to_owned(), "token_malformed"),
        ("a header that is no base64", format!("!.{body}.{signature}"), "token_malformed"),
        (
            "a header in plain base64",
            format!("{}.{body}.{signature}", STANDARD.encode("{\"alg\":\"??>>\"}")),
            "token_malformed",
        ),
        (
            "a padded header",
            format!("{}=.{body}.{signature}", padded(&header).trim_end_matches('=')),
            "token_malformed",
        ),
        (
            "a header that is a list",
            format!("{}.{body}.{signature}", URL_SAFE_NO_PAD.encode("[]")),
            "token_malformed",
        ),
        (
            "a header that is no JSON",
            format!("{}.{body}.{signature}", URL_SAFE_NO_PAD.encode("{")),
            "token_malformed",
        ),
        (
            "a header with more behind it",
            format!("{}.{body}.{signature}", URL_SAFE_NO_PAD.encode(format!("{header}x"))),
            "token_malformed",
        ),
        ("a signature that is no base64", format!("{head}.{body}.!"), "token_malformed"),
        ("a token in a token", nested, "token_claim_invalid"),
        ("claims that are a list", sealed(&header, "[]", es), "token_claim_invalid"),
        ("claims that are no JSON", sealed(&header, "{", es), "token_claim_invalid"),
        ("claims with more behind them", sealed(&header, &format!("{claims}x"), es), "token_claim_invalid"),
        ("larger than any token", format!("{head}.{}.{signature}", "A".repeat(17_000)), "token_malformed"),
    ]
    .map(|(name, token, code)| case(name, token, code))
    .into()
}
