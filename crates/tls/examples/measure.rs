//! Heap bytes of an idle session and the time of encryption, in user space:
//! `cargo run --release -p tidegate-tls --example measure -- CERTIFICATE.pem KEY.pem`.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme};
use tidegate_tls::{Acceptor, CertificateFiles, Handshake, Progress, Settings, UserSession};

static HEAP_BYTES: AtomicUsize = AtomicUsize::new(0);

struct Counting;

// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        HEAP_BYTES.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's contract is the system allocator's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HEAP_BYTES.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's contract is the system allocator's.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Accepts any certificate: the client is not measured.
#[derive(Debug)]
struct Trusting;

impl ServerCertVerifier for Trusting {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        aws_lc_rs::default_provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}

fn main() {
    let mut arguments = std::env::args_os().skip(1);
    let (Some(certificate), Some(key)) = (arguments.next(), arguments.next()) else {
        eprintln!("usage: measure CERTIFICATE.pem KEY.pem");
        std::process::exit(2);
    };
    let files = CertificateFiles {
        certificate: certificate.into(),
        key: key.into(),
    };
    let acceptor = Acceptor::new(Settings::new(vec![files])).expect("certificate");
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .expect("version")
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Trusting))
            .with_no_client_auth();
        let config = Arc::new(config);
        println!("{:?}", version.version);
        idle(&acceptor, &config);
        encryption(&acceptor, &config);
    }
}

fn idle(acceptor: &Acceptor, config: &Arc<ClientConfig>) {
    drop(session(acceptor, config));
    let mut sessions = Vec::with_capacity(100);
    for _ in 0..100 {
        let (session, client) = session(acceptor, config);
        sessions.push(session);
        drop(client);
    }
    let with = HEAP_BYTES.load(Ordering::Relaxed);
    let count = sessions.len();
    drop(sessions);
    let heap_bytes = with - HEAP_BYTES.load(Ordering::Relaxed);
    println!(
        "  idle: {} heap bytes a session, {} with itself",
        (heap_bytes - count * size_of::<UserSession>()) / count,
        heap_bytes / count
    );
}

fn encryption(acceptor: &Acceptor, config: &Arc<ClientConfig>) {
    let (mut session, _client) = session(acceptor, config);
    let data = vec![7; 256 << 10];
    let mut out = vec![0; session.encrypted_bytes_max(data.len())];
    let rounds = 4000;
    let start = Instant::now();
    for _ in 0..rounds {
        session.encrypt_into(&data, &mut out).expect("encrypted");
    }
    let bytes = f64::from(rounds) * data.len() as f64;
    println!(
        "  encryption: {:.2} GB/s",
        bytes / start.elapsed().as_nanos() as f64
    );
}

fn session(acceptor: &Acceptor, config: &Arc<ClientConfig>) -> (UserSession, ClientConnection) {
    let name = ServerName::try_from("localhost").expect("a name");
    let mut client = ClientConnection::new(Arc::clone(config), name).expect("client");
    let mut handshake = Handshake::new(acceptor).expect("handshake");
    loop {
        let mut sent = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut sent).expect("memory");
        }
        let mut out = Vec::new();
        let progress = handshake.feed(&sent, &mut out).expect("handshake");
        let mut rest = out.as_slice();
        while !rest.is_empty() {
            client.read_tls(&mut rest).expect("memory");
            client.process_new_packets().expect("handshake");
        }
        if progress == Progress::Finished && !client.is_handshaking() {
            return (handshake.into_user().expect("keys"), client);
        }
    }
}
