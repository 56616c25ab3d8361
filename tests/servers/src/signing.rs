//! Signatures of the administrator of a server, by the providers' published rules: S3's version 4, and Azure's shared access signatures.
//!
//! The product signs with its own client. This is a second, independent implementation, so that a bucket does not come from the code
//! that is tested with it.

use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use sha2::{Digest as _, Sha256};

/// An access key and its secret.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Key<'a> {
    pub(crate) id: &'a str,
    pub(crate) secret: &'a str,
}

/// A request to a service of S3's kind, as far as it is signed.
#[derive(Debug)]
pub(crate) struct Request<'a> {
    pub(crate) service: &'a str,
    pub(crate) host: &'a str,
    pub(crate) method: &'a str,
    /// Escaped.
    pub(crate) path: &'a str,
    /// Escaped, its parameters in order and each with a `=`.
    pub(crate) query: &'a str,
    /// More headers that are signed, their names in lower case.
    pub(crate) headers: &'a [(&'a str, &'a str)],
    pub(crate) body: &'a [u8],
}

/// The region that everything is signed for.
pub(crate) const REGION: &str = "us-east-1";

impl Request<'_> {
    /// The headers to send, with the signature.
    pub(crate) fn signed(&self, key: Key<'_>, now: SystemTime) -> Vec<(String, String)> {
        let time = humantime::format_rfc3339_seconds(now).to_string().replace(['-', ':'], "");
        let day = &time[..8];
        let content = hex(&Sha256::digest(self.body));
        let mut headers: Vec<(String, String)> =
            self.headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        headers.push(("host".to_owned(), self.host.to_owned()));
        headers.push(("x-amz-content-sha256".to_owned(), content.clone()));
        headers.push(("x-amz-date".to_owned(), time.clone()));
        headers.sort();
        let names = headers.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(";");
        let lines: String = headers.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
        let canonical = [self.method, self.path, self.query, &lines, &names, &content].join("\n");
        let scope = format!("{day}/{REGION}/{}/aws4_request", self.service);
        let text = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{}", hex(&Sha256::digest(canonical)));
        let mut signing = mac(format!("AWS4{}", key.secret).as_bytes(), day.as_bytes());
        for part in [REGION, self.service, "aws4_request"] {
            signing = mac(&signing, part.as_bytes());
        }
        let signature = hex(&mac(&signing, text.as_bytes()));
        headers.retain(|(name, _)| name != "host");
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={names}, Signature={signature}",
            key.id
        );
        headers.push(("authorization".to_owned(), authorization));
        headers
    }
}

/// A shared access signature of a whole Azure account, as a query. `permissions` are letters in Azure's order, such as `rl`.
pub(crate) fn shared_access(key: Key<'_>, permissions: &str, now: SystemTime) -> Result<String> {
    let (version, services, kinds) = ("2019-12-12", "b", "sco");
    let end = humantime::format_rfc3339_seconds(now + Duration::from_secs(60 * 60)).to_string();
    let text = format!("{}\n{permissions}\n{services}\n{kinds}\n\n{end}\n\n\n{version}\n", key.id);
    let secret = BASE64_STANDARD.decode(key.secret).context("an account's key is not of base64")?;
    let signature = BASE64_STANDARD.encode(mac(&secret, text.as_bytes()));
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    query.extend_pairs([
        ("sv", version),
        ("ss", services),
        ("srt", kinds),
        ("sp", permissions),
        ("se", &end),
        ("sig", &signature),
    ]);
    Ok(query.finish())
}

/// HMAC over SHA-256 (RFC 2104), for keys of any length.
fn mac(key: &[u8], text: &[u8]) -> [u8; 32] {
    const BLOCK: usize = 64;
    let mut block = [0_u8; BLOCK];
    if key.len() > BLOCK {
        block[..32].copy_from_slice(&Sha256::digest(key));
    } else {
        block[..key.len()].copy_from_slice(key);
    }
    let padded = |with: u8| block.map(|byte| byte ^ with);
    let inner = Sha256::new().chain_update(padded(0x36)).chain_update(text).finalize();
    Sha256::new().chain_update(padded(0x5c)).chain_update(inner).finalize().into()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 4231, test cases 2 and 6.
    #[test]
    fn macs_are_those_of_the_standard() {
        let short = mac(b"Jefe", b"what do ya want for nothing?");
        assert_eq!(hex(&short), "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
        let long = mac(&[0xaa; 131], b"Test Using Larger Than Block-Size Key - Hash Key First");
        assert_eq!(hex(&long), "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
    }
}
