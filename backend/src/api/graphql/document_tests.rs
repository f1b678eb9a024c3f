//! Tests of the bounds on documents: what is within them passes, what is beyond each is refused for it.

use super::super::errors::code_of;
use super::*;

fn limits() -> Limits {
    Limits { bytes_max: 4_096, depth_max: 5, aliases_max: 3, directives_max: 3 }
}

fn check(text: &str) -> Result<OperationType, ServerError> {
    let types = ["String", "Int"].map(str::to_owned).into_iter().collect();
    admit(text, None, limits(), &types).map(|admitted| admitted.operation)
}

#[test]
fn what_is_within_the_bounds_passes() {
    let cases = [
        ("{ a }", OperationType::Query),
        ("query Q($x: [Int!] = [1]) { a(x: $x) { b { c { d { e } } } } }", OperationType::Query),
        ("mutation { x: a y: b z: c }", OperationType::Mutation),
        ("subscription { a @include(if: true) @skip(if: false) }", OperationType::Subscription),
        ("{ a(text: \"{{{ [[[ ((( \\\" \") # {{{{\n b(text: \"\"\"{{{ \\\"\"\" {{{\"\"\") }", OperationType::Query),
        ("{ ...f } fragment f on T { ...g ...g } fragment g on T { a { b } }", OperationType::Query),
    ];
    for (text, operation) in cases {
        assert_eq!(check(text).expect(text), operation, "{text}");
    }
}

#[test]
fn what_is_beyond_a_bound_is_refused_for_it() {
    let bomb: Vec<String> = (0..40).map(|n| format!("fragment f{n} on T {{ ...f{0} ...f{0} }}", n + 1)).collect();
    let chain: Vec<String> = (0..60).map(|n| format!("fragment f{n} on T {{ ...f{} }}", n + 1)).collect();
    let cases = [
        ("{ a { b { c { d { e { f } } } } } }".to_owned(), "nested"),
        ("{ a }".to_owned() + &" ".repeat(4_096), "larger"),
        ("{ w: a x: a y: a z: a }".to_owned(), "aliases"),
        ("{ ...f ...f } fragment f on T { x: a y: b }".to_owned(), "aliases"),
        ("{ a @x @x @x @x }".to_owned(), "directives"),
        ("query @x @x @x @x { a }".to_owned(), "directives"),
        ("{".repeat(50) + "a" + &"}".repeat(50), "brackets"),
        ("{ a(x: ".to_owned() + &"[".repeat(50) + &"]".repeat(50) + ") }", "brackets"),
        (format!("{{ ...f0 }} {} fragment f40 on T {{ a }}", bomb.join(" ")), "selections"),
        (format!("{{ ...f0 }} {} fragment f60 on T {{ a }}", chain.join(" ")), "nested"),
    ];
    for (text, word) in cases {
        let error = check(&text).expect_err(&text);
        assert_eq!(code_of(&error), Some("graphql_too_costly"), "{text}: {error}");
        assert!(error.message.contains(word), "{word}: {error}");
    }
}

#[test]
fn what_cannot_be_read_or_run_is_refused_with_its_place() {
    let cases = [
        ("", "line 1"),
        ("{ a", "line 1"),
        ("{\n  a(x: \"open\n) }", "line 2"),
        ("{ a(x: \"\"\"open) }", "three quotes"),
        ("{ ...f } fragment f on T { ...f }", "contains itself"),
        ("{ ...f } fragment f on T { ...g } fragment g on T { ...f }", "contains itself"),
        ("query($x: Nope) { a }", "\"Nope\""),
        ("query($x: [Nope] = [1]) { a }", "\"Nope\""),
        ("query A { a } query B { b }", "operationName"),
        ("query A { a } query A { b }", "twice"),
        ("fragment f on T { a }", "operation"),
    ];
    for (text, word) in cases {
        let error = check(text).expect_err(text);
        assert_eq!(code_of(&error), Some("graphql_invalid"), "{text}: {error}");
        assert!(error.message.contains(word), "{word}: {error}");
    }
}

#[test]
fn the_operation_is_chosen_by_its_name() {
    let types = HashSet::new();
    let text = "query A { a } mutation B { b }";
    let chosen = |name| admit(text, name, limits(), &types).map(|admitted| admitted.operation);
    assert_eq!(chosen(Some("A")).expect("there is one"), OperationType::Query);
    assert_eq!(chosen(Some("B")).expect("there is one"), OperationType::Mutation);
    assert!(chosen(Some("C")).is_err() && chosen(None).is_err());
    assert!(admit("{ a }", Some("A"), limits(), &types).is_err());
}
