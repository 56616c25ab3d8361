//! Stores that are reached over HTTP: the buckets of three platforms, and static hosts.
//!
//! Everything that differs between them is in this folder: how an address and the environment become a client, which credentials it
//! uses, and what its answers mean. What a store does with the client is the same for all and lies in [`crate::object`].
//!
//! A client makes a request when it is asked, and none by itself.

mod azure;
mod batch;
mod clock;
mod connector;
mod gcs;
mod profile;
mod refusal;
mod s3;
mod static_host;
mod transport;
mod variables;

use std::sync::Arc;
use std::time::Duration;

use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{BackoffConfig, ClientOptions, ObjectStore, RetryConfig};
use url::Url;

pub(crate) use clock::Clock;
pub use refusal::Refusal;
pub use variables::Variables;

use connector::Connector;

use crate::failure::Said;
use crate::store::Cause;
use crate::url::{Bucket, Platform, StoreUrl};

/// How often a request is tried again at once after a hiccup. Whoever goes on for longer does so himself, and waits longer.
pub(crate) const RETRIES_MAX: usize = 2;

/// How long the retries of one request may take together.
const RETRIES_PATIENCE: Duration = Duration::from_secs(10);

/// The first wait before a retry, which doubles.
pub(crate) const RETRY_WAIT: Duration = Duration::from_millis(100);

/// The longest wait before a retry.
const RETRY_WAIT_MAX: Duration = Duration::from_secs(1);

/// How long one request may take in all, body included: the largest object over the slowest link that is waited for.
const REQUEST_PATIENCE: Duration = Duration::from_secs(300);

/// How long a connection may take to be made.
const CONNECT_PATIENCE: Duration = Duration::from_secs(5);

/// Why an address and the environment do not make a client.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// A variable that is needed is not set.
    #[error("the environment lacks what this store needs: set {variables}")]
    Missing {
        /// The variables that would do.
        variables: &'static str,
    },
    /// A variable has a value that cannot be used.
    #[error("a variable of the environment cannot be used: {why}. variable=`{variable}`")]
    Unusable {
        /// The variable.
        variable: &'static str,
        /// What is wrong, without the value, which may be a secret.
        why: &'static str,
    },
    /// A profile of the AWS tools that this build cannot use.
    #[error(transparent)]
    Profile(#[from] profile::ProfileError),
    /// The client could not be made of them.
    #[error("the settings in the environment do not make a client")]
    Client(#[source] Cause),
}

impl SettingsError {
    fn client(error: &object_store::Error) -> Self {
        Self::Client(Box::new(Said::by(error)))
    }
}

/// The client for a bucket, or for the part of one that the store is. The clock hears what time its answers state.
pub(crate) fn bucket(
    bucket: &Bucket,
    variables: &Variables,
    clock: &Clock,
) -> Result<Arc<dyn ObjectStore>, SettingsError> {
    let objects = match bucket.platform {
        Platform::Gcs => gcs::client(&bucket.name, variables, clock)?,
        Platform::S3 => s3::client(&bucket.name, variables, clock)?,
        Platform::Azure => azure::client(&bucket.name, variables, clock)?,
    };
    if bucket.prefix.is_empty() {
        return Ok(objects);
    }
    Ok(Arc::new(PrefixStore::new(objects, Path::from(bucket.prefix.as_str()))))
}

/// The client for a static host.
pub(crate) fn static_host(address: &StoreUrl) -> Result<Arc<dyn ObjectStore>, SettingsError> {
    static_host::client(&address.to_string()).map_err(|error| SettingsError::client(&error))
}

/// What every client is told.
fn options() -> ClientOptions {
    ClientOptions::new()
        .with_user_agent(object_store::HeaderValue::from_static(concat!(
            "synddb/",
            env!("CARGO_PKG_VERSION")
        )))
        .with_connect_timeout(CONNECT_PATIENCE)
        .with_timeout(REQUEST_PATIENCE)
}

fn retries() -> RetryConfig {
    RetryConfig {
        backoff: BackoffConfig { init_backoff: RETRY_WAIT, max_backoff: RETRY_WAIT_MAX, base: 2.0 },
        max_retries: RETRIES_MAX,
        retry_timeout: RETRIES_PATIENCE,
    }
}

/// Whether an address given for a service says that it is spoken to without TLS, as emulators are.
fn is_plain(address: &str) -> bool {
    address.starts_with("http://")
}

/// Refuses an address of a service that a client would take and then fail, or panic, to send a request to: `localhost:9000` reads as
/// one of the scheme `localhost`.
fn check_address(variable: &'static str, address: &str) -> Result<(), SettingsError> {
    let is_http = |url: &Url| matches!(url.scheme(), "http" | "https") && url.has_host();
    if address.contains("://") && Url::parse(address).is_ok_and(|url| is_http(&url)) {
        return Ok(());
    }
    let why = "it is no address: write http:// or https:// and a host, as in http://127.0.0.1:9000";
    Err(SettingsError::Unusable { variable, why })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_no_request_can_be_sent_to_are_refused() {
        for address in ["http://127.0.0.1:9000", "https://host", "http://[::1]:9000/a", "http://host/"] {
            assert!(check_address("V", address).is_ok(), "{address}");
        }
        for address in
            ["127.0.0.1:9000", "localhost:9000", "http:host", "http://", "http://::", "s3://host", "host/a"]
        {
            assert!(check_address("V", address).is_err(), "{address}");
        }
    }

    #[test]
    fn each_platform_names_the_variable_that_is_wrong() {
        for (platform, settings) in [
            (Platform::S3, vec![("AWS_ENDPOINT_URL_S3", "localhost:9000")]),
            (Platform::S3, vec![("AWS_ENDPOINT_URL", "127.0.0.1:9000")]),
            (Platform::S3, vec![("AWS_SECRET_ACCESS_KEY", ""), ("AWS_ACCESS_KEY_ID", "key")]),
            (Platform::Gcs, vec![("STORAGE_EMULATOR_HOST", "::")]),
            (
                Platform::Azure,
                vec![("AZURE_STORAGE_CONNECTION_STRING", "AccountName=a;BlobEndpoint=localhost:10000/a")],
            ),
            (
                Platform::Azure,
                vec![("AZURE_STORAGE_ENDPOINT", "localhost:10000"), ("AZURE_STORAGE_ACCOUNT", "a")],
            ),
        ] {
            let variable = settings[0].0;
            let named = Bucket { platform, name: "logs".into(), prefix: String::new() };
            let error =
                bucket(&named, &settings.into_iter().collect(), &Clock::default()).err().unwrap().to_string();
            assert!(error.contains(variable), "{error}");
        }
    }
}
