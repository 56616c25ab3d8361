//! How a connection begins.

use std::io::{self, Cursor};
use std::time::Duration;

use tokio::io::{
    AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, Chain, Join, ReadHalf, WriteHalf,
};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::either::Either;

use super::config::{TlsConfig, TlsError, TlsFiles};
use crate::credentials::Fingerprint;
use crate::reloaded::Reloaded;

/// How long a handshake may take with everything. Nothing else bounds handshakes of their own: whoever is in the middle of one owes
/// the head of a request, so seats bound how many there are, and who comes takes the seat of whoever has been at it for longest.
const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(10);

/// How long a client may take to read why it is not served, and what it may send meanwhile, in bytes.
const FAREWELL_TIME_MAX: Duration = Duration::from_secs(1);
const FAREWELL_BYTES_MAX: u64 = 1 << 20;

/// What who speaks plain HTTP to a port of TLS is told, in plain HTTP.
const NO_TLS: &str = concat!(
    r#"{"type":"/problems/malformed","title":"The body cannot be read","status":400,"#,
    r#""detail":"this port speaks TLS; write https:// in the URL","code":"malformed"}"#
);

/// The first byte of TLS: a record that holds a part of a handshake (RFC 8446, section 5.1).
const HANDSHAKE_RECORD: u8 = 22;

/// The certificate that the client of a connection showed, as an extension of its requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerCertificate(pub Fingerprint);

/// What connections of a listener speak below HTTP.
#[derive(Debug, Clone)]
pub enum Transport {
    /// Nothing.
    Plain,
    /// TLS, with what is shown to clients.
    Tls(Files),
}

/// The files of a listener.
#[derive(Debug, Clone)]
pub struct Files(Reloaded<TlsFiles>);

/// A stream whose first byte was looked at.
type Looked<S> = Join<Chain<Cursor<[u8; 1]>, ReadHalf<S>>, WriteHalf<S>>;

/// What a connection became.
pub(in crate::http) type Begun<S> = (Either<S, TlsStream<Looked<S>>>, Option<PeerCertificate>);

impl Transport {
    /// TLS where it is configured.
    ///
    /// # Errors
    /// [`TlsError`]: without a first good certificate nobody could be served.
    pub fn open(config: Option<&TlsConfig>) -> Result<Self, TlsError> {
        let Some(config) = config else { return Ok(Self::Plain) };
        Ok(Self::Tls(Files(Reloaded::open(TlsFiles(config.clone()))?)))
    }

    /// The scheme of URLs that lead here.
    pub const fn scheme(&self) -> &'static str {
        match self {
            Self::Plain => "http",
            Self::Tls(_) => "https",
        }
    }

    /// Begins a connection.
    ///
    /// # Errors
    /// When the client speaks something else, is not accepted, or takes too long. That is its affair.
    pub(in crate::http) async fn begin<S>(&self, stream: S) -> io::Result<Begun<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let Self::Tls(files) = self else { return Ok((Either::Left(stream), None)) };
        let shaken = match timeout(HANDSHAKE_TIME_MAX, shake_hands(stream, files)).await {
            Ok(shaken) => shaken,
            Err(late) => Err(late.into()),
        };
        let stream = shaken.inspect_err(|error| {
            metrics::counter!("synddb_http_handshakes_failed_total").increment(1);
            tracing::debug!(%error, "a client's handshake failed");
        })?;
        let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
        let peer = certificate.map(|certificate| PeerCertificate(Fingerprint::of(certificate)));
        Ok((Either::Right(stream), peer))
    }
}

async fn shake_hands<S>(mut stream: S, files: &Files) -> io::Result<TlsStream<Looked<S>>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let first = stream.read_u8().await?;
    if first != HANDSHAKE_RECORD {
        if first.is_ascii_uppercase() {
            let answer = format!(
                "HTTP/1.1 400 Bad Request\r\ncontent-type: application/problem+json\r\nconnection: close\r\n\
                 content-length: {}\r\n\r\n{NO_TLS}",
                NO_TLS.len()
            );
            farewell(stream, answer.as_bytes()).await;
        }
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the client does not speak TLS"));
    }
    let (reading, writing) = tokio::io::split(stream);
    let stream = tokio::io::join(Cursor::new([first]).chain(reading), writing);
    let config = files.0.now().await;
    match TlsAcceptor::from(config).accept(stream).into_fallible().await {
        Ok(stream) => Ok(stream),
        Err((error, stream)) => {
            // Why is said already, in an alert.
            farewell(stream, &[]).await;
            Err(error)
        }
    }
}

/// Says the last words, and reads on until the client has seen them: who is closed upon while sending sees nothing.
async fn farewell<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, words: &[u8]) {
    let said = async {
        stream.write_all(words).await?;
        stream.shutdown().await?;
        tokio::io::copy(&mut stream.take(FAREWELL_BYTES_MAX), &mut tokio::io::sink()).await
    };
    // Who does not listen is closed upon.
    timeout(FAREWELL_TIME_MAX, said).await.ok();
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use rustls::crypto::ring;
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject as _;
    use rustls::{ClientConfig, RootCertStore};
    use synddb_servers::Authority;
    use tokio::io::{DuplexStream, duplex};
    use tokio_rustls::TlsConnector;

    use super::super::ClientCertificates;
    use super::*;

    fn transport(folder: &Path) -> Transport {
        transport_of(&Authority::new("ours").unwrap(), folder)
    }

    fn transport_of(authority: &Authority, folder: &Path) -> Transport {
        let pair = authority.server().unwrap();
        let (certificate_file, key_file) = pair.write(folder, "server").unwrap();
        let config = TlsConfig { certificate_file, key_file, clients: ClientCertificates::Unasked };
        Transport::open(Some(&config)).unwrap()
    }

    async fn begin(transport: &Transport, stream: DuplexStream) -> io::Error {
        transport.begin(stream).await.map(|_| ()).unwrap_err()
    }

    #[tokio::test(start_paused = true)]
    async fn who_says_nothing_or_stops_in_the_middle_is_let_go() {
        let folder = tempfile::tempdir().unwrap();
        let transport = transport(folder.path());
        for said in [&[][..], &[HANDSHAKE_RECORD], &[HANDSHAKE_RECORD, 3, 1]] {
            let (mut client, stream) = duplex(64);
            client.write_all(said).await.unwrap();
            let begun = tokio::time::Instant::now();
            assert_eq!(begin(&transport, stream).await.kind(), io::ErrorKind::TimedOut);
            assert_eq!(begun.elapsed(), HANDSHAKE_TIME_MAX);
        }
    }

    /// A client that takes the server's certificate.
    fn connector(authority: &Authority) -> TlsConnector {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(authority.pem().as_bytes()).unwrap()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        TlsConnector::from(Arc::new(config))
    }

    #[tokio::test(start_paused = true)]
    async fn who_begins_a_handshake_and_stops_keeps_nobody_out() {
        const STOPPED: usize = 1024;
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::new("ours").unwrap();
        let transport = transport_of(&authority, folder.path());
        let mut stopped = Vec::new();
        for _ in 0..STOPPED {
            let (mut client, stream) = duplex(64);
            client.write_all(&[HANDSHAKE_RECORD]).await.unwrap();
            let transport = transport.clone();
            stopped.push((client, tokio::spawn(async move { transport.begin(stream).await.map(|_| ()) })));
        }
        tokio::task::yield_now().await;
        let (client, stream) = duplex(4096);
        let name = "localhost".try_into().unwrap();
        let connecting = connector(&authority).connect(name, client);
        let (served, begun) = tokio::join!(connecting, transport.begin(stream));
        served.unwrap();
        begun.unwrap();
        for (_client, begun) in stopped {
            assert!(!begun.is_finished(), "it is in the middle still");
            begun.abort();
        }
    }

    #[tokio::test]
    async fn plain_http_is_told_and_anything_else_is_closed_upon() {
        let folder = tempfile::tempdir().unwrap();
        let transport = transport(folder.path());
        for (said, answer) in [("GET / HTTP/1.1\r\n\r\n", "write https://"), ("\u{0}\u{1}\u{2}", "")] {
            let (mut client, stream) = duplex(4096);
            client.write_all(said.as_bytes()).await.unwrap();
            let mut heard = String::new();
            let (error, heard) = tokio::join!(begin(&transport, stream), async {
                client.read_to_string(&mut heard).await.unwrap();
                drop(client);
                heard
            });
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
            assert!(heard.contains(answer) && heard.is_empty() == answer.is_empty(), "{heard}");
        }
    }
}
