//! A certificate authority for one test, and a server certificate for the loopback names.

use std::path::Path;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

/// Writes the authority's certificate to `ca` and answers an acceptor that uses it.
pub(super) fn acceptor(ca: &Path) -> TlsAcceptor {
    let key = || KeyPair::generate().expect("make a key");
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.distinguished_name.push(DnType::CommonName, "aexd tests");
    let issuer = CertifiedIssuer::self_signed(params, key()).expect("make a certificate authority");
    std::fs::write(ca, issuer.pem()).expect("write the authority's certificate");

    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let leaf_key = key();
    let params = CertificateParams::new(names).expect("names for the certificate");
    let leaf = params.signed_by(&leaf_key, &issuer).expect("sign the certificate");
    let private = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(leaf_key.serialize_der()));
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring has the protocol versions")
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], private)
        .expect("key and certificate belong together");
    TlsAcceptor::from(Arc::new(config))
}
