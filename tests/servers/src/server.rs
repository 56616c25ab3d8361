//! The three object stores.

use std::net::SocketAddr;
use std::path::Path;
use std::time::SystemTime;

use anyhow::{Context as _, Result};

use crate::ask::{Answer, ask};
use crate::child::Server;
use crate::front;
use crate::listener::Listener;
use crate::port::Port;
use crate::programs::{Program, need};
use crate::signing::{Key, REGION, Request, shared_access};

/// Whose protocol a server speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Platform {
    /// Google Cloud Storage: `gs://`.
    Gcs,
    /// S3: `s3://`.
    S3,
    /// Azure Blob Storage: `az://`.
    Azure,
}

/// The administrator of an S3 server.
const S3: Key<'static> = Key { id: "synddb-tests", secret: "a-secret-that-is-none" };

/// The account of an Azure server. Azurite takes the secret as it is told.
const AZURE: Key<'static> =
    Key { id: "devstoreaccount1", secret: "YSBzZWNyZXQgdGhhdCBpcyBub25lLCBvZiBiYXNlNjQ=" };

impl Platform {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Gcs, Self::S3, Self::Azure];

    /// The program that its server is.
    #[must_use]
    pub const fn program(self) -> Program {
        match self {
            Self::Gcs => Program::FakeGcs,
            Self::S3 => Program::Minio,
            Self::Azure => Program::Azurite,
        }
    }

    /// Whether a test may go on that needs this server: see [`need`].
    ///
    /// # Panics
    /// When its program is missing in CI.
    #[must_use]
    pub fn is_here(self) -> bool {
        need(self.program())
    }

    /// The address of a bucket.
    #[must_use]
    pub fn url(self, bucket: &str) -> String {
        match self {
            Self::Gcs => format!("gs://{bucket}"),
            Self::S3 => format!("s3://{bucket}"),
            Self::Azure => format!("az://{bucket}"),
        }
    }
}

/// A server of its own, empty at its start, that is killed when this value or its process ends.
#[derive(Debug)]
pub struct ObjectServer {
    platform: Platform,
    server: Server,
    /// Where the server itself listens.
    port: Port,
    /// What stands before it, where something has to.
    front: Option<Listener>,
}

impl ObjectServer {
    /// Starts a server.
    ///
    /// # Errors
    /// When it does not start, with what it said.
    pub fn start(platform: Platform) -> Result<Self> {
        Self::start_with(platform, &[])
    }

    /// The same, with more in the server's environment.
    ///
    /// # Errors
    /// Those of [`start`](Self::start).
    pub fn start_with(platform: Platform, environment: &[(&str, &str)]) -> Result<Self> {
        let program = platform.program().find()?;
        let port = Port::take()?;
        let address = port.address();
        let (server, probe) = match platform {
            Platform::Gcs => (fake_gcs(&program, address, environment)?, "/_internal/healthcheck"),
            Platform::S3 => (minio(&program, address, environment)?, "/minio/health/cluster"),
            Platform::Azure => (azurite(&program, address, environment)?, "/"),
        };
        // Azurite refuses everybody who does not sign, but it answers.
        let is_ready = |status: u16| status == 200 || (platform == Platform::Azure && status < 500);
        server.wait_until(address, || {
            ask(address, "GET", probe, &[], b"").is_ok_and(|answer| is_ready(answer.status))
        })?;
        let front = (platform == Platform::Gcs).then(|| front::before(address)).transpose()?;
        Ok(Self { platform, server, port, front })
    }

    /// Whose protocol it speaks.
    #[must_use]
    pub const fn platform(&self) -> Platform {
        self.platform
    }

    /// Where clients connect.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.front.as_ref().map_or(self.port.address(), Listener::address)
    }

    /// Makes a bucket, or what the platform calls so.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn bucket(&self, name: &str) -> Result<()> {
        let made = match self.platform {
            Platform::Gcs => {
                let headers = [("content-type".to_owned(), "application/json".to_owned())];
                let body = serde_json::json!({ "name": name }).to_string();
                ask(self.port.address(), "POST", "/storage/v1/b?project=synddb", &headers, body.as_bytes())
            }
            Platform::S3 => self.ask("PUT", &format!("/{name}"), "", &[], b""),
            Platform::Azure => self.ask("PUT", &format!("/{name}"), "restype=container", &[], b""),
        };
        made.and_then(Answer::succeeded).with_context(|| format!("cannot make bucket. name=`{name}`"))?;
        Ok(())
    }

    /// Removes a bucket with all that is in it: on S3 it must be empty.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn remove_bucket(&self, name: &str) -> Result<()> {
        let removed = match self.platform {
            Platform::Gcs => ask(self.port.address(), "DELETE", &format!("/storage/v1/b/{name}"), &[], b""),
            Platform::S3 => self.ask("DELETE", &format!("/{name}"), "", &[], b""),
            Platform::Azure => self.ask("DELETE", &format!("/{name}"), "restype=container", &[], b""),
        };
        removed
            .and_then(Answer::succeeded)
            .with_context(|| format!("cannot remove bucket. name=`{name}`"))?;
        Ok(())
    }

    /// Sends a request as the server's administrator: for what the product never does, such as removing an object. The path begins
    /// with the bucket; the query is escaped, its parameters are in order and each has a `=`; names of headers are in lower case.
    ///
    /// # Errors
    /// When there is no answer. What it says is the caller's to judge.
    pub fn ask(
        &self,
        method: &str,
        path: &str,
        query: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Answer> {
        let plain = |headers: &[(&str, &str)]| -> Vec<(String, String)> {
            headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        let with = |path: &str, query: &str| {
            if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") }
        };
        let now = SystemTime::now();
        match self.platform {
            Platform::Gcs => ask(self.address(), method, &with(path, query), &plain(headers), body),
            Platform::S3 => {
                let host = self.address().to_string();
                let request = Request { service: "s3", host: &host, method, path, query, headers, body };
                ask(self.address(), method, &with(path, query), &request.signed(S3, now), body)
            }
            Platform::Azure => {
                let access = shared_access(AZURE, "rwdlac", now)?;
                let query = if query.is_empty() { access } else { format!("{query}&{access}") };
                ask(self.address(), method, &format!("/{}{path}?{query}", AZURE.id), &plain(headers), body)
            }
        }
    }

    /// The address of a bucket, as the product takes it.
    #[must_use]
    pub fn url(&self, bucket: &str) -> String {
        self.platform.url(bucket)
    }

    /// The environment of a client that talks to this server.
    #[must_use]
    pub fn variables(&self) -> Vec<(String, String)> {
        self.variables_at(self.address())
    }

    /// The same for a client that finds it at another address, such as a proxy's.
    #[must_use]
    pub fn variables_at(&self, address: SocketAddr) -> Vec<(String, String)> {
        match self.platform {
            Platform::Gcs => named(&[("STORAGE_EMULATOR_HOST", &format!("http://{address}"))]),
            Platform::S3 => s3_variables(address, S3, &[]),
            Platform::Azure => azure_variables(address, &format!("AccountKey={}", AZURE.secret)),
        }
    }

    /// The environment of a client of one bucket whose requests are not signed, so that they survive a proxy that changes them. On S3
    /// the bucket is opened to everybody for it.
    ///
    /// # Errors
    /// When the server refuses to open the bucket.
    pub fn variables_unsigned_at(&self, bucket: &str, address: SocketAddr) -> Result<Vec<(String, String)>> {
        match self.platform {
            Platform::Gcs => Ok(self.variables_at(address)),
            Platform::S3 => {
                let policy = serde_json::json!({
                    "Version": "2012-10-17",
                    "Statement": [{
                        "Effect": "Allow", "Principal": { "AWS": ["*"] }, "Action": ["s3:*"],
                        "Resource": [format!("arn:aws:s3:::{bucket}"), format!("arn:aws:s3:::{bucket}/*")],
                    }],
                });
                let put =
                    self.ask("PUT", &format!("/{bucket}"), "policy=", &[], policy.to_string().as_bytes());
                put.and_then(Answer::succeeded).context("cannot open a bucket to everybody")?;
                let endpoint = format!("http://{address}");
                Ok(named(&[
                    ("AWS_ENDPOINT_URL_S3", &endpoint),
                    ("AWS_REGION", REGION),
                    ("AWS_SKIP_SIGNATURE", "true"),
                ]))
            }
            Platform::Azure => {
                let access = shared_access(AZURE, "rwdlac", SystemTime::now())?;
                Ok(azure_variables(address, &format!("SharedAccessSignature={access}")))
            }
        }
    }

    /// The environment of a client that may read and list, and not write. `None` for Google Cloud Storage, whose stand-in knows no
    /// permissions.
    ///
    /// # Errors
    /// When the server does not give out such rights.
    pub fn variables_of_reader(&self) -> Result<Option<Vec<(String, String)>>> {
        match self.platform {
            Platform::Gcs => Ok(None),
            Platform::S3 => self.session_of_reader().map(Some),
            Platform::Azure => {
                let access = shared_access(AZURE, "rl", SystemTime::now())?;
                Ok(Some(azure_variables(self.address(), &format!("SharedAccessSignature={access}"))))
            }
        }
    }

    /// A session of the administrator that may do less than he.
    fn session_of_reader(&self) -> Result<Vec<(String, String)>> {
        let policy = serde_json::json!({
            "Version": "2012-10-17",
            "Statement": [{
                "Effect": "Allow", "Action": ["s3:GetObject", "s3:ListBucket"], "Resource": ["arn:aws:s3:::*"],
            }],
        });
        let mut form = url::form_urlencoded::Serializer::new(String::new());
        form.extend_pairs([("Action", "AssumeRole"), ("Version", "2011-06-15"), ("DurationSeconds", "3600")]);
        form.append_pair("Policy", &policy.to_string());
        let (body, host) = (form.finish(), self.address().to_string());
        let headers = [("content-type", "application/x-www-form-urlencoded")];
        let request = Request {
            service: "sts",
            host: &host,
            method: "POST",
            path: "/",
            query: "",
            headers: &headers,
            body: body.as_bytes(),
        };
        let signed = request.signed(S3, SystemTime::now());
        let text = ask(self.address(), "POST", "/", &signed, body.as_bytes())?.succeeded()?.text();
        let within = |tag: &str| -> Result<String> {
            let found = text.split_once(&format!("<{tag}>")).and_then(|(_, rest)| rest.split_once("</"));
            Ok(found
                .with_context(|| format!("a session lacks a part. part=`{tag}` answer=`{text}`"))?
                .0
                .to_owned())
        };
        let (id, secret, token) =
            (within("AccessKeyId")?, within("SecretAccessKey")?, within("SessionToken")?);
        Ok(s3_variables(self.address(), Key { id: &id, secret: &secret }, &[("AWS_SESSION_TOKEN", &token)]))
    }

    /// Where the server keeps what it keeps. The folder goes when the server does.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.server.folder()
    }

    /// What the server said last, for the person who reads of a failure.
    #[must_use]
    pub fn output(&self) -> String {
        self.server.output()
    }
}

fn fake_gcs(program: &Path, address: SocketAddr, environment: &[(&str, &str)]) -> Result<Server> {
    let port = address.port().to_string();
    let arguments = ["-scheme", "http", "-host", "127.0.0.1", "-port", &port, "-backend", "memory"];
    Server::start(program, |_| Ok(arguments.to_vec()), environment)
}

fn minio(program: &Path, address: SocketAddr, environment: &[(&str, &str)]) -> Result<Server> {
    let mut variables = vec![
        ("MINIO_ROOT_USER", S3.id),
        ("MINIO_ROOT_PASSWORD", S3.secret),
        ("MINIO_REGION", REGION),
        ("MINIO_BROWSER", "off"),
        ("MINIO_UPDATE", "off"),
        // Lets the data lie on the disk of the system.
        ("MINIO_CI_CD", "on"),
    ];
    variables.extend_from_slice(environment);
    let arguments = |folder: &Path| {
        let data = folder.join("data");
        std::fs::create_dir(&data).context("cannot make the folder of a server")?;
        let address = address.to_string();
        Ok(vec!["server".into(), "--address".into(), address.into(), data.into_os_string()])
    };
    Server::start(program, arguments, &variables)
}

fn azurite(program: &Path, address: SocketAddr, environment: &[(&str, &str)]) -> Result<Server> {
    let account = format!("{}:{}", AZURE.id, AZURE.secret);
    let mut variables = vec![("AZURITE_ACCOUNTS", account.as_str())];
    variables.extend_from_slice(environment);
    let (host, port) = (address.ip().to_string(), address.port().to_string());
    let mut arguments = vec!["--blobHost", &host, "--blobPort", &port, "--inMemoryPersistence"];
    arguments.extend(["--skipApiVersionCheck", "--disableTelemetry"]);
    Server::start(program, |_| Ok(arguments), &variables)
}

fn s3_variables(address: SocketAddr, key: Key<'_>, more: &[(&str, &str)]) -> Vec<(String, String)> {
    let endpoint = format!("http://{address}");
    let mut variables = named(&[
        ("AWS_ENDPOINT_URL_S3", &endpoint),
        ("AWS_ACCESS_KEY_ID", key.id),
        ("AWS_SECRET_ACCESS_KEY", key.secret),
        ("AWS_REGION", REGION),
    ]);
    variables.extend(named(more));
    variables
}

fn azure_variables(address: SocketAddr, access: &str) -> Vec<(String, String)> {
    let connection = format!(
        "DefaultEndpointsProtocol=http;AccountName={0};BlobEndpoint=http://{address}/{0};{access}",
        AZURE.id
    );
    named(&[("AZURE_STORAGE_CONNECTION_STRING", &connection)])
}

fn named(variables: &[(&str, &str)]) -> Vec<(String, String)> {
    variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}
