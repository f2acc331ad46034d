//! AMQPS with an authority of one's own and certificates on both sides; every way to get it
//! wrong is told at once, in words, and by `doctor` with what to do.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use moothall::broker::rabbitmq::{BrokerError, RabbitConfig, RabbitQueue, Tls, TlsFault};
use moothall::pipeline::clock::Clock;
use moothall::pipeline::ports::Queue;
use moothall::pipeline::pulse::Pulse;
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

use crate::authority::Authority;
use crate::broker::Node;
use crate::support::comment;
use crate::support::rabbit::config;

/// Long before any time limit of the connection would end the wait.
const AT_ONCE: Duration = Duration::from_secs(5);

/// A broker that speaks AMQPS, and everything that somebody needs to talk to it.
struct Site {
    folder: TempDir,
    node: Node,
    ours: Authority,
    other: Authority,
    client: (String, String),
}

impl Site {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (ours, other) = (Authority::new("ours"), Authority::new("another"));
        std::fs::write(folder.path().join("ca.pem"), &ours.pem).unwrap();
        serve(folder.path(), &ours.sign(&["127.0.0.1"], false));
        let node = Node::start_with_tls(folder.path()).await;
        let client = ours.sign(&["moothall"], false);
        Self { folder, node, ours, other, client }
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// The broker as `host` calls it, with this trust and this certificate.
    fn config(&self, host: &str, ca: &Authority, identity: Option<&(String, String)>) -> RabbitConfig {
        let identity = identity.map(|(pem, key)| (pem.clone().into_bytes(), key.clone().into_bytes()));
        let url = format!("amqps://guest:guest@{host}:{}/%2f", self.node.amqps_port());
        RabbitConfig { tls: Tls { ca: Some(ca.pem.clone()), identity }, ..config(&url) }
    }

    /// `moothall doctor`, set up by the environment alone.
    fn doctor(&self, host: &str, ca: &Authority, identity: Option<&(String, String)>) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_moothall"));
        command
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .args(["doctor", "--amqp", "--out"])
            .arg(self.folder.path().join("out"))
            .env("MOOTHALL_RABBITMQ_URL", format!("amqps://guest:guest@{host}:{}/%2f", self.node.amqps_port()))
            .env("MOOTHALL_RABBITMQ_CA_FILE", self.file("trusted.pem", &ca.pem))
            // The tiers of the tests, so that it is one topology.
            .env("MOOTHALL_RABBITMQ_RETRY_MS", "200,2000")
            .env("MOOTHALL_RABBITMQ_DELIVERY_LIMIT", "4")
            .stdin(Stdio::null());
        if let Some((certificate, key)) = identity {
            command
                .env("MOOTHALL_RABBITMQ_CLIENT_CERT_FILE", self.file("client.pem", certificate))
                .env("MOOTHALL_RABBITMQ_CLIENT_KEY_FILE", self.file("client.key", key));
        }
        command.output().unwrap()
    }

    /// Tries all three: the library, the command, and what the command advises.
    async fn fails(&self, host: &str, ca: &Authority, identity: Option<&(String, String)>, wanted: &TlsFault) {
        let started = Instant::now();
        let config = Arc::new(self.config(host, ca, identity));
        let error = RabbitQueue::subscribe(config, Clock::system(), Pulse::default()).await.unwrap_err();
        let BrokerError::Tls { fault, url } = &error else { panic!("{wanted:?}: {error:?}") };
        same(fault, wanted);
        assert!(!url.contains("guest:guest"), "{url}");
        assert!(error.needs_a_person(), "a start with it must end: {error}");
        assert!(started.elapsed() < AT_ONCE, "{:?} for {error}", started.elapsed());

        let output = self.doctor(host, ca, identity);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("FAIL  broker TLS"), "{said}");
        let named = [fault, wanted, &TlsFault::Closed].iter().any(|fault| said.contains(fault.advice()));
        assert!(named && said.contains("TLS with the broker at amqps://guest@"), "{said}");
    }
}

/// What a broker says of our certificate is said as it hangs up, and may be lost on its way.
fn same(fault: &TlsFault, wanted: &TlsFault) {
    match (fault, wanted) {
        // Its words are the library's.
        (TlsFault::ClientCertificateRefused(_) | TlsFault::Closed, TlsFault::ClientCertificateRefused(_))
        | (TlsFault::Closed, TlsFault::ClientCertificateMissing) => {}
        _ => assert_eq!(fault, wanted),
    }
}

fn serve(folder: &Path, (certificate, key): &(String, String)) {
    std::fs::write(folder.join("server.pem"), certificate).unwrap();
    std::fs::write(folder.join("server.key"), key).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_sides_show_certificates_and_each_wrong_one_is_told_at_once() {
    let site = Site::new().await;
    let mine = Some(&site.client);

    let right = Arc::new(site.config("127.0.0.1", &site.ours, mine));
    let queue = RabbitQueue::subscribe(right, Clock::system(), Pulse::default()).await.unwrap();
    queue.publish(&[comment("1", "over TLS")]).await.unwrap();
    queue.close().await;
    let output = site.doctor("127.0.0.1", &site.ours, mine);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("a message was confirmed"), "{said}\n{}", String::from_utf8_lossy(&output.stderr));

    site.fails("127.0.0.1", &site.other, mine, &TlsFault::UnknownAuthority).await;
    let for_another = TlsFault::WrongName("; it is for 127.0.0.1".to_owned());
    site.fails("localhost", &site.ours, mine, &for_another).await;
    site.fails("127.0.0.1", &site.ours, None, &TlsFault::ClientCertificateMissing).await;
    let refused = TlsFault::ClientCertificateRefused(String::new());
    site.fails("127.0.0.1", &site.ours, Some(&site.other.sign(&["moothall"], false)), &refused).await;
    site.fails("127.0.0.1", &site.ours, Some(&site.ours.sign(&["moothall"], true)), &refused).await;

    serve(site.folder.path(), &site.ours.sign(&["127.0.0.1"], true));
    site.node.forget_certificates().await;
    site.fails("127.0.0.1", &site.ours, mine, &TlsFault::Expired).await;
}

#[tokio::test]
async fn what_answers_without_tls_is_said_and_not_stormed() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::SeqCst);
            let _ = stream.write_all(b"AMQP\x00\x00\x09\x01").await;
        }
    });
    let config = Arc::new(config(&format!("amqps://guest:guest@127.0.0.1:{port}/%2f")));
    let error = RabbitQueue::subscribe(Arc::clone(&config), Clock::system(), Pulse::default()).await.unwrap_err();
    assert!(matches!(&error, BrokerError::Tls { fault: TlsFault::NotTls, .. }), "{error:?}");

    // Whoever publishes all the time does not connect all the time: pauses grow from 50 ms.
    let before = calls.load(Ordering::SeqCst);
    let queue = RabbitQueue::publish_only(config, Clock::system(), Pulse::default());
    for _ in 0..2_000 {
        let error = queue.publish(&[comment("1", "x")]).await.unwrap_err();
        assert!(error.to_string().contains("not with TLS"), "{error}");
    }
    let tried = calls.load(Ordering::SeqCst) - before;
    assert!((1..100).contains(&tried), "{tried} connections for 2,000 publishes");
}

#[test]
fn a_file_that_holds_no_certificate_is_named_before_anything_is_tried() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.pem");
    std::fs::write(&file, "not a certificate").unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_moothall"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(["queue", "status", "--amqp"])
        .env("MOOTHALL_RABBITMQ_URL", "amqps://u:p@127.0.0.1:1/%2f")
        .env("MOOTHALL_RABBITMQ_CA_FILE", &file)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("ca.pem holds no certificate as PEM"), "{said}");
}
