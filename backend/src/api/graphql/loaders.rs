//! Loaders: entities that a list refers to, looked up together.
//!
//! For: the owners of API keys. May touch: `auth::Users`. Promises: each entity is looked up once for all places of an
//! answer that ask for it at the same time; `LOAD_MAX` lookups run at once at most.
//! Read next: `types.rs`, which asks.

use std::collections::HashMap;
use std::sync::Arc;

use async_graphql::dataloader::{DataLoader, Loader};
use futures::future::join_all;

use crate::api::Services;
use crate::api::error::{ApiError, Refusal};
use crate::auth::{AuthError, User};

/// Lookups that run at the same time: fewer than the database has readers by default, so that others get one too.
const LOAD_MAX: usize = 4;

/// Looks up users by their ids.
pub(super) struct UserLoader {
    services: Arc<Services>,
}

impl UserLoader {
    /// A loader for one request.
    pub(super) fn for_request(services: &Arc<Services>) -> DataLoader<Self> {
        DataLoader::new(Self { services: Arc::clone(services) }, tokio::spawn)
    }
}

impl Loader<String> for UserLoader {
    type Value = User;
    type Error = Refusal;

    /// A user that is gone is left out.
    async fn load(&self, ids: &[String]) -> Result<HashMap<String, User>, Refusal> {
        let mut found = HashMap::with_capacity(ids.len());
        for together in ids.chunks(LOAD_MAX) {
            for answer in join_all(together.iter().map(|id| self.services.users.get(id))).await {
                match answer {
                    Ok(user) => {
                        found.insert(user.id.clone(), user);
                    }
                    Err(AuthError::NotFound) => {}
                    Err(error) => return Err(ApiError::from(error).told()),
                }
            }
        }
        Ok(found)
    }
}
