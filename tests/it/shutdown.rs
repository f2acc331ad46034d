//! How a service ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use moothall::lifecycle::{Lifecycle, Pulse};
use tokio::sync::mpsc;

const LONG: Duration = Duration::from_hours(1);

fn requests() -> (mpsc::Sender<()>, mpsc::Receiver<()>) {
    mpsc::channel(2)
}

#[tokio::test]
async fn the_first_request_lets_work_finish() {
    let pulse = Pulse::default();
    let mut life = Lifecycle::new(pulse.clone(), LONG);
    let shutdown = life.shutdown();
    let finished = Arc::new(AtomicBool::new(false));
    let flag = finished.clone();
    life.spawn("worker", async move {
        shutdown.stop_intake.cancelled().await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        flag.store(!shutdown.abandon.is_cancelled(), Ordering::SeqCst);
        Ok(())
    });
    let (ask, asked) = requests();
    ask.send(()).await.unwrap();
    life.run(asked).await.unwrap();
    assert!(finished.load(Ordering::SeqCst));
    assert_eq!(pulse.troubles()["lifecycle"], "stopping");
}

#[tokio::test]
async fn the_second_request_lets_go() {
    let mut life = Lifecycle::new(Pulse::default(), LONG);
    let shutdown = life.shutdown();
    life.spawn("worker", async move {
        shutdown.abandon.cancelled().await;
        Ok(())
    });
    let (ask, asked) = requests();
    ask.send(()).await.unwrap();
    ask.send(()).await.unwrap();
    let started = tokio::time::Instant::now();
    life.run(asked).await.unwrap();
    assert!(started.elapsed() < Duration::from_secs(1));
}

#[tokio::test]
async fn the_deadline_lets_go_and_a_deaf_task_is_dropped() {
    let mut life = Lifecycle::new(Pulse::default(), Duration::from_millis(100));
    life.spawn("deaf", std::future::pending());
    let shutdown = life.shutdown();
    life.spawn("worker", async move {
        shutdown.abandon.cancelled().await;
        Ok(())
    });
    let (ask, asked) = requests();
    ask.send(()).await.unwrap();
    let started = tokio::time::Instant::now();
    life.run(asked).await.unwrap();
    // The deadline, and then two seconds for last words.
    assert_eq!(started.elapsed().as_secs(), 2);
}

#[tokio::test]
async fn a_task_that_ends_early_stops_the_rest_and_is_named() {
    for how in ["ended by itself", "failed: no disk", "panicked"] {
        let mut life = Lifecycle::new(Pulse::default(), LONG);
        let shutdown = life.shutdown();
        life.spawn("worker", async move {
            shutdown.stop_intake.cancelled().await;
            Ok(())
        });
        life.spawn("outbox", async move {
            match how {
                "panicked" => panic!("a bug"),
                "ended by itself" => Ok(()),
                _ => Err(anyhow::anyhow!("no disk")),
            }
        });
        let (_ask, asked) = requests();
        let crash = life.run(asked).await.unwrap_err();
        assert_eq!(crash.to_string(), format!("task `outbox` {how}"));
    }
}

#[tokio::test]
async fn the_server_finishes_and_frees_its_port() {
    let router = axum::Router::new().route("/", axum::routing::get(async || "hello"));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut life = Lifecycle::new(Pulse::default(), LONG);
    let shutdown = life.shutdown();
    life.spawn("web", async move {
        Ok(moothall::web::serve(listener, router, shutdown).await?)
    });
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    tokio::io::AsyncWriteExt::write_all(&mut stream, request)
        .await
        .unwrap();
    let mut answer = String::new();
    tokio::io::AsyncReadExt::read_to_string(&mut stream, &mut answer)
        .await
        .unwrap();
    assert!(answer.ends_with("hello"), "{answer}");
    let (ask, asked) = requests();
    ask.send(()).await.unwrap();
    life.run(asked).await.unwrap();
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
}
