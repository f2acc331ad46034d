//! Every fault: what it is, where it applies, and what must hold.

mod brokers;
mod chaos;
mod messages;
mod real;
mod servers;
pub mod stores;
mod workers;

use std::pin::Pin;

use crate::site::Setup;
use crate::table::{Outcome, Shape};

pub use self::messages::hostile;

type Running = Pin<Box<dyn Future<Output = anyhow::Result<Outcome>>>>;

/// One fault.
#[derive(Clone)]
pub struct Fault {
    pub name: &'static str,
    /// What is done, and what is promised beside nothing lost and nothing doubled.
    pub what: &'static str,
    pub on: &'static [Shape],
    /// The shapes that the short form runs it on.
    pub short: &'static [Shape],
    /// Whether it needs the broker for itself.
    pub rough: bool,
    pub run: fn(Setup) -> Running,
}

const EVERYWHERE: &[Shape] = &[Shape::Embedded, Shape::Rabbit, Shape::Servers];
/// Where the store is a file.
const FILES: &[Shape] = &[Shape::Embedded, Shape::Rabbit];
const ENDS: &[Shape] = &[Shape::Embedded, Shape::Servers];
const RABBIT: &[Shape] = &[Shape::Rabbit];
const SERVERS: &[Shape] = &[Shape::Servers];
const EMBEDDED: &[Shape] = &[Shape::Embedded];
/// Left to `--full`.
const NOWHERE: &[Shape] = &[];

macro_rules! faults {
    ($($name:literal, $on:expr, $short:expr, $rough:literal, $run:path, $what:literal;)*) => {
        vec![$(Fault {
            name: $name, what: $what, on: $on, short: $short, rough: $rough, run: |setup| Box::pin($run(setup)),
        }),*]
    };
}

/// All of them, in the order of the table.
#[expect(clippy::too_many_lines, reason = "it is the list")]
pub fn all() -> Vec<Fault> {
    // Name, where it applies, where the short form runs it, whether it is rough on the broker.
    faults![
        "worker-killed", EVERYWHERE, ENDS, false, workers::killed,
            "SIGKILL in the middle of a batch, five times; at most one prefetch comes again for each";
        "killed-in-transaction", EVERYWHERE, ENDS, false, workers::killed_in_transaction,
            "the process ends while its transaction is written, five times";
        "killed-before-ack", EVERYWHERE, ENDS, false, workers::killed_before_ack,
            "the process ends between commit and acknowledgement; stored and told once";
        "killed-before-send", EVERYWHERE, ENDS, false, workers::killed_before_send,
            "the process ends with messages claimed and not sent; the claim runs out, another sends them";
        "killed-before-mark", EVERYWHERE, ENDS, false, workers::killed_before_mark,
            "the process ends with messages confirmed and not marked; sent again under the same ids";
        "killed-between-copy-and-ack", RABBIT, RABBIT, false, brokers::killed_between_copy_and_ack,
            "a parked copy is confirmed, its original never acknowledged; parked again, nothing lost";
        "real-worker-killed", RABBIT, NOWHERE, false, real::killed,
            "SIGKILL of `moothall worker` with its models, three times";
        "real-worker-terminated", RABBIT, NOWHERE, false, real::terminated,
            "SIGTERM of `moothall worker` under load, twice; exit 0, nothing parked";
        "rolling-restart", EVERYWHERE, EMBEDDED, false, workers::rolling_restart,
            "SIGTERM under load, five times, each with a successor; nothing parked, nothing stored comes again";
        "scaled-1-4-1", EVERYWHERE, RABBIT, false, workers::scaled,
            "one worker, four, one, in the middle of the work";
        "started-together", FILES, EMBEDDED, false, workers::started_together,
            "three workers meet a file that is not there yet";
        "broker-killed", RABBIT, RABBIT, true, brokers::killed,
            "SIGKILL of the broker under load and boot, twice; the sender goes on by itself";
        "broker-restarted", RABBIT, RABBIT, true, brokers::restarted,
            "the broker is stopped and started in good order, twice; no innocent spends its budget";
        "broker-frozen", RABBIT, RABBIT, true, brokers::frozen,
            "SIGSTOP until it is noticed; work resumes";
        "connections-closed", RABBIT, RABBIT, true, brokers::connections_closed,
            "the broker closes every connection, three times";
        "network-cut", RABBIT, NOWHERE, false, brokers::network_cut,
            "a proxy resets the worker's connections, six times";
        "acknowledgements-stalled", RABBIT, NOWHERE, false, brokers::acknowledgements_stalled,
            "nothing goes to the broker for three heartbeats, while the connection stays open";
        "deliveries-stalled", RABBIT, RABBIT, false, brokers::deliveries_stalled,
            "nothing comes from the broker for three heartbeats, while the connection stays open";
        "confirms-lost", RABBIT, RABBIT, false, brokers::confirms_lost,
            "the broker has the messages and the sender never hears of it; duplicates are absorbed";
        "queue-full", RABBIT, RABBIT, false, brokers::queue_full,
            "the work queue is at its limit; the sender is refused and nothing is claimed";
        "results-full", RABBIT, NOWHERE, false, brokers::results_full,
            "results are refused; they wait in the outbox and alerts pass";
        "unroutable", RABBIT, RABBIT, false, brokers::unroutable,
            "a binding is gone; what leads nowhere is put aside and brought back";
        "memory-alarm", RABBIT, RABBIT, true, brokers::memory_alarm,
            "publishing is blocked; judging and acknowledging go on, results wait";
        "disk-alarm", RABBIT, NOWHERE, true, brokers::disk_alarm,
            "the broker's disk is full; the same";
        "ack-timeout", RABBIT, RABBIT, true, brokers::ack_timeout,
            "the broker closes the channel of a worker that holds too long; the consumer comes back";
        "queue-deleted", RABBIT, RABBIT, false, brokers::queue_deleted,
            "the work queue is deleted under its consumer, three times; said, made again";
        "topology-differs", RABBIT, RABBIT, false, brokers::topology_differs,
            "a queue of the same name is of another kind; nobody starts, and says what differs";
        "wrong-password", RABBIT, NOWHERE, false, real::wrong_password,
            "refused at once with the cause, no secret in the log";
        "wrong-vhost", RABBIT, NOWHERE, false, real::wrong_vhost,
            "refused at once with the cause";
        "model-spoiled", RABBIT, NOWHERE, false, real::model_spoiled,
            "one bit of the weights differs; not started, comments wait";
        "model-missing", RABBIT, NOWHERE, false, real::model_missing,
            "the weights are not there; not started, comments wait";
        "hostile-messages", RABBIT, RABBIT, false, messages::hostile_messages,
            "bad JSON, bad UTF-8, lone surrogates, deep nesting, 2 MB; each parked with its reason";
        "damaged-rows", EMBEDDED, EMBEDDED, false, stores::damaged_rows,
            "rows of the queue that cannot be read; each parked, neighbours unharmed";
        "odd-headers", RABBIT, RABBIT, false, messages::odd_headers,
            "headers of every type, 64 kB of them, traces that are none";
        "poison", EVERYWHERE, FILES, false, messages::poison,
            "comments that the judge panics at or refuses; parked alone";
        "poison-that-kills", EVERYWHERE, EMBEDDED, false, messages::poison_that_kills,
            "a comment that ends every process that touches it; parked alone, neighbours judged";
        "duplicate-storm", EVERYWHERE, ENDS, false, messages::duplicate_storm,
            "each comment five times, shuffled, two workers; one result each";
        "edits-reordered", EVERYWHERE, ENDS, false, messages::edits_reordered,
            "ten revisions of each comment in any order; the highest stands";
        "deleted-before-created", RABBIT, RABBIT, false, messages::deleted_before_created,
            "deletions overtake what they delete; withdrawn";
        "parked-replayed", EVERYWHERE, FILES, false, messages::parked_replayed,
            "parked comments are replayed, fail again, and are replayed to a judge that can";
        "flood", EVERYWHERE, RABBIT, false, messages::flood,
            "six thousand at once; memory flat, urgent comments not behind them";
        "store-locked", EVERYWHERE, EMBEDDED, false, stores::locked,
            "another process holds the write lock for 14 s; said, nothing counted against comments";
        "store-refuses", EVERYWHERE, RABBIT, false, stores::refuses,
            "the store refuses every write for two seconds";
        "disk-full", FILES, EMBEDDED, false, stores::disk_full,
            "the store's disk is full for four seconds, twice";
        "server-killed", SERVERS, SERVERS, true, servers::killed,
            "every process of PostgreSQL is killed under load, three times; nothing counted against comments";
        "server-stopped", SERVERS, NOWHERE, true, servers::stopped,
            "PostgreSQL is stopped in good order for four seconds, twice";
        "server-frozen", SERVERS, NOWHERE, true, servers::frozen,
            "PostgreSQL is frozen for eight seconds";
        "server-cut", SERVERS, SERVERS, false, servers::cut,
            "a proxy resets the worker's connections to PostgreSQL, six times";
        "server-full", SERVERS, SERVERS, false, servers::full,
            "PostgreSQL's disk is full for four seconds, twice";
        "too-many-connections", SERVERS, NOWHERE, true, servers::too_many_connections,
            "PostgreSQL has no place for another client, and the workers lose theirs";
        "wal-torn", EMBEDDED, EMBEDDED, false, stores::torn,
            "the process is gone in the middle of a write and half a frame is left";
        "clock-jumps", EVERYWHERE, FILES, false, stores::clock_jumps,
            "the workers' clock jumps a day ahead, two days back, and is right again";
        "other-rulebook", FILES, NOWHERE, false, stores::other_rulebook,
            "the store names another rulebook for a while; comments wait, none is parked";
        "chaos", EVERYWHERE, EMBEDDED, true, chaos::mixed,
            "kills, locks, cuts, restarts and hostile messages by the seed";
    ]
}
