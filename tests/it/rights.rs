//! A user who may do what a worker does and nothing else, as docs/rabbitmq.md gives it, and
//! what is said where one of its rights is missing.

use std::process::{Command, Stdio};

use moothall::pipeline::pulse::Pulse;

use crate::broker::{Node, Vhost};
use crate::support::rabbit::{config, process};

/// The three patterns in docs/rabbitmq.md: configure, write, read.
const RIGHTS: [&str; 3] = ["^$", r"^moothall\.(in|out|retry|dead|alerts)$", r"^moothall\.(work|urgent|parked)$"];

/// What `moothall doctor` says for this user, and whether it is content.
fn doctor(vhost: &Vhost, user: &str, topology: &str) -> (String, bool) {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_moothall"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(["doctor", "--amqp", "--out"])
        .arg(folder.path())
        .env("MOOTHALL_RABBITMQ_URL", vhost.url_for(user, "secret", vhost.node().amqp_port()))
        .env("MOOTHALL_RABBITMQ_TOPOLOGY", topology)
        // The tiers of the tests, so that it is one topology.
        .env("MOOTHALL_RABBITMQ_RETRY_MS", "200,2000")
        .env("MOOTHALL_RABBITMQ_DELIVERY_LIMIT", "4")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    (String::from_utf8_lossy(&output.stdout).into_owned(), output.status.success())
}

#[test]
fn the_documented_rights_are_the_tested_ones() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/rabbitmq.md")).unwrap();
    for pattern in RIGHTS {
        assert!(page.contains(&format!("'{pattern}'")), "{pattern} is not in docs/rabbitmq.md");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_needs_no_right_to_configure_and_each_missing_right_is_named() {
    let vhost = Node::shared().await.vhost().await;
    let [configure, write, read] = RIGHTS;
    vhost.add_user("least", "secret").await;
    vhost.permissions("least", configure, write, read).await;
    for topology in ["check", "declare"] {
        let (said, fine) = doctor(&vhost, "least", topology);
        assert!(!fine && said.contains("FAIL  topology"), "{said}");
        for thing in ["queue `moothall.work` is missing", "exchange `moothall.alerts` is missing"] {
            assert!(said.contains(thing), "{thing}: {said}");
        }
    }

    process(config(&vhost.url()), &Pulse::default()).await.close().await;
    for topology in ["check", "declare"] {
        let (said, fine) = doctor(&vhost, "least", topology);
        assert!(fine && said.contains("topology fits, a message was confirmed"), "{said}");
    }
    let unrouted = vhost.queue_totals("moothall.unrouted").await;
    assert_eq!(unrouted, (0, 0), "asking for rights sends nothing");
    assert_eq!(vhost.queue_totals("moothall.parked").await, (0, 0), "asking for rights sends nothing");

    vhost.permissions("least", configure, r"^moothall\.(in|retry|dead)$", r"^moothall\.urgent$").await;
    let (said, fine) = doctor(&vhost, "least", "check");
    assert!(!fine && said.contains("FAIL  permission"), "{said}");
    for named in ["exchange 'moothall.out'", "exchange 'moothall.alerts'", "queue 'moothall.work'"] {
        assert!(said.contains(&format!("access to {named}")), "{named}: {said}");
    }
    for other in ["moothall.in'", "moothall.retry'", "moothall.dead'", "moothall.urgent'"] {
        assert!(!said.contains(other), "{other} is not missing: {said}");
    }
    assert!(said.contains("rabbitmqctl set_permissions"), "{said}");
}
