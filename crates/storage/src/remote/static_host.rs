//! A static host: any server that answers a GET with a file. It is read, and neither written nor listed.

use std::sync::Arc;

use object_store::ObjectStore;
use object_store::http::HttpBuilder;

use super::transport::Redirects;
use super::{Clock, Connector, is_plain, options, retries};

pub(super) fn client(address: &str) -> object_store::Result<Arc<dyn ObjectStore>> {
    let client = HttpBuilder::new()
        .with_url(address)
        .with_retry(retries())
        .with_http_connector(Connector {
            credentials: "nothing: a static host is read without any",
            redirects: Redirects::Followed,
            clock: Clock::default(),
        })
        .with_client_options(options().with_allow_http(is_plain(address)))
        .build()?;
    Ok(Arc::new(client))
}
