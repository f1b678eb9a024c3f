//! Access: the roles and permissions of the system, and what each role grants.
//!
//! For: one table that the token issuer, the backend's own checks and the shipped gateway configuration share.
//! May touch: nothing. Promises: names are stable; a role grants exactly what `Role::permissions` lists.
//! The gateway itself is generic and treats permissions as opaque words. Read next: `claims.rs`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// One thing a caller may be allowed to do. Travels as a word in the token's `scope` claim (RFC 8693 §4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Permission {
    /// Look at resources.
    Read,
    /// Create and change resources.
    Write,
    /// Ask models to answer: queries and batches.
    Execute,
    /// Administer users, keys and the system.
    Admin,
    /// Use the REST API at all.
    ApiAccess,
    /// Use the GraphQL API at all.
    GraphqlAccess,
}

/// What a user is. Travels in the token's `roles` claim (RFC 9068 §2.2.3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Everything.
    Admin,
    /// Everything but administration.
    Developer,
    /// Ask, read and write, over both APIs.
    User,
    /// Look only, over REST.
    Readonly,
}

/// The word is not one of the known roles or permissions.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown {kind}; known are {known}")]
pub struct UnknownWord {
    kind: &'static str,
    known: String,
}

impl Permission {
    /// Every permission, in the order in which `scope` lists them.
    pub const ALL: [Permission; 6] =
        [Self::Read, Self::Write, Self::Execute, Self::Admin, Self::ApiAccess, Self::GraphqlAccess];

    /// The word used in tokens, configuration and answers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Execute => "execute",
            Self::Admin => "admin",
            Self::ApiAccess => "api_access",
            Self::GraphqlAccess => "graphql_access",
        }
    }
}

impl Role {
    /// Every role, the mightiest first.
    pub const ALL: [Role; 4] = [Self::Admin, Self::Developer, Self::User, Self::Readonly];

    /// The word used in tokens, configuration and answers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Developer => "developer",
            Self::User => "user",
            Self::Readonly => "readonly",
        }
    }

    /// What the role grants, in `Permission::ALL` order.
    #[must_use]
    pub const fn permissions(self) -> &'static [Permission] {
        use Permission::{Admin, ApiAccess, Execute, GraphqlAccess, Read, Write};
        match self {
            Self::Admin => &[Read, Write, Execute, Admin, ApiAccess, GraphqlAccess],
            Self::Developer | Self::User => &[Read, Write, Execute, ApiAccess, GraphqlAccess],
            Self::Readonly => &[Read, ApiAccess],
        }
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Permission {
    type Err = UnknownWord;

    fn from_str(word: &str) -> Result<Self, UnknownWord> {
        find(word, "permission", &Self::ALL, |item| item.as_str())
    }
}

impl FromStr for Role {
    type Err = UnknownWord;

    fn from_str(word: &str) -> Result<Self, UnknownWord> {
        find(word, "role", &Self::ALL, |item| item.as_str())
    }
}

/// The permissions as one space-separated `scope` value (RFC 6749 §3.3), duplicates removed, in a stable order.
#[must_use]
pub fn scope_of(permissions: &[Permission]) -> String {
    let mut words: Vec<&str> = Vec::with_capacity(permissions.len());
    for permission in Permission::ALL {
        if permissions.contains(&permission) {
            words.push(permission.as_str());
        }
    }
    words.join(" ")
}

fn find<T: Copy>(word: &str, kind: &'static str, all: &[T], name: fn(&T) -> &'static str) -> Result<T, UnknownWord> {
    all.iter()
        .find(|item| name(item) == word)
        .copied()
        .ok_or_else(|| UnknownWord { kind, known: all.iter().map(name).collect::<Vec<_>>().join(", ") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_role_grants_what_the_contract_says() {
        let scopes = Role::ALL.map(|role| (role.as_str(), scope_of(role.permissions())));
        assert_eq!(scopes[0], ("admin", "read write execute admin api_access graphql_access".into()));
        assert_eq!(scopes[1], ("developer", "read write execute api_access graphql_access".into()));
        assert_eq!(scopes[2], ("user", "read write execute api_access graphql_access".into()));
        assert_eq!(scopes[3], ("readonly", "read api_access".into()));
    }

    #[test]
    fn words_survive_the_round_trip_and_strangers_are_named() {
        for permission in Permission::ALL {
            assert_eq!(permission.as_str().parse(), Ok(permission));
        }
        let error = "root".parse::<Role>().expect_err("root is no role");
        assert_eq!(error.to_string(), "unknown role; known are admin, developer, user, readonly");
    }
}
