//! Order: the talk with the authority, from the account to the certificate.
//!
//! For: `keeper.rs`, which holds the lease. May touch: the authority, the vault. Promises: keys of certificates are made anew
//! each time; a proof is shown before the authority is told of it, and hidden when the order is over; nothing is waited for
//! without a deadline. Read next: `client.rs`.

use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use instant_acme::{
    Account, AccountCredentials, AuthorizationStatus, CertificateIdentifier, ChallengeType, Error, Identifier,
    NewAccount, NewOrder, OrderStatus, RetryPolicy,
};
use rcgen::{CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384};
use rustls_pki_types::{CertificateDer, Der};
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::client::{Client, ClientError};
use crate::config::checked::{Acme, KeyType};
use crate::store::{Vault, VaultError, is_token};

/// How long the authority may take to ask for all proofs, and then again to issue.
const POLL_TIMEOUT: Duration = Duration::from_secs(90);

/// How much of a name stands in the name of a file, which has 255 bytes at most.
const NAME_SHOWN_BYTES: usize = 100;

/// Digits of a hash that are enough to tell a handful of things apart.
const SHORT_HASH_CHARS: usize = 16;

/// What an authority says of an account that it has forgotten.
const ACCOUNT_UNKNOWN: &str = "urn:ietf:params:acme:error:accountDoesNotExist";

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub(super) enum OrderError {
    #[error("the authority cannot be asked")]
    Client(#[from] ClientError),
    #[error("the authority")]
    Acme(#[from] Error),
    #[error("the vault")]
    Vault(#[from] VaultError),
    #[error("the account that is kept cannot be read")]
    Account(#[from] serde_json::Error),
    #[error("the key or the request for it")]
    Key(#[from] rcgen::Error),
    #[error("the authority offers no proof by HTTP for {0}")]
    NoHttp(String),
    #[error("the authority's token is none")]
    Token,
    #[error("the authority refuses: {0}")]
    Refused(String),
}

/// When the authority suggests to renew, in seconds since the Unix epoch, and how long that holds.
pub(super) struct Advice {
    pub start: i64,
    pub end: i64,
    pub holds: Duration,
}

/// What the records of an order are called: alike for all gateways that order the same, and safe as the name of a file.
pub(super) fn record_of(settings: &Acme) -> String {
    let first = settings.names.first().map_or("", |name| &**name);
    let first = first.get(..first.len().min(NAME_SHOWN_BYTES)).unwrap_or_default();
    let what = format!("{} {} {}", settings.directory, settings.names.join(","), settings.key_type.word());
    format!("{first}-{}", short_hash(&what))
}

/// Gets a certificate: its key and its chain, in PEM. `replaced` is the one that it takes the place of, where the authority
/// wants to know (RFC 9773 §5).
///
/// # Errors
/// At the first step that fails.
pub(super) async fn obtain(
    settings: &Acme,
    vault: &Vault,
    replaced: Option<&CertificateDer<'static>>,
) -> Result<String, OrderError> {
    let account = account(settings, vault).await?;
    let identifiers: Vec<Identifier> =
        settings.names.iter().map(|name| Identifier::Dns((**name).to_owned())).collect();
    let mut new_order = NewOrder::new(&identifiers);
    if let Some(identifier) = replaced.and_then(identifier) {
        new_order = new_order.replaces(identifier);
    }
    let mut order = match account.new_order(&new_order).await {
        Err(Error::Api(problem)) if problem.r#type.as_deref() == Some(ACCOUNT_UNKNOWN) => {
            // The next attempt makes a new one.
            vault.remove(&account_record(settings)).await?;
            return Err(Error::Api(problem).into());
        }
        order => order?,
    };
    let mut shown = Vec::new();
    let proved = prove(&mut order, vault, &mut shown).await;
    for token in &shown {
        if let Err(error) = vault.hide_proof(token).await {
            tracing::warn!(error = %common::telemetry::with_causes(&error), "a proof is still shown");
        }
    }
    proved?;
    let key = KeyPair::generate_for(match settings.key_type {
        KeyType::P256 => &PKCS_ECDSA_P256_SHA256,
        KeyType::P384 => &PKCS_ECDSA_P384_SHA384,
    })?;
    let mut params =
        CertificateParams::new(settings.names.iter().map(|name| (**name).to_owned()).collect::<Vec<_>>())?;
    params.distinguished_name = DistinguishedName::new();
    let request = params.serialize_request(&key)?;
    order.finalize_csr(request.der()).await?;
    let chain = order.poll_certificate(&RetryPolicy::new().timeout(POLL_TIMEOUT)).await?;
    Ok(format!("{}{chain}", key.serialize_pem()))
}

/// Asks when to renew; `None` where the authority does not say, or the certificate cannot be named to it.
///
/// # Errors
/// When there is no account yet, or the authority does not answer.
pub(super) async fn advice(
    settings: &Acme,
    vault: &Vault,
    certificate: &CertificateDer<'static>,
) -> Result<Option<Advice>, OrderError> {
    let Some(identifier) = identifier(certificate) else { return Ok(None) };
    let Some(account) = known_account(settings, vault).await? else { return Ok(None) };
    match account.renewal_info(&identifier).await {
        Ok((info, holds)) => {
            let window = info.suggested_window;
            Ok(Some(Advice { start: window.start.unix_timestamp(), end: window.end.unix_timestamp(), holds }))
        }
        Err(Error::Unsupported(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The account that is kept, or a new one, which is kept from now on.
async fn account(settings: &Acme, vault: &Vault) -> Result<Account, OrderError> {
    if let Some(known) = known_account(settings, vault).await? {
        return Ok(known);
    }
    let contact: Vec<&str> = settings.contact.iter().map(String::as_str).collect();
    // Without agreement there is no configuration.
    let new = NewAccount { contact: &contact, terms_of_service_agreed: true, only_return_existing: false };
    let builder = Account::builder_with_http(Box::new(Client::new(settings).await?));
    let (account, credentials) = builder.create(&new, settings.directory.to_string(), None).await?;
    vault.write(&account_record(settings), serde_json::to_vec(&credentials)?).await?;
    Ok(account)
}

async fn known_account(settings: &Acme, vault: &Vault) -> Result<Option<Account>, OrderError> {
    let Some(known) = vault.copies(&account_record(settings)).await?.into_iter().next() else { return Ok(None) };
    let credentials: AccountCredentials = serde_json::from_slice(&known)?;
    let builder = Account::builder_with_http(Box::new(Client::new(settings).await?));
    Ok(Some(builder.from_credentials(credentials).await?))
}

/// Shows every proof that the authority wants, and waits until it has seen them.
async fn prove(order: &mut instant_acme::Order, vault: &Vault, shown: &mut Vec<String>) -> Result<(), OrderError> {
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization?;
        match authorization.status {
            AuthorizationStatus::Pending => {}
            // Proved before, and remembered by the authority.
            AuthorizationStatus::Valid => continue,
            status => return Err(OrderError::Refused(format!("an authorization is {status:?}"))),
        }
        let name = authorization.identifier().to_string();
        let Some(mut challenge) = authorization.challenge(ChallengeType::Http01) else {
            return Err(OrderError::NoHttp(name));
        };
        if !is_token(&challenge.token) {
            return Err(OrderError::Token);
        }
        let token = challenge.token.clone();
        let proof = challenge.key_authorization();
        shown.push(token.clone());
        vault.show_proof(&token, proof.as_str()).await?;
        challenge.set_ready().await?;
    }
    let status = order.poll_ready(&RetryPolicy::new().timeout(POLL_TIMEOUT)).await?;
    match status {
        OrderStatus::Ready => Ok(()),
        status => Err(OrderError::Refused(reason(order).await.unwrap_or_else(|| format!("the order is {status:?}")))),
    }
}

/// What the authority says of the first proof that failed.
async fn reason(order: &mut instant_acme::Order) -> Option<String> {
    let mut authorizations = order.authorizations();
    while let Some(Ok(mut authorization)) = authorizations.next().await {
        let name = authorization.identifier().to_string();
        let state = authorization.refresh().await.ok()?;
        if let Some(problem) = state.challenges.iter().find_map(|challenge| challenge.error.as_ref()) {
            return Some(format!("{name}: {problem}"));
        }
    }
    None
}

/// How a certificate is named to its authority (RFC 9773 §4.1).
fn identifier(certificate: &CertificateDer<'static>) -> Option<CertificateIdentifier<'static>> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let key = parsed.extensions().iter().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::AuthorityKeyIdentifier(authority) => authority.key_identifier.as_ref(),
        _ => None,
    })?;
    Some(CertificateIdentifier::new(Der::from_slice(key.0), Der::from_slice(parsed.raw_serial())).into_owned())
}

fn account_record(settings: &Acme) -> String {
    format!("account-{}.json", short_hash(settings.directory.as_str()))
}

/// The front of a SHA-256, in hexadecimal.
fn short_hash(text: &str) -> String {
    let mut hash = hex::encode(digest(&SHA256, text.as_bytes()));
    hash.truncate(SHORT_HASH_CHARS);
    hash
}
