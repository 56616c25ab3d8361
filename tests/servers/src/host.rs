//! A static host: a web server over a folder, as anybody may put one before a copy of a log.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context as _, Result};

use crate::ask::ask;
use crate::child::Server;
use crate::port::Port;
use crate::programs::Program;

/// A web server over a folder, that is killed when this value or its process ends.
///
/// It answers GET and nothing else, lists nothing, and says of what is absent that nobody may keep that answer: the next object of a log
/// is absent until it is there.
#[derive(Debug)]
pub struct StaticHost {
    _server: Server,
    port: Port,
}

impl StaticHost {
    /// Serves a folder, of which files may come and go meanwhile.
    ///
    /// # Errors
    /// When the server does not start, with what it said.
    pub fn serve(folder: &Path) -> Result<Self> {
        let program = Program::Nginx.find()?;
        let port = Port::take()?;
        let folder = folder.canonicalize().context("cannot serve a folder that is not there")?;
        let arguments = |own: &Path| {
            let file = own.join("nginx.conf");
            std::fs::write(&file, configuration(own, &folder, port.address()))
                .context("cannot write the configuration of a server")?;
            Ok(vec![
                "-p".into(),
                own.as_os_str().to_owned(),
                "-e".into(),
                "stderr".into(),
                "-c".into(),
                file.into_os_string(),
            ])
        };
        let server = Server::start(&program, arguments, &[])?;
        let address = port.address();
        server.wait_until(address, || ask(address, "GET", "/", &[], b"").is_ok())?;
        Ok(Self { _server: server, port })
    }

    /// Its address.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address())
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.port.address()
    }
}

/// One process that stays in the foreground, so that killing it ends it, and that runs as whoever runs the test, so that it may read
/// the test's folder.
fn configuration(own: &Path, folder: &Path, address: SocketAddr) -> String {
    let (own, folder) = (own.display(), folder.display());
    format!(
        r#"
daemon off;
master_process off;
pid "{own}/pid";
events {{ worker_connections 512; }}
http {{
    access_log off;
    client_body_temp_path "{own}/bodies";
    proxy_temp_path "{own}/proxied";
    fastcgi_temp_path "{own}/fastcgi";
    uwsgi_temp_path "{own}/uwsgi";
    scgi_temp_path "{own}/scgi";
    default_type application/octet-stream;
    server {{
        listen {address};
        root "{folder}";
        etag on;
        location / {{
            if ($request_method != GET) {{ return 405; }}
        }}
        error_page 404 @absent;
        location @absent {{
            add_header Cache-Control "no-store" always;
            return 404;
        }}
    }}
}}
"#
    )
}
