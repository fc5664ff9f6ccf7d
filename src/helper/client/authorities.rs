//! Whose word counts for a server's name: the system's file of certificate authorities, and the signatures they make.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::SignatureScheme as Scheme;
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use webpki::ring as sign;

/// Where distributions keep it (Go's crypto/x509, root_linux.go).
pub const FILES: &[&str] = &[
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/cacert.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// The authorities of a file.
#[derive(Clone, Debug)]
pub struct Authorities(Arc<RootCertStore>);

impl Authorities {
    /// Of the first of these files that there is. What in it is no certificate counts for nothing.
    pub fn of(files: &[&str]) -> Result<Self, String> {
        Self::beside(files, None)
    }

    /// The same with those of one more file, which must be there, and without which none of the others need be.
    pub fn beside(files: &[&str], more: Option<&Path>) -> Result<Self, String> {
        let mut roots = RootCertStore::empty();
        if let Some(more) = more {
            let bytes = fs::read(more).map_err(|why| format!("{}: {why}", more.display()))?;
            take(&mut roots, &bytes, &more.display().to_string())?;
        }
        for file in files {
            match fs::read(Path::new(file)) {
                Ok(bytes) => {
                    take(&mut roots, &bytes, file)?;
                    return Ok(Authorities(Arc::new(roots)));
                }
                Err(why) if why.kind() == ErrorKind::NotFound => {}
                Err(why) => return Err(format!("{file}: {why}")),
            }
        }
        let place = files.first().copied().unwrap_or_default();
        match roots.is_empty() {
            true => Err(format!("there is no file of certificate authorities: put one at {place}")),
            false => Ok(Authorities(Arc::new(roots))),
        }
    }

    pub fn roots(&self) -> Arc<RootCertStore> {
        self.0.clone()
    }
}

fn take(roots: &mut RootCertStore, bytes: &[u8], file: &str) -> Result<(), String> {
    let found = CertificateDer::pem_slice_iter(bytes).filter_map(Result::ok);
    match roots.add_parsable_certificates(found) {
        (0, _) => Err(format!("{file} holds no certificate of an authority")),
        _ => Ok(()),
    }
}

/// What certificates and handshakes are signed with.
pub static SIGNATURES: WebPkiSupportedAlgorithms = WebPkiSupportedAlgorithms {
    all: &[
        sign::ECDSA_P256_SHA256,
        sign::ECDSA_P256_SHA384,
        sign::ECDSA_P384_SHA256,
        sign::ECDSA_P384_SHA384,
        sign::ED25519,
        sign::RSA_PSS_2048_8192_SHA256_LEGACY_KEY,
        sign::RSA_PSS_2048_8192_SHA384_LEGACY_KEY,
        sign::RSA_PSS_2048_8192_SHA512_LEGACY_KEY,
        sign::RSA_PKCS1_2048_8192_SHA256,
        sign::RSA_PKCS1_2048_8192_SHA384,
        sign::RSA_PKCS1_2048_8192_SHA512,
    ],
    mapping: &[
        // TLS 1.2 leaves the curve open; of each, the first is TLS 1.3's.
        (Scheme::ECDSA_NISTP384_SHA384, &[sign::ECDSA_P384_SHA384, sign::ECDSA_P256_SHA384]),
        (Scheme::ECDSA_NISTP256_SHA256, &[sign::ECDSA_P256_SHA256, sign::ECDSA_P384_SHA256]),
        (Scheme::ED25519, &[sign::ED25519]),
        (Scheme::RSA_PSS_SHA512, &[sign::RSA_PSS_2048_8192_SHA512_LEGACY_KEY]),
        (Scheme::RSA_PSS_SHA384, &[sign::RSA_PSS_2048_8192_SHA384_LEGACY_KEY]),
        (Scheme::RSA_PSS_SHA256, &[sign::RSA_PSS_2048_8192_SHA256_LEGACY_KEY]),
        (Scheme::RSA_PKCS1_SHA512, &[sign::RSA_PKCS1_2048_8192_SHA512]),
        (Scheme::RSA_PKCS1_SHA384, &[sign::RSA_PKCS1_2048_8192_SHA384]),
        (Scheme::RSA_PKCS1_SHA256, &[sign::RSA_PKCS1_2048_8192_SHA256]),
    ],
};
