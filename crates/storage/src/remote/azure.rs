//! Azure Blob Storage.
//!
//! The account comes from `AZURE_STORAGE_CONNECTION_STRING`, or from `AZURE_STORAGE_ACCOUNT` with a key, a shared access signature, a
//! service principal or a workload identity in the variables of the Azure tools; then from the managed identity of the machine. An
//! emulator is reached by a connection string with its `BlobEndpoint`, or with `UseDevelopmentStorage=true`.

use std::sync::Arc;

use object_store::ObjectStore;
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};

use super::transport::Redirects;
use super::{Clock, Connector, SettingsError, Variables, check_address, is_plain, options, retries};

/// The variables by which credentials can be given.
const CREDENTIALS: &str = "AZURE_STORAGE_CONNECTION_STRING, or AZURE_STORAGE_ACCOUNT with AZURE_STORAGE_KEY";

/// The variable that says everything at once.
const CONNECTION: &str = "AZURE_STORAGE_CONNECTION_STRING";

/// Account, key and address of the emulator, which are the same everywhere and no secret.
const EMULATOR: [(AzureConfigKey, &str); 3] = [
    (AzureConfigKey::AccountName, "devstoreaccount1"),
    (
        AzureConfigKey::AccessKey,
        "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==",
    ),
    (AzureConfigKey::Endpoint, "http://127.0.0.1:10000/devstoreaccount1"),
];

pub(super) fn client(
    container: &str,
    variables: &Variables,
    clock: &Clock,
) -> Result<Arc<dyn ObjectStore>, SettingsError> {
    let mut settings: Vec<(AzureConfigKey, String)> = Vec::new();
    for (name, value) in variables.beginning_with("AZURE_") {
        // The names that the Azure command line has for them.
        let name = match name.as_str() {
            "azure_storage_account" => "azure_storage_account_name",
            "azure_storage_key" => "azure_storage_account_key",
            "azure_storage_service_endpoint" => "azure_storage_endpoint",
            other => other,
        };
        if let Ok(key) = name.parse() {
            if key == AzureConfigKey::Endpoint {
                check_address("AZURE_STORAGE_ENDPOINT", value)?;
            }
            settings.push((key, value.to_owned()));
        }
    }
    if let Some(identity) = variables.get("IDENTITY_ENDPOINT") {
        settings.push((AzureConfigKey::MsiEndpoint, identity.to_owned()));
    }
    if let Some(connection) = variables.get(CONNECTION) {
        let connection = of_connection(connection)?;
        if let Some((_, address)) = connection.iter().find(|(key, _)| *key == AzureConfigKey::Endpoint) {
            check_address(CONNECTION, address)?;
        }
        settings.extend(connection);
    }
    let has = |wanted: AzureConfigKey| settings.iter().any(|(key, _)| *key == wanted);
    if !has(AzureConfigKey::AccountName) && !has(AzureConfigKey::UseEmulator) {
        return Err(SettingsError::Missing { variables: CREDENTIALS });
    }
    let plain = settings.iter().any(|(key, value)| *key == AzureConfigKey::Endpoint && is_plain(value));
    let mut builder = MicrosoftAzureBuilder::new()
        .with_retry(retries())
        .with_http_connector(Connector {
            credentials: CREDENTIALS,
            redirects: Redirects::Refused,
            clock: clock.clone(),
        })
        .with_client_options(options().with_allow_http(plain));
    for (key, value) in settings {
        builder = builder.with_config(key, value);
    }
    let client =
        builder.with_container_name(container).build().map_err(|error| SettingsError::client(&error))?;
    Ok(Arc::new(client))
}

/// What a connection string says. Parts that are about other services are left out.
fn of_connection(text: &str) -> Result<Vec<(AzureConfigKey, String)>, SettingsError> {
    let unusable = |why| SettingsError::Unusable { variable: CONNECTION, why };
    let mut settings = Vec::new();
    let (mut suffix, mut scheme, mut account) = ("core.windows.net", "https", None);
    for part in text.split(';').map(str::trim).filter(|part| !part.is_empty()) {
        // A key ends in `=`, so only the first one parts.
        let (name, value) = part.split_once('=').ok_or_else(|| unusable("a part of it has no `=`"))?;
        match name.trim().to_ascii_lowercase().as_str() {
            "usedevelopmentstorage" if value.eq_ignore_ascii_case("true") => {
                return Ok(EMULATOR.map(|(key, value)| (key, value.to_owned())).into());
            }
            "accountname" => account = Some(value),
            "accountkey" => settings.push((AzureConfigKey::AccessKey, value.to_owned())),
            "sharedaccesssignature" => settings.push((AzureConfigKey::SasKey, value.to_owned())),
            // Its parameters would be a shared access signature, and stand in every message about a request.
            "blobendpoint" if value.contains('?') => {
                return Err(unusable("its BlobEndpoint has parameters: name them as SharedAccessSignature"));
            }
            "blobendpoint" => {
                settings.push((AzureConfigKey::Endpoint, value.trim_end_matches('/').to_owned()))
            }
            "endpointsuffix" => suffix = value,
            "defaultendpointsprotocol" => scheme = value,
            _ => {}
        }
    }
    let has_endpoint = settings.iter().any(|(key, _)| *key == AzureConfigKey::Endpoint);
    match account {
        Some(account) => {
            settings.push((AzureConfigKey::AccountName, account.to_owned()));
            if !has_endpoint {
                settings.push((AzureConfigKey::Endpoint, format!("{scheme}://{account}.blob.{suffix}")));
            }
        }
        // A shared access signature needs no account, but the client asks for a name.
        None if has_endpoint => settings.push((AzureConfigKey::AccountName, "account".to_owned())),
        None => return Err(unusable("it has neither AccountName nor BlobEndpoint")),
    }
    Ok(settings)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setting(text: &str, wanted: AzureConfigKey) -> Option<String> {
        of_connection(text).unwrap().into_iter().find(|(key, _)| *key == wanted).map(|(_, value)| value)
    }

    #[test]
    fn connection_strings_are_understood() {
        let text =
            "DefaultEndpointsProtocol=https;AccountName=a;AccountKey=a2V5==;EndpointSuffix=core.windows.net";
        assert_eq!(setting(text, AzureConfigKey::AccessKey).as_deref(), Some("a2V5=="));
        assert_eq!(
            setting(text, AzureConfigKey::Endpoint).as_deref(),
            Some("https://a.blob.core.windows.net")
        );
        let text = "AccountName=a;AccountKey=k;BlobEndpoint=http://127.0.0.1:7/a/;QueueEndpoint=http://127.0.0.1:8/a";
        assert_eq!(setting(text, AzureConfigKey::Endpoint).as_deref(), Some("http://127.0.0.1:7/a"));
        let text = "BlobEndpoint=https://a.blob.core.windows.net;SharedAccessSignature=sv=1&sig=x%3D";
        assert_eq!(setting(text, AzureConfigKey::SasKey).as_deref(), Some("sv=1&sig=x%3D"));
        assert_eq!(
            setting("UseDevelopmentStorage=true", AzureConfigKey::AccountName).as_deref(),
            Some("devstoreaccount1")
        );
    }

    #[test]
    fn a_wrong_connection_string_is_refused_without_its_text() {
        for text in [
            "secret",
            "AccountKey=secret",
            "AccountName=a;BlobEndpoint=https://a/?sig=secret",
            "DefaultEndpointsProtocol=https;secret",
        ] {
            let error = of_connection(text).unwrap_err().to_string();
            assert!(error.contains(CONNECTION) && !error.contains("secret"), "{error}");
        }
        let missing = client("c", &Variables::default(), &Clock::default()).err().unwrap().to_string();
        assert!(missing.contains(CONNECTION), "{missing}");
    }
}
