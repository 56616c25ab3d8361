//! An authority of certificates, for tests of TLS.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Result;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use sha2::{Digest as _, Sha256};

/// Where the servers of tests are reached.
const HOSTS: [&str; 2] = ["127.0.0.1", "localhost"];

/// One authority. Nobody trusts it but those who are told to.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key.
#[derive(Debug)]
pub struct Pair {
    /// The certificate, in PEM.
    pub certificate: String,
    /// The key, in PEM.
    pub key: String,
    /// The SHA-256 of the certificate in DER, in hex.
    pub sha256: String,
}

impl Authority {
    /// A new one.
    ///
    /// # Errors
    /// When no key can be made.
    pub fn new(name: &str) -> Result<Self> {
        let mut params = CertificateParams::new([])?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        Ok(Self(CertifiedIssuer::self_signed(params, KeyPair::generate()?)?))
    }

    /// Its own certificate, in PEM.
    #[must_use]
    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate for a server on this machine.
    ///
    /// # Errors
    /// When none can be made.
    pub fn server(&self) -> Result<Pair> {
        let params = CertificateParams::new(HOSTS.map(str::to_owned))?;
        self.sign(params, ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// A certificate for a client.
    ///
    /// # Errors
    /// When none can be made.
    pub fn client(&self, name: &str) -> Result<Pair> {
        self.sign(named(name)?, ExtendedKeyUsagePurpose::ClientAuth)
    }

    /// One whose time is over.
    ///
    /// # Errors
    /// When none can be made.
    pub fn expired_client(&self, name: &str) -> Result<Pair> {
        let mut params = named(name)?;
        (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2021, 1, 1));
        self.sign(params, ExtendedKeyUsagePurpose::ClientAuth)
    }

    fn sign(&self, mut params: CertificateParams, usage: ExtendedKeyUsagePurpose) -> Result<Pair> {
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.0)?;
        let digest: [u8; 32] = Sha256::digest(certificate.der()).into();
        let sha256 = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Pair { certificate: certificate.pem(), key: key.serialize_pem(), sha256 })
    }
}

fn named(name: &str) -> Result<CertificateParams> {
    let mut params = CertificateParams::new([])?;
    params.distinguished_name.push(DnType::CommonName, name);
    Ok(params)
}

impl Pair {
    /// Writes it as `<name>.pem` and `<name>.key` into a folder, each at once, the key for its owner alone.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, folder: &Path, name: &str) -> Result<(PathBuf, PathBuf)> {
        let write = |name: String, text: &str, mode| -> Result<PathBuf> {
            let (staged, file) = (folder.join(format!("{name}.new")), folder.join(name));
            fs::write(&staged, text)?;
            fs::set_permissions(&staged, fs::Permissions::from_mode(mode))?;
            fs::rename(&staged, &file)?;
            Ok(file)
        };
        let certificate = write(format!("{name}.pem"), &self.certificate, 0o644)?;
        Ok((certificate, write(format!("{name}.key"), &self.key, 0o600)?))
    }
}
