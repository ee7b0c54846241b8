//! Opens connections to providers: TCP or TLS, through `HTTPS_PROXY` where that applies.
//!
//! Must not: know HTTP beyond a tunnel's.

use super::POOL;
use crate::config::Provider;
use crate::wire::denial::UpstreamFault;
use http::Uri;
use http::uri::Scheme;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::proxy::matcher::Matcher;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use tower::Service;

/// A TCP or TLS stream.
pub(super) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(tcp) => Pin::new(tcp).poll_read(cx, buf),
            Stream::Tls(tls) => Pin::new(tls).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Plain(tcp) => Pin::new(tcp).poll_write(cx, buf),
            Stream::Tls(tls) => Pin::new(tls).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Plain(tcp) => Pin::new(tcp).poll_write_vectored(cx, bufs),
            Stream::Tls(tls) => Pin::new(tls).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Stream::Plain(tcp) => tcp.is_write_vectored(),
            Stream::Tls(tls) => tls.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(tcp) => Pin::new(tcp).poll_flush(cx),
            Stream::Tls(tls) => Pin::new(tls).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Stream::Tls(tls) => Pin::new(tls).poll_shutdown(cx),
        }
    }
}

/// Connects within the provider's time.
pub(super) async fn connect(provider: &Arc<Provider>, generation: u64) -> Result<Stream, UpstreamFault> {
    tokio::time::timeout(provider.timeouts.connect, open(provider, generation)).await.map_err(|_| UpstreamFault::ConnectTimeout)?
}

async fn open(provider: &Arc<Provider>, generation: u64) -> Result<Stream, UpstreamFault> {
    let is_tls = provider.base_url.scheme() == Some(&Scheme::HTTPS);
    let tcp = tcp(&provider.base_url, is_tls).await.map_err(|fault| {
        tracing::warn!(provider = provider.name, %fault, "the provider cannot be reached");
        UpstreamFault::Unreachable
    })?;
    // Small writes of a request's head and body are not to wait for each other.
    if let Err(fault) = tcp.set_nodelay(true) {
        tracing::debug!(%fault, "TCP_NODELAY");
    }
    if !is_tls {
        return Ok(Stream::Plain(tcp));
    }
    let host = provider.base_url.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    let name = ServerName::try_from(host).map_err(|_| UpstreamFault::Tls)?;
    let config = tls(provider, generation)?;
    let tls = TlsConnector::from(config).connect(name, tcp).await.map_err(|fault| {
        tracing::warn!(provider = provider.name, %fault, "no trusted TLS connection to the provider");
        UpstreamFault::Tls
    })?;
    Ok(Stream::Tls(Box::new(tls)))
}

type AnyError = Box<dyn std::error::Error + Send + Sync>;

/// A TCP connection to a URL's authority, through `HTTPS_PROXY` where that applies.
async fn tcp(url: &Uri, is_tls: bool) -> Result<TcpStream, AnyError> {
    static PROXIES: OnceLock<Matcher> = OnceLock::new();
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    let through = if is_tls { PROXIES.get_or_init(Matcher::from_env).intercept(url) } else { None };
    let Some(through) = through else {
        return Ok(connector.call(url.clone()).await?.into_inner());
    };
    let mut tunnel = Tunnel::new(through.uri().clone(), connector);
    if let Some(auth) = through.basic_auth() {
        tunnel = tunnel.with_auth(auth.clone());
    }
    std::future::poll_fn(|cx| tunnel.poll_ready(cx)).await?;
    Ok(tunnel.call(url.clone()).await?.into_inner())
}

/// The TLS settings of a provider: the built-in roots, and its own.
fn tls(provider: &Provider, generation: u64) -> Result<Arc<ClientConfig>, UpstreamFault> {
    POOL.with_borrow_mut(|pool| {
        let pool = pool.of(generation);
        if let Some(config) = pool.as_ref().and_then(|pool| pool.tls.get(&provider.name)) {
            return Ok(Arc::clone(config));
        }
        let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        for certificate in provider.ca_pem.iter().flat_map(|pem| CertificateDer::pem_slice_iter(pem)) {
            let added = certificate.map(|certificate| roots.add(certificate));
            if !matches!(added, Ok(Ok(()))) {
                tracing::warn!(provider = provider.name, "a certificate of `ca_file` cannot be used");
            }
        }
        let crypto = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(crypto).with_safe_default_protocol_versions().map_err(|_| UpstreamFault::Tls)?;
        let config = Arc::new(builder.with_root_certificates(roots).with_no_client_auth());
        if let Some(pool) = pool {
            pool.tls.insert(provider.name.clone(), Arc::clone(&config));
        }
        Ok(config)
    })
}
