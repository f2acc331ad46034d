//! What the outbox of every [`Store`] does: each message is one process's at a time
//! while it is being sent, and none is forgotten.

use std::collections::{HashMap, HashSet};

use moothall::domain::decision::Verdict;
use moothall::pipeline::ports::{Backlog, OutboxRow, Store};
use moothall::wire::event::{ALERT_SAFEGUARDING, COMMENT_ASSESSED};
use proptest::collection::vec;
use proptest::sample::select;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;

use super::store::StoreUnderTest;
use crate::support::{comment, judged};

const LEASE_MS: i64 = 1_000;

/// Runs this part of the store's suite, each test on a store of its own.
pub async fn contract<F, T>(make: &F)
where
    F: AsyncFn() -> T,
    T: StoreUnderTest,
{
    messages_are_kept_until_sent(make().await).await;
    a_message_is_one_owners_at_a_time(make().await).await;
    a_lease_that_ran_out_can_be_claimed_again(make().await).await;
    a_lease_of_a_clock_that_was_ahead_keeps_nobody_waiting(make().await).await;
    what_is_released_can_be_claimed_at_once(make().await).await;
    what_is_sent_after_its_lease_is_sent(make().await).await;
    kinds_are_apart_and_in_order(make().await).await;
    the_backlog_tells_the_oldest(make().await).await;
    many_messages_are_sent_at_once(make().await).await;
    two_relays_lose_nothing_and_repeat_only_what_a_lease_lost(make().await).await;
}

/// Every message that waits and that nobody holds, without taking it away.
pub async fn messages(store: &dyn Store) -> Vec<OutboxRow> {
    let mut rows = Vec::new();
    for kind in [COMMENT_ASSESSED, ALERT_SAFEGUARDING] {
        rows.extend(store.claim(kind, "onlooker", 100_000, LEASE_MS).await.unwrap());
    }
    store.release("onlooker").await.unwrap();
    rows
}

/// Makes a result for each id.
async fn write(store: &dyn Store, ids: impl IntoIterator<Item = u32>) {
    let batch: Vec<_> = ids
        .into_iter()
        .map(|n| judged(comment(&n.to_string(), &format!("text {n}")), i64::from(n), Verdict::Accept))
        .collect();
    store.record(&batch).await.unwrap();
}

async fn claim(store: &dyn Store, owner: &str, limit: u32) -> Vec<OutboxRow> {
    store.claim(COMMENT_ASSESSED, owner, limit, LEASE_MS).await.unwrap()
}

fn event_ids(rows: &[OutboxRow]) -> Vec<String> {
    rows.iter().map(|row| row.event_id.clone()).collect()
}

async fn unsent(store: &dyn Store) -> u64 {
    store.backlog(None).await.unwrap().unsent
}

async fn messages_are_kept_until_sent(bench: impl StoreUnderTest) {
    let store = bench.store();
    store.record(&[judged(comment("1", "a secret"), 1, Verdict::Escalate)]).await.unwrap();
    let rows = messages(&*store).await;
    assert_eq!(rows.len(), 2);
    assert!(rows.iter().all(|row| !row.body.is_empty() && !row.body.contains("secret")));
    store.sent(&event_ids(&rows[..1])).await.unwrap();
    assert_eq!(messages(&*store).await, rows[1..]);
    // Sent is final: not after its lease, not by a release, not by its cause recorded again.
    bench.pass_ms(LEASE_MS * 2).await;
    store.release("onlooker").await.unwrap();
    store.record(&[judged(comment("1", "a secret"), 1, Verdict::Escalate)]).await.unwrap();
    assert_eq!(messages(&*store).await, rows[1..]);
    store.sent(&event_ids(&rows)).await.unwrap();
    assert!(messages(&*store).await.is_empty());
    assert_eq!(store.backlog(None).await.unwrap(), Backlog::default());
}

async fn a_message_is_one_owners_at_a_time(bench: impl StoreUnderTest) {
    let store = bench.store();
    write(&*store, 0..60).await;
    // At the same time, from several connections.
    let claims = (0..6).map(|n| {
        let store = bench.store();
        async move { claim(&*store, &format!("relay {n}"), 10).await }
    });
    let claimed: Vec<_> = futures_util::future::join_all(claims).await.into_iter().flatten().collect();
    let distinct: HashSet<_> = event_ids(&claimed).into_iter().collect();
    assert_eq!((claimed.len(), distinct.len()), (60, 60));
    // Not even its owner gets it a second time.
    assert!(claim(&*store, "relay 0", 100).await.is_empty());
    assert_eq!(unsent(&*store).await, 60);
}

async fn a_lease_that_ran_out_can_be_claimed_again(bench: impl StoreUnderTest) {
    let store = bench.store();
    write(&*store, 0..3).await;
    let first = claim(&*store, "one", 2).await;
    bench.pass_ms(LEASE_MS - 1).await;
    let third = claim(&*store, "two", 9).await;
    assert_eq!(third.len(), 1);
    bench.pass_ms(1).await;
    assert_eq!(claim(&*store, "two", 9).await, first);
    // Its former owner gives back what is no longer its own: nothing.
    store.release("one").await.unwrap();
    assert!(claim(&*store, "three", 9).await.is_empty());
}

async fn a_lease_of_a_clock_that_was_ahead_keeps_nobody_waiting(bench: impl StoreUnderTest) {
    const DAY_MS: i64 = 86_400_000;
    let store = bench.store();
    write(&*store, 0..2).await;
    bench.pass_ms(DAY_MS).await;
    let ahead = claim(&*store, "ahead", 9).await;
    bench.pass_ms(-DAY_MS).await;
    assert_eq!(claim(&*store, "right", 9).await, ahead);
    assert!(claim(&*store, "other", 9).await.is_empty());
}

async fn what_is_released_can_be_claimed_at_once(bench: impl StoreUnderTest) {
    let store = bench.store();
    write(&*store, 0..4).await;
    let mine = claim(&*store, "one", 3).await;
    let theirs = claim(&*store, "two", 3).await;
    store.sent(&event_ids(&mine[..1])).await.unwrap();
    store.release("one").await.unwrap();
    assert_eq!(claim(&*store, "three", 9).await, mine[1..]);
    store.release("two").await.unwrap();
    assert_eq!(claim(&*store, "three", 9).await, theirs);
}

async fn what_is_sent_after_its_lease_is_sent(bench: impl StoreUnderTest) {
    let store = bench.store();
    write(&*store, 0..2).await;
    let slow = claim(&*store, "slow", 9).await;
    bench.pass_ms(LEASE_MS).await;
    assert_eq!(claim(&*store, "quick", 9).await, slow);
    store.sent(&event_ids(&slow[..1])).await.unwrap();
    assert_eq!(unsent(&*store).await, 1);
    // The other one says so too, and gives back the rest.
    store.sent(&event_ids(&slow[..1])).await.unwrap();
    store.sent(&["nothing of this name".to_owned()]).await.unwrap();
    store.sent(&[]).await.unwrap();
    store.release("quick").await.unwrap();
    assert_eq!(claim(&*store, "third", 9).await, slow[1..]);
}

async fn kinds_are_apart_and_in_order(bench: impl StoreUnderTest) {
    let store = bench.store();
    let verdict = |n: u32| if n.is_multiple_of(3) { Verdict::Escalate } else { Verdict::Accept };
    for n in 0..9 {
        let text = format!("text {n}");
        store.record(&[judged(comment(&n.to_string(), &text), i64::from(n), verdict(n))]).await.unwrap();
        bench.pass_ms(10).await;
    }
    let results = claim(&*store, "results", 99).await;
    let alerts = store.claim(ALERT_SAFEGUARDING, "alerts", 2, LEASE_MS).await.unwrap();
    assert_eq!((results.len(), alerts.len()), (9, 2), "a limit holds, and neither waits for the other");
    for (kind, rows) in [(COMMENT_ASSESSED, &results), (ALERT_SAFEGUARDING, &alerts)] {
        assert!(rows.iter().all(|row| row.kind == kind));
        assert!(rows.is_sorted_by(|a, b| a.created_at_ms < b.created_at_ms));
    }
    assert!(store.claim("comment.unheard.of", "other", 9, LEASE_MS).await.unwrap().is_empty());
}

async fn the_backlog_tells_the_oldest(bench: impl StoreUnderTest) {
    let store = bench.store();
    assert_eq!(store.backlog(None).await.unwrap(), Backlog::default());
    write(&*store, 0..2).await;
    let began = store.backlog(None).await.unwrap().oldest_ms.unwrap();
    bench.pass_ms(50).await;
    store.record(&[judged(comment("9", "help"), 9, Verdict::Escalate)]).await.unwrap();
    let backlog = |unsent, after_ms| Backlog { unsent, oldest_ms: Some(began + after_ms) };
    assert_eq!(store.backlog(None).await.unwrap(), backlog(4, 0));
    assert_eq!(store.backlog(Some(COMMENT_ASSESSED)).await.unwrap(), backlog(3, 0));
    assert_eq!(store.backlog(Some(ALERT_SAFEGUARDING)).await.unwrap(), backlog(1, 50));
    // Claimed is not sent.
    let first = claim(&*store, "one", 2).await;
    assert_eq!(store.backlog(None).await.unwrap(), backlog(4, 0));
    store.sent(&event_ids(&first)).await.unwrap();
    assert_eq!(store.backlog(Some(COMMENT_ASSESSED)).await.unwrap(), backlog(1, 50));
}

async fn many_messages_are_sent_at_once(bench: impl StoreUnderTest) {
    let store = bench.store();
    write(&*store, 0..1_300).await;
    let rows = claim(&*store, "one", 5_000).await;
    assert_eq!(rows.len(), 1_300);
    store.sent(&event_ids(&rows)).await.unwrap();
    assert_eq!(unsent(&*store).await, 0);
}

/// What happens next, to the relay of that number.
#[derive(Clone, Copy, Debug)]
enum Event {
    /// It goes one step on: it claims, sends, or marks what it has sent.
    Step(usize),
    /// It is gone with all that it knew, and another starts in its place.
    Crash(usize),
    /// It marks what it has sent, gives back the rest, and starts anew.
    Stop(usize),
    /// Half a lease passes.
    Time,
}

/// A claimed row, and when its lease began.
type Held = Vec<(String, i64)>;

#[derive(Default)]
struct Relay {
    name: String,
    claimed: Held,
    sent: Held,
}

/// What the world outside has seen of one round of messages.
#[derive(Default)]
struct World {
    now_ms: i64,
    starts: u32,
    /// The last lease of each row.
    leases: HashMap<String, i64>,
    /// When the leases began under which each row was sent.
    sent: HashMap<String, Vec<i64>>,
    marked: HashSet<String>,
}

impl World {
    fn start(&mut self) -> Relay {
        self.starts += 1;
        Relay { name: format!("relay {}", self.starts), ..Relay::default() }
    }

    async fn step(&mut self, store: &dyn Store, relay: &mut Relay) {
        if !relay.claimed.is_empty() {
            for (id, since) in &relay.claimed {
                self.send(id, *since);
            }
            relay.sent.append(&mut relay.claimed);
        } else if !relay.sent.is_empty() {
            self.mark(store, relay).await;
        } else {
            for row in claim(store, &relay.name, 2).await {
                assert!(!row.body.is_empty());
                assert!(!self.marked.contains(&row.event_id), "handed out after it was sent");
                let before = self.leases.insert(row.event_id.clone(), self.now_ms);
                assert!(before.is_none_or(|since| since + LEASE_MS <= self.now_ms), "two owners at a time");
                relay.claimed.push((row.event_id, self.now_ms));
            }
        }
    }

    fn send(&mut self, id: &str, since: i64) {
        let before = self.sent.entry(id.to_owned()).or_default();
        let apart = |other: &i64| (since - other).abs() >= LEASE_MS;
        assert!(before.iter().all(apart), "sent twice though no lease ran out");
        before.push(since);
    }

    async fn mark(&mut self, store: &dyn Store, relay: &mut Relay) {
        let ids: Vec<_> = relay.sent.drain(..).map(|(id, _)| id).collect();
        store.sent(&ids).await.unwrap();
        self.marked.extend(ids);
    }

    async fn stop(&mut self, store: &dyn Store, relay: &mut Relay) {
        self.mark(store, relay).await;
        store.release(&relay.name).await.unwrap();
        for (id, since) in relay.claimed.drain(..) {
            // It may be another's by now.
            if self.leases.get(&id) == Some(&since) {
                self.leases.remove(&id);
            }
        }
        *relay = self.start();
    }
}

async fn two_relays_lose_nothing_and_repeat_only_what_a_lease_lost(bench: impl StoreUnderTest) {
    use Event::{Crash, Step, Stop, Time};
    // Steps are the most likely, and what a row lives through is told by their order.
    let events = select(vec![Step(0), Step(0), Step(0), Step(1), Step(1), Crash(0), Crash(1), Stop(0), Stop(1), Time]);
    let rounds = vec(events, 4..24);
    let mut runner = TestRunner::deterministic();
    let store = bench.store();
    let mut repeated = 0;
    for round in 0..150 {
        let events = rounds.new_tree(&mut runner).unwrap().current();
        write(&*store, round * 5..(round + 1) * 5).await;
        let mut world = World::default();
        let mut relays = [world.start(), world.start()];
        for event in events {
            match event {
                Step(n) => world.step(&*store, &mut relays[n]).await,
                Crash(n) => relays[n] = world.start(),
                Stop(n) => world.stop(&*store, &mut relays[n]).await,
                Time => {
                    bench.pass_ms(LEASE_MS / 2).await;
                    world.now_ms += LEASE_MS / 2;
                }
            }
        }
        // However it went, one relay that works on brings it to an end.
        let mut last = world.start();
        bench.pass_ms(LEASE_MS).await;
        world.now_ms += LEASE_MS;
        for _ in 0..12 {
            world.step(&*store, &mut last).await;
        }
        assert_eq!(unsent(&*store).await, 0, "round {round}");
        assert_eq!((world.sent.len(), world.marked.len()), (5, 5), "round {round}");
        repeated += world.sent.values().filter(|times| times.len() > 1).count();
    }
    assert!(repeated > 0, "no round was one of trouble");
}
