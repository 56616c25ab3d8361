//! Google Cloud Storage.
//!
//! Credentials are those of a service account that `GOOGLE_SERVICE_ACCOUNT` or `GOOGLE_SERVICE_ACCOUNT_KEY` gives, otherwise Google's
//! application default credentials: the file that `GOOGLE_APPLICATION_CREDENTIALS` names, then that of `gcloud auth
//! application-default login`, then the metadata server of the machine. `STORAGE_EMULATOR_HOST` leads to an emulator, to which nobody's
//! credentials are sent.

use std::sync::Arc;

use object_store::gcp::{GcpCredential, GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::{ObjectStore, StaticCredentialProvider};

use super::transport::Redirects;
use super::{Clock, Connector, SettingsError, Variables, check_address, is_plain, options, retries};

/// The variables by which credentials can be given.
const CREDENTIALS: &str = "GOOGLE_APPLICATION_CREDENTIALS to the file of a service account";

pub(super) fn client(
    bucket: &str,
    variables: &Variables,
    clock: &Clock,
) -> Result<Arc<dyn ObjectStore>, SettingsError> {
    let emulator = variables.get("STORAGE_EMULATOR_HOST").map(|host| {
        let host = host.trim_end_matches('/');
        if host.contains("://") { host.to_owned() } else { format!("http://{host}") }
    });
    if let Some(emulator) = &emulator {
        check_address("STORAGE_EMULATOR_HOST", emulator)?;
    }
    let plain = emulator.as_deref().is_some_and(is_plain);
    let mut builder = GoogleCloudStorageBuilder::new()
        .with_retry(retries())
        .with_http_connector(Connector {
            credentials: CREDENTIALS,
            redirects: Redirects::Refused,
            clock: clock.clone(),
        })
        .with_client_options(options().with_allow_http(plain));
    for (name, value) in variables.beginning_with("GOOGLE_") {
        if let Ok(key) = name.parse::<GoogleConfigKey>() {
            builder = builder.with_config(key, value);
        }
    }
    if let Some(emulator) = &emulator {
        // Without any the client would look for some, wherever the emulator runs.
        let none = StaticCredentialProvider::new(GcpCredential { bearer: "none".to_owned() });
        builder = builder.with_base_url(emulator).with_skip_signature(true).with_credentials(Arc::new(none));
    }
    let client = builder.with_bucket_name(bucket).build().map_err(|error| SettingsError::client(&error))?;
    Ok(Arc::new(client))
}
