//! `/api/v1/users`, and users made on the command line.

use serde_json::json;

use crate::harness::{Backend, run};

#[tokio::test]
async fn who_administers_makes_and_lists_users() {
    let backend = Backend::start("");
    let admin = backend.admin().await;
    let body = json!({ "username": "Ann", "password": "correct horse", "role": "readonly" });
    let made = backend.post("/api/v1/users", &admin, body.clone()).await;
    assert_eq!((made.status.as_u16(), made.text("username"), made.text("role")), (201, "ann".into(), "readonly".into()));
    backend.post("/api/v1/users", &admin, body).await.assert_problem(409, "conflict");
    let listed = backend.get("/api/v1/users", &admin).await;
    let names: Vec<_> = listed.body["items"].as_array().expect("items").iter().map(|user| &user["username"]).collect();
    assert_eq!(names, ["admin", "ann"]);
    assert!(!listed.body.to_string().contains("argon2"), "{listed:?}");
    let ann = backend.login("ANN", "correct horse").await;
    assert_eq!(ann.text("scope"), "read api_access");
}

#[tokio::test]
async fn fields_that_are_wrong_are_named() {
    let backend = Backend::start("");
    let admin = backend.admin().await;
    let long = "x".repeat(129);
    let cases = [
        (json!({ "username": "", "password": "correct horse", "role": "user" }), "username"),
        (json!({ "username": "a b", "password": "correct horse", "role": "user" }), "username"),
        (json!({ "username": "ann", "password": "short", "role": "user" }), "password"),
        (json!({ "username": "ann", "password": long, "role": "user" }), "password"),
        (json!({ "username": "ann", "password": "correct horse", "role": "root" }), "role"),
        (json!({ "username": "ann", "password": "correct horse" }), "role"),
        (json!({ "username": 7, "password": "correct horse", "role": "user" }), "username"),
        (json!({ "username": "ann", "password": "correct horse", "role": "user", "x": 1 }), "`x`"),
    ];
    for (body, field) in cases {
        let answer = backend.post("/api/v1/users", &admin, body).await;
        answer.assert_problem(400, "input_invalid");
        assert!(answer.text("detail").contains(field), "{field} is not named: {answer:?}");
    }
}

#[tokio::test]
async fn the_command_line_makes_users_too() {
    let backend = Backend::start("");
    let folder = backend.folder().path();
    let add = |name: &str, role: &str, input: &str| {
        run(folder, &["user", "add", "-c", "backend.yaml", "--name", name, "--role", role], input)
    };
    let made = add("olga", "readonly", "correct horse\nnot this line\n");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    assert!(!String::from_utf8_lossy(&made.stderr).contains("correct horse"), "a password must not be logged");
    let token = backend.token_of("olga", "correct horse").await;
    backend.post("/api/v1/query", &token, json!({ "query": "Hi" })).await.assert_problem(403, "permission_missing");

    let again = add("olga", "user", "correct horse\n");
    assert_eq!(again.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&again.stderr).contains("the user name is taken"), "{again:?}");
    assert_eq!(add("omar", "user", "short\n").status.code(), Some(1));

    std::fs::write(folder.join("password"), "from a file\n").expect("written");
    let arguments =
        ["user", "add", "-c", "backend.yaml", "--name", "oren", "--role", "user", "--password-ref", "file:password"];
    assert!(run(folder, &arguments, "").status.success());
    assert_eq!(backend.login("oren", "from a file").await.status, 200);
}
