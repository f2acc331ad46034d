//! The throw-away broker of the tests, itself tested: a fault that does nothing would prove anything.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/broker/mod.rs"]
mod broker;
#[path = "support/control.rs"]
mod control;

use std::io::ErrorKind;
use std::path::Path;
use std::time::{Duration, Instant};

use broker::proxy::{Direction, Proxy};
use broker::{Node, Vhost, until};
use lapin::options::{
    BasicAckOptions, BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

const SOON: Duration = Duration::from_secs(20);

/// Long enough for a healthy broker to answer, so that silence means something.
const SILENCE: Duration = Duration::from_millis(700);

const QUEUE: &str = "moothall.work";

async fn connect(url: &str) -> lapin::Result<(Connection, Channel)> {
    let connection = timeout(SOON, Connection::connect(url, ConnectionProperties::default())).await.unwrap()?;
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    Ok((connection, channel))
}

async fn declare(channel: &Channel) {
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    let options = QueueDeclareOptions { durable: true, ..Default::default() };
    channel.queue_declare(QUEUE.into(), options, arguments).await.unwrap();
}

async fn publish(channel: &Channel, body: &str) -> lapin::Result<Confirmation> {
    let properties = BasicProperties::default().with_delivery_mode(2);
    let options = BasicPublishOptions::default();
    channel.basic_publish("".into(), QUEUE.into(), options, body.as_bytes(), properties).await?.await
}

async fn take(channel: &Channel) -> Option<String> {
    let got = channel.basic_get(QUEUE.into(), BasicGetOptions::default()).await.unwrap()?;
    let body = String::from_utf8(got.delivery.data.clone()).unwrap();
    assert!(got.delivery.acker.ack(BasicAckOptions::default()).await.unwrap());
    Some(body)
}

/// Runs this on a runtime of its own, as another test of the binary would.
fn on_another_runtime<T: Send + 'static>(run: impl Future<Output = T> + Send + 'static) -> T {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    std::thread::spawn(move || runtime().block_on(run)).join().unwrap()
}

/// Alive and still the program that it was; an id may be given to another one later.
fn runs(pid: u32, program: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == program)
}

#[tokio::test]
async fn a_node_serves_breaks_on_demand_and_leaves_nothing_behind() {
    let node = Node::start().await;
    let vhost = node.vhost().await;
    let (elsewhere, beside) = (node.clone(), node.clone());
    let other = on_another_runtime(async move { elsewhere.vhost().await });
    assert_ne!(vhost.name, on_another_runtime(async move { beside.vhost().await }).name);
    assert_ne!(vhost.name, other.name);

    a_message_goes_in_and_out(&vhost).await;
    users_have_the_rights_that_they_were_given(&vhost).await;
    connections_are_closed_in_one_virtual_host_only(&vhost, &other).await;
    a_client_sees_what_the_proxy_does(&vhost).await;
    an_alarm_stops_publishers_until_it_is_lifted(&vhost).await;
    a_frozen_broker_is_silent_and_then_goes_on(&vhost).await;
    a_killed_broker_keeps_what_it_confirmed(&vhost).await;

    let folder = node.folder().to_owned();
    let processes = node.processes().await;
    let [broker, mapper] = processes[..] else { panic!("{processes:?}") };
    assert!(runs(broker, "beam.smp") && runs(mapper, "epmd") && folder.exists());
    // A frozen one must end, too.
    node.pause().await;
    drop((node, vhost, other));
    assert!(!runs(broker, "beam.smp") && !runs(mapper, "epmd"), "a process is left");
    assert!(!Path::new(&folder).exists(), "the folder is left");
}

async fn a_message_goes_in_and_out(vhost: &Vhost) {
    let (_connection, channel) = connect(&vhost.url()).await.unwrap();
    declare(&channel).await;
    assert_eq!(vhost.queue_totals(QUEUE).await, (0, 0));
    for body in ["one", "two"] {
        assert_eq!(publish(&channel, body).await.unwrap(), Confirmation::Ack(None));
    }
    let published = Instant::now();
    until("both messages are counted", async || vhost.queue_totals(QUEUE).await == (2, 0)).await;
    assert!(published.elapsed() < Duration::from_secs(3), "counts are {:?} old", published.elapsed());
    let held = channel.basic_get(QUEUE.into(), BasicGetOptions::default()).await.unwrap().unwrap();
    until("one is out", async || vhost.queue_totals(QUEUE).await == (1, 1)).await;
    assert!(held.delivery.acker.ack(BasicAckOptions::default()).await.unwrap());
    assert_eq!(take(&channel).await.as_deref(), Some("two"));
    assert_eq!(take(&channel).await, None);
    vhost.delete_queue(QUEUE).await;
    assert!(publish(&channel, "lost").await.is_ok(), "the default exchange drops what it cannot route");
    assert!(channel.basic_get(QUEUE.into(), BasicGetOptions::default()).await.is_err(), "the queue is gone");
}

async fn users_have_the_rights_that_they_were_given(vhost: &Vhost) {
    let port = vhost.node().amqp_port();
    vhost.add_user("reader", "secret").await;
    let url = vhost.url_for("reader", "secret", port);
    assert!(connect(&url).await.is_err(), "no rights in this virtual host yet");
    vhost.permissions("reader", "^$", "^$", ".*").await;
    let (_connection, channel) = connect(&url).await.unwrap();
    let declared = channel.queue_declare("mine".into(), QueueDeclareOptions::default(), FieldTable::default()).await;
    assert!(declared.is_err(), "reading is not configuring");
    assert!(connect(&vhost.url_for("reader", "wrong", port)).await.is_err());
}

async fn connections_are_closed_in_one_virtual_host_only(vhost: &Vhost, other: &Vhost) {
    let (closed, _channel) = connect(&vhost.url()).await.unwrap();
    let (kept, _other_channel) = connect(&other.url()).await.unwrap();
    vhost.close_connections().await;
    until("the connection is closed", async || !closed.status().connected()).await;
    assert!(kept.status().connected());
}

async fn a_client_sees_what_the_proxy_does(vhost: &Vhost) {
    let proxy = Proxy::start(vhost.node().amqp_port()).await;
    let (connection, channel) = connect(&vhost.url_via(proxy.port())).await.unwrap();
    assert_eq!(proxy.connections(), 1);
    declare(&channel).await;

    proxy.stall(Direction::FromBroker);
    let mut confirm = Box::pin(publish(&channel, "held on its way back"));
    assert!(timeout(SILENCE, &mut confirm).await.is_err(), "the confirm is held");
    until("the broker has the message", async || vhost.queue_totals(QUEUE).await == (1, 0)).await;
    proxy.flow();
    assert_eq!(timeout(SOON, confirm).await.unwrap().unwrap(), Confirmation::Ack(None));

    proxy.stall(Direction::ToBroker);
    let mut confirm = Box::pin(publish(&channel, "held on its way there"));
    assert!(timeout(SILENCE, &mut confirm).await.is_err(), "the message is held");
    assert_eq!(vhost.queue_totals(QUEUE).await, (1, 0));
    proxy.cut().await;
    assert!(timeout(SOON, confirm).await.unwrap().is_err(), "the connection is cut");
    until("the client knows", async || !connection.status().connected()).await;
    proxy.flow();

    proxy.refuse(true);
    assert!(connect(&vhost.url_via(proxy.port())).await.is_err());
    proxy.refuse(false);
    let (_connection, channel) = connect(&vhost.url_via(proxy.port())).await.unwrap();
    assert_eq!(take(&channel).await.as_deref(), Some("held on its way back"));
    assert_eq!(take(&channel).await, None, "what was held at the cut is lost");
}

async fn an_alarm_stops_publishers_until_it_is_lifted(vhost: &Vhost) {
    let node = vhost.node();
    let (connection, channel) = connect(&vhost.url()).await.unwrap();
    assert!(!node.alarmed().await);
    node.memory_alarm(true).await;
    // The first publish is what the broker blocks the connection for.
    let mut confirm = Box::pin(publish(&channel, "alarmed"));
    assert!(timeout(SILENCE, &mut confirm).await.is_err(), "nothing is read from a publisher");
    until("the client knows", async || connection.status().blocked()).await;
    node.memory_alarm(false).await;
    assert_eq!(timeout(SOON, confirm).await.unwrap().unwrap(), Confirmation::Ack(None));
    assert_eq!(take(&channel).await.as_deref(), Some("alarmed"));
}

async fn a_frozen_broker_is_silent_and_then_goes_on(vhost: &Vhost) {
    let (connection, channel) = connect(&vhost.url()).await.unwrap();
    vhost.node().pause().await;
    let mut confirm = Box::pin(publish(&channel, "frozen"));
    assert!(timeout(SILENCE, &mut confirm).await.is_err(), "nobody answers");
    assert!(connection.status().connected(), "the connection stays open");
    vhost.node().resume().await;
    assert_eq!(timeout(SOON, confirm).await.unwrap().unwrap(), Confirmation::Ack(None));
    assert_eq!(take(&channel).await.as_deref(), Some("frozen"));
}

async fn a_killed_broker_keeps_what_it_confirmed(vhost: &Vhost) {
    let node = vhost.node();
    let (connection, channel) = connect(&vhost.url()).await.unwrap();
    assert_eq!(publish(&channel, "durable").await.unwrap(), Confirmation::Ack(None));
    let before = node.processes().await[0];
    node.kill().await;
    until("the client knows", async || !connection.status().connected()).await;
    assert!(connect(&vhost.url()).await.is_err(), "nobody listens");
    node.start_again().await;
    assert_ne!(node.processes().await[0], before);
    let (_connection, channel) = connect(&vhost.url()).await.unwrap();
    assert_eq!(take(&channel).await.as_deref(), Some("durable"));
    assert_eq!(node.ctl(&["eval", "lists:seq(1, 3)."]).await, ["[1,2,3]"]);
}

/// A server that sends back what it gets, and a client that reaches it through a proxy.
async fn echo() -> (Proxy, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = Proxy::start(listener.local_addr().unwrap().port()).await;
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = stream.split();
                let _ = tokio::io::copy(&mut from, &mut to).await;
            });
        }
    });
    let client = TcpStream::connect(("127.0.0.1", proxy.port())).await.unwrap();
    (proxy, client)
}

#[tokio::test]
async fn what_was_held_arrives_whole_and_in_order() {
    let (proxy, mut client) = echo().await;
    for direction in [Direction::ToBroker, Direction::FromBroker] {
        proxy.stall(direction);
        client.write_all(b"one ").await.unwrap();
        let mut heard = [0; 7];
        let early = timeout(Duration::from_millis(100), client.read_exact(&mut heard[..1])).await;
        assert!(early.is_err(), "{direction:?} is held");
        client.write_all(b"two").await.unwrap();
        proxy.flow();
        timeout(SOON, client.read_exact(&mut heard)).await.unwrap().unwrap();
        assert_eq!(&heard, b"one two");
    }
}

#[tokio::test]
async fn a_cut_is_a_reset_and_the_end_of_a_proxy_too() {
    let (proxy, mut client) = echo().await;
    client.write_all(b"x").await.unwrap();
    assert_eq!(client.read_u8().await.unwrap(), b'x');
    assert_eq!(proxy.connections(), 1);
    proxy.cut().await;
    assert_eq!(proxy.connections(), 0);
    assert_eq!(timeout(SOON, client.read_u8()).await.unwrap().unwrap_err().kind(), ErrorKind::ConnectionReset);

    let mut again = TcpStream::connect(("127.0.0.1", proxy.port())).await.unwrap();
    again.write_all(b"y").await.unwrap();
    assert_eq!(again.read_u8().await.unwrap(), b'y');
    let port = proxy.port();
    drop(proxy);
    assert_eq!(timeout(SOON, again.read_u8()).await.unwrap().unwrap_err().kind(), ErrorKind::ConnectionReset);
    until("the port is closed", async || TcpStream::connect(("127.0.0.1", port)).await.is_err()).await;
}
