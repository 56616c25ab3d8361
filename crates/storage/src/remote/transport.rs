//! The connections under the remote stores.
//!
//! `object_store` would make the client itself, and that one goes wherever an answer leads. For a bucket this must not be: after a 303 a
//! put goes on as a get, and the page that is found there would count as the object created; and what is sent along is more than a
//! signature (session tokens, encryption keys, and in the `Referer` a shared access signature). So whoever leads elsewhere is not followed,
//! and that is an error like any other. A static host is followed: it is sent nothing, and every byte of its answer is verified.
//!
//! What must stay true: no bucket's answer is that of another address than the one asked.

use std::time::Duration;

use object_store::client::ClientConfigKey;
use object_store::{ClientOptions, Error};
use reqwest::redirect::Policy;

use super::{CONNECT_PATIENCE, REQUEST_PATIENCE};

/// How often a static host may lead elsewhere before it has to answer.
const REDIRECTS_MAX: usize = 3;

/// Where to a client goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Redirects {
    /// To the address that was asked, and to no other.
    Refused,
    /// Also to where that leads.
    Followed,
}

/// Makes the client. Proxies are those of the environment.
pub(super) fn client(options: &ClientOptions, redirects: Redirects) -> object_store::Result<reqwest::Client> {
    made(builder(options, redirects))
}

/// Makes the client for metadata services. A proxy would be asked for the credentials of this machine: it would see them, or give its own.
pub(super) fn nearby(options: &ClientOptions) -> object_store::Result<reqwest::Client> {
    made(builder(options, Redirects::Refused).no_proxy())
}

fn made(builder: reqwest::ClientBuilder) -> object_store::Result<reqwest::Client> {
    builder.build().map_err(|error| Error::Generic { store: "HTTP", source: Box::new(error) })
}

fn builder(options: &ClientOptions, redirects: Redirects) -> reqwest::ClientBuilder {
    let is_set = |key| options.get_config_value(&key).is_some_and(|value| value == "true");
    // Metadata services are given less time to be there, which arrives here as a text such as `1s`.
    let connect = options.get_config_value(&ClientConfigKey::ConnectTimeout);
    let connect = connect.and_then(|text| text.strip_suffix('s')?.parse().ok()).map(Duration::from_secs);
    reqwest::Client::builder()
        .user_agent(options.get_config_value(&ClientConfigKey::UserAgent).unwrap_or_default())
        .redirect(match redirects {
            Redirects::Refused => Policy::none(),
            Redirects::Followed => Policy::limited(REDIRECTS_MAX),
        })
        .referer(false)
        .https_only(!is_set(ClientConfigKey::AllowHttp))
        .connect_timeout(connect.map_or(CONNECT_PATIENCE, |connect| connect.min(CONNECT_PATIENCE)))
        .timeout(REQUEST_PATIENCE)
        .http1_only()
        .no_gzip()
        .no_brotli()
        .no_zstd()
        .no_deflate()
}
