//! Amazon S3, and what speaks its protocol.
//!
//! Credentials are found as the AWS tools find them: the variables, a web identity, the shared files and the profile in them, a
//! container's, the metadata service of the machine. `AWS_ENDPOINT_URL_S3` or `AWS_ENDPOINT_URL` leads to another server. Encryption
//! is set by the variables that begin with `AWS_SERVER_SIDE_ENCRYPTION` and `AWS_SSE_`.
//!
//! Every put carries a checksum, without which a bucket with object lock refuses it, and puts and leases are conditional by entity
//! tag.

use std::sync::Arc;

use object_store::ObjectStore;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, Checksum, S3ConditionalPut};

use super::profile::Profile;
use super::transport::Redirects;
use super::{Clock, Connector, SettingsError, Variables, check_address, is_plain, options, retries};

/// The variables by which credentials can be given.
const CREDENTIALS: &str = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE";

/// Half of a pair of keys, which the other half needs.
const ID: &str = "AWS_ACCESS_KEY_ID beside AWS_SECRET_ACCESS_KEY";

/// The other half.
const SECRET: &str = "AWS_SECRET_ACCESS_KEY beside AWS_ACCESS_KEY_ID";

/// The variables that lead to another server. The first one that is set counts.
const ENDPOINTS: [&str; 3] = ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"];

pub(super) fn client(
    bucket: &str,
    variables: &Variables,
    clock: &Clock,
) -> Result<Arc<dyn ObjectStore>, SettingsError> {
    let endpoint = ENDPOINTS.iter().find_map(|name| Some((*name, variables.get(name)?)));
    if let Some((variable, address)) = endpoint {
        check_address(variable, address)?;
    }
    match (variables.get("AWS_ACCESS_KEY_ID"), variables.get("AWS_SECRET_ACCESS_KEY")) {
        (Some(_), None) => return Err(SettingsError::Missing { variables: SECRET }),
        (None, Some(_)) => return Err(SettingsError::Missing { variables: ID }),
        (Some(_), Some(_)) | (None, None) => {}
    }
    let mut builder = AmazonS3Builder::new()
        .with_retry(retries())
        .with_http_connector(Connector {
            credentials: CREDENTIALS,
            redirects: Redirects::Refused,
            clock: clock.clone(),
        })
        .with_client_options(
            options().with_allow_http(endpoint.is_some_and(|(_, address)| is_plain(address))),
        );
    let profile = Profile::read(variables)?;
    if let Some(region) = profile.region() {
        builder = builder.with_region(region);
    }
    if let Some(keys) = profile.keys() {
        builder = builder.with_access_key_id(&keys.id).with_secret_access_key(&keys.secret);
        if let Some(token) = &keys.token {
            builder = builder.with_token(token);
        }
    }
    // What the files say gives way to the variables. Names that this client does not know are other tools'.
    for (name, value) in variables.beginning_with("AWS_") {
        if let Ok(key) = name.parse::<AmazonS3ConfigKey>() {
            builder = builder.with_config(key, value);
        }
    }
    if builder.get_config_value(&AmazonS3ConfigKey::Checksum).is_none() {
        builder = builder.with_checksum_algorithm(Checksum::SHA256);
    }
    // Removed one by one: the request for many at once is not known to every server, and its answer hides what was refused of one.
    let builder = builder.with_disable_bulk_delete(true);
    let builder = builder.with_conditional_put(S3ConditionalPut::ETagMatch).with_bucket_name(bucket);
    Ok(Arc::new(builder.build().map_err(|error| SettingsError::client(&error))?))
}
