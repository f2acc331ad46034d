//! Two workers and a relay, through every order in which their steps, crashes and lost leases can fall.
//!
//! The world is small enough to be walked whole: one comment whose first revision is a
//! disclosure and whose second is not, the second sent twice, and a person who may decide at
//! any moment. What a judgement means for the comment's row is asked of the code that the
//! stores share ([`standing`](moothall::store::standing)); the rows around it are a copy in
//! memory. That the copy does as the real store does is shown by walking some hundred of the
//! same ways on that. No clock, no chance, no thread.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::fmt::Write as _;
use std::sync::OnceLock;

use moothall::domain::decision::{Verdict, standing_verdict};
use moothall::pipeline::identity::{arrival_key, text_hash};
use moothall::pipeline::ports::{Judged, Store};
use moothall::store::standing::{Place, Standing, Tell, event_id, result_id};
use moothall::wire::event::{ALERT_SAFEGUARDING, COMMENT_ASSESSED};

use crate::support::{Bench, judged, key, mentoring, revision};

/// Messages on the queue: the arrival that each brings, in the order in which they were sent.
const MESSAGES: [usize; 3] = [0, 1, 1];
/// Arrivals: revision 1 is a disclosure, revision 2 takes it back.
const VERDICTS: [Verdict; 2] = [Verdict::Escalate, Verdict::Accept];
const TEXTS: [&str; 2] = ["help", "fine"];
/// What a person decides, about whatever text is the current one.
const DECIDES: Verdict = Verdict::Reject;
/// Events: the result of each arrival, and the alert.
const EVENTS: usize = 3;
const ALERT: usize = 2;

/// How much goes wrong on one way. Each more multiplies the ways; two of each already meet each other.
const TROUBLES: Troubles = Troubles { crashes: 2, slow_workers: 2, relay_crashes: 1, slow_relays: 1, decisions: 1 };

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Troubles {
    crashes: u8,
    slow_workers: u8,
    relay_crashes: u8,
    slow_relays: u8,
    decisions: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Slot {
    Waiting,
    Leased(usize),
    Done,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Worker {
    Idle,
    Holds(usize),
    Recorded(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Relay {
    Idle,
    /// Events by bit.
    Claimed(u8),
    Sent(u8),
}

/// One row of the outbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Message {
    sent: bool,
    leased: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct World {
    queue: [Slot; MESSAGES.len()],
    workers: [Worker; 2],
    relay: Relay,
    /// Position of the first sight of each arrival that is stored.
    revisions: [Option<i64>; 2],
    current: Option<usize>,
    verdict: Option<u8>,
    disclosed: Option<usize>,
    decided: Option<usize>,
    outbox: [Option<Message>; EVENTS],
    /// Times that each event was seen outside.
    seen: [u8; EVENTS],
    /// Times that a claim of each event ended without its mark.
    lost: [u8; EVENTS],
    /// Times that storing each arrival was news.
    news: [u8; 2],
    left: Troubles,
}

/// What happens next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Receive(usize),
    Record(usize),
    Settle(usize),
    CrashWorker(usize),
    /// A worker that still works loses its lease.
    LoseLease(usize),
    Decide,
    Claim,
    Send,
    Mark,
    CrashRelay,
    LoseClaims,
}

/// What does not change: the arrivals and the names of their events.
struct Facts {
    judged: [Judged; 3],
    arrivals: [String; 2],
    hashes: [String; 2],
    events: HashMap<String, usize>,
}

fn verdict_no(verdict: Verdict) -> u8 {
    [Verdict::Accept, Verdict::Hold, Verdict::Reject, Verdict::Escalate].iter().position(|v| *v == verdict).unwrap()
        as u8
}

impl Facts {
    fn new() -> Self {
        let one = |message: usize| {
            let arrival = MESSAGES[message];
            let comment = revision("1", arrival as i64 + 1, TEXTS[arrival]);
            judged(comment, 10 * (message as i64 + 1), VERDICTS[arrival])
        };
        let judged = [one(0), one(1), one(2)];
        let arrivals = [arrival_key(&judged[0].comment), arrival_key(&judged[1].comment)];
        let hashes = TEXTS.map(text_hash);
        let mut events = HashMap::new();
        for arrival in 0..2 {
            events.insert(result_id(COMMENT_ASSESSED, &judged[arrival], &arrivals[arrival], Tell::Once), arrival);
        }
        events.insert(event_id(ALERT_SAFEGUARDING, &key("1"), &[&hashes[0]]), ALERT);
        assert_eq!(events.len(), EVENTS, "every event has a name of its own");
        Self { judged, arrivals, hashes, events }
    }
}

impl World {
    fn new() -> Self {
        Self {
            queue: [Slot::Waiting; 3],
            workers: [Worker::Idle; 2],
            relay: Relay::Idle,
            revisions: [None; 2],
            current: None,
            verdict: None,
            disclosed: None,
            decided: None,
            outbox: [None; EVENTS],
            seen: [0; EVENTS],
            lost: [0; EVENTS],
            news: [0; 2],
            left: TROUBLES,
        }
    }

    /// Everything that can happen next.
    fn steps(&self) -> Vec<Step> {
        let mut steps = Vec::new();
        let waits = self.queue.contains(&Slot::Waiting);
        for (n, worker) in self.workers.iter().enumerate() {
            match worker {
                Worker::Idle if waits => steps.push(Step::Receive(n)),
                Worker::Idle => {}
                Worker::Holds(message) | Worker::Recorded(message) => {
                    steps.push(if matches!(worker, Worker::Holds(_)) { Step::Record(n) } else { Step::Settle(n) });
                    if self.left.crashes > 0 {
                        steps.push(Step::CrashWorker(n));
                    }
                    if self.left.slow_workers > 0 && self.queue[*message] == Slot::Leased(n) {
                        steps.push(Step::LoseLease(n));
                    }
                }
            }
        }
        if self.left.decisions > 0 && self.current.is_some() {
            steps.push(Step::Decide);
        }
        let open = self.outbox.iter().flatten().any(|row| !row.sent && !row.leased);
        match self.relay {
            Relay::Idle if open => steps.push(Step::Claim),
            Relay::Idle => {}
            Relay::Claimed(_) => steps.push(Step::Send),
            Relay::Sent(_) => steps.push(Step::Mark),
        }
        if self.relay != Relay::Idle && self.left.relay_crashes > 0 {
            steps.push(Step::CrashRelay);
        }
        // Claims that nobody holds any more come back for certain.
        let leased = self.outbox.iter().flatten().any(|row| !row.sent && row.leased);
        if leased && (self.relay == Relay::Idle || self.left.slow_relays > 0) {
            steps.push(Step::LoseClaims);
        }
        steps
    }

    fn step(&self, step: Step, facts: &Facts) -> Self {
        let mut next = self.clone();
        match step {
            Step::Receive(n) => {
                let first = next.queue.iter().position(|slot| *slot == Slot::Waiting).unwrap();
                next.queue[first] = Slot::Leased(n);
                next.workers[n] = Worker::Holds(first);
            }
            Step::Record(n) => {
                let Worker::Holds(message) = next.workers[n] else { unreachable!() };
                next.record(message, facts);
                next.workers[n] = Worker::Recorded(message);
            }
            Step::Settle(n) => {
                let Worker::Recorded(message) = next.workers[n] else { unreachable!() };
                // Only a lease of its own.
                if next.queue[message] == Slot::Leased(n) {
                    next.queue[message] = Slot::Done;
                }
                next.workers[n] = Worker::Idle;
            }
            Step::CrashWorker(n) => {
                for slot in &mut next.queue {
                    if *slot == Slot::Leased(n) {
                        *slot = Slot::Waiting;
                    }
                }
                next.workers[n] = Worker::Idle;
                next.left.crashes -= 1;
            }
            Step::LoseLease(n) => {
                let (Worker::Holds(message) | Worker::Recorded(message)) = next.workers[n] else { unreachable!() };
                next.queue[message] = Slot::Waiting;
                next.left.slow_workers -= 1;
            }
            Step::Decide => {
                next.decided = next.current;
                next.verdict = Some(verdict_no(DECIDES));
                next.left.decisions -= 1;
            }
            Step::Claim => {
                let mut claimed = 0;
                for (n, row) in next.outbox.iter_mut().enumerate() {
                    if let Some(row) = row
                        && !row.sent
                        && !row.leased
                    {
                        row.leased = true;
                        claimed |= 1 << n;
                    }
                }
                next.relay = Relay::Claimed(claimed);
            }
            Step::Send => {
                let Relay::Claimed(claimed) = next.relay else { unreachable!() };
                each(claimed, |event| next.seen[event] += 1);
                next.relay = Relay::Sent(claimed);
            }
            Step::Mark => {
                let Relay::Sent(sent) = next.relay else { unreachable!() };
                each(sent, |event| next.outbox[event] = Some(Message { sent: true, leased: false }));
                next.relay = Relay::Idle;
            }
            Step::CrashRelay => {
                next.relay = Relay::Idle;
                next.left.relay_crashes -= 1;
            }
            Step::LoseClaims => {
                if next.relay != Relay::Idle {
                    next.left.slow_relays -= 1;
                }
                for (n, row) in next.outbox.iter_mut().enumerate() {
                    if let Some(row) = row
                        && row.leased
                    {
                        row.leased = false;
                        next.lost[n] += 1;
                    }
                }
            }
        }
        next
    }

    /// As a store's transaction does it, with the plan that the stores share.
    fn record(&mut self, message: usize, facts: &Facts) {
        let (judged, arrival) = (&facts.judged[message], MESSAGES[message]);
        let standing = Standing {
            arrival_key: self.current.map(|current| facts.arrivals[current].clone()),
            revision: self.current.map(|current| current as i64 + 1),
            sequence: self.current.and_then(|current| self.revisions[current]),
            pipeline_version: self.current.map(|_| "v1".to_owned()),
            seen: self.revisions[arrival],
            ..Standing::default()
        };
        let place = standing.place(&facts.arrivals[arrival], judged);
        if place == Place::Known {
            return;
        }
        self.revisions[arrival].get_or_insert(judged.sequence);
        let machine = judged.assessment.verdict;
        if machine == Verdict::Escalate {
            if place == Place::Current {
                self.disclosed = Some(arrival);
            } else {
                self.disclosed.get_or_insert(arrival);
            }
            self.tell(&event_id(ALERT_SAFEGUARDING, &judged.comment.key, &[&facts.hashes[arrival]]), facts);
        }
        if place == Place::Current {
            self.news[arrival] += 1;
            self.current = Some(arrival);
            let stands = self.stands(arrival);
            self.verdict = Some(verdict_no(stands));
            if stands == machine {
                self.tell(&result_id(COMMENT_ASSESSED, judged, &facts.arrivals[arrival], Tell::Once), facts);
            }
        }
    }

    fn stands(&self, arrival: usize) -> Verdict {
        let decided = (self.decided == Some(arrival)).then_some(DECIDES);
        standing_verdict(decided, self.disclosed == Some(arrival), VERDICTS[arrival])
    }

    fn tell(&mut self, event: &str, facts: &Facts) {
        self.outbox[facts.events[event]].get_or_insert(Message { sent: false, leased: false });
    }

    /// What must hold at every moment.
    fn check(&self) -> Result<(), String> {
        for (n, slot) in self.queue.iter().enumerate() {
            if *slot == Slot::Done && self.revisions[MESSAGES[n]].is_none() {
                return Err(format!("message {n} is settled and not stored"));
            }
        }
        for event in 0..EVENTS {
            let sent = self.outbox[event].is_some_and(|row| row.sent);
            if sent && self.seen[event] == 0 {
                return Err(format!("event {event} is marked and was never sent"));
            }
            if self.seen[event] > 1 + self.lost[event] {
                return Err(format!("event {event} was sent twice though no claim was lost"));
            }
        }
        if self.news.iter().any(|times| *times > 1) {
            return Err("storing an arrival was news twice".to_owned());
        }
        let newest = (0..2).rev().find(|arrival| self.revisions[*arrival].is_some());
        if self.current != newest {
            return Err(format!("revision {:?} is current, {newest:?} is the newest", self.current));
        }
        if let Some(current) = self.current
            && self.verdict != Some(verdict_no(self.stands(current)))
        {
            return Err("the row's verdict is not the one that stands".to_owned());
        }
        if self.revisions[0].is_some() != self.outbox[ALERT].is_some() {
            return Err("a disclosure is stored and raised no alert".to_owned());
        }
        if self.revisions[1].is_some() && self.outbox[1].is_none() {
            return Err("the current judgement is told to nobody".to_owned());
        }
        Ok(())
    }

    fn is_ended(&self) -> bool {
        self.queue.iter().all(|slot| *slot == Slot::Done)
            && self.workers.iter().all(|worker| *worker == Worker::Idle)
            && self.relay == Relay::Idle
            && self.outbox.iter().flatten().all(|row| row.sent)
    }
}

fn each(bits: u8, mut of: impl FnMut(usize)) {
    (0..EVENTS).filter(|event| bits & (1 << event) != 0).for_each(&mut of);
}

/// Every state, with the step that first led to it and all states that lead to it.
struct Walk {
    states: Vec<World>,
    by: Vec<Option<(usize, Step)>>,
    before: Vec<Vec<usize>>,
}

impl Walk {
    /// Walked once for all tests.
    fn shared() -> &'static Self {
        static WALK: OnceLock<Walk> = OnceLock::new();
        WALK.get_or_init(|| Self::whole(&Facts::new()))
    }

    fn whole(facts: &Facts) -> Self {
        let mut walk = Self { states: vec![World::new()], by: vec![None], before: vec![Vec::new()] };
        let mut known = HashMap::from([(World::new(), 0)]);
        let mut next = VecDeque::from([0]);
        while let Some(at) = next.pop_front() {
            let state = walk.states[at].clone();
            state.check().unwrap_or_else(|why| panic!("{why}\n{}", walk.way(at)));
            for step in state.steps() {
                let after = state.step(step, facts);
                let to = *known.entry(after.clone()).or_insert_with(|| {
                    walk.states.push(after);
                    walk.by.push(Some((at, step)));
                    walk.before.push(Vec::new());
                    next.push_back(walk.states.len() - 1);
                    walk.states.len() - 1
                });
                walk.before[to].push(at);
            }
        }
        walk
    }

    fn steps_to(&self, mut at: usize) -> Vec<Step> {
        let mut steps = Vec::new();
        while let Some((before, step)) = self.by[at] {
            steps.push(step);
            at = before;
        }
        steps.reverse();
        steps
    }

    fn way(&self, at: usize) -> String {
        let mut way = String::new();
        for step in self.steps_to(at) {
            let _ = writeln!(way, "  {step:?}");
        }
        way
    }

    /// States from which no end can be reached any more.
    fn stuck(&self) -> Vec<usize> {
        let mut ends = vec![false; self.states.len()];
        let mut next: Vec<usize> = (0..self.states.len()).filter(|at| self.states[*at].is_ended()).collect();
        while let Some(at) = next.pop() {
            if !std::mem::replace(&mut ends[at], true) {
                next.extend(self.before[at].iter().copied());
            }
        }
        (0..self.states.len()).filter(|at| !ends[*at]).collect()
    }
}

#[test]
fn no_order_of_steps_and_faults_loses_or_doubles_an_effect() {
    let walk = Walk::shared();
    let ended = walk.states.iter().filter(|state| state.is_ended()).count();
    println!("{} states walked, {ended} of them ends", walk.states.len());
    assert!(walk.states.len() > 10_000, "only {} states: the walk is no walk", walk.states.len());
    let stuck = walk.stuck();
    assert!(stuck.is_empty(), "{} states never come to an end, the first:\n{}", stuck.len(), walk.way(stuck[0]));
    // What the walk is for has come up on the way.
    assert!(walk.states.iter().any(|state| state.seen.contains(&2)), "no event was ever sent twice");
    assert!(walk.states.iter().any(|state| state.current == Some(1) && state.disclosed == Some(0)));
    assert!(walk.states.iter().any(|state| state.is_ended() && state.decided == Some(0) && state.current == Some(1)));
}

#[test]
fn the_walk_finds_a_store_that_forgets_a_guard() {
    // A person's decision that a late judgement of the same text overwrites.
    let mut state = World::new();
    let facts = Facts::new();
    for step in [Step::Receive(0), Step::Record(0), Step::Decide] {
        state = state.step(step, &facts);
    }
    state.check().unwrap();
    state.verdict = Some(verdict_no(Verdict::Escalate));
    assert!(state.check().is_err());
    // An older revision that becomes the current one.
    let mut state = World::new();
    for step in [Step::Receive(0), Step::Receive(1), Step::Record(1), Step::Record(0)] {
        state = state.step(step, &facts);
    }
    state.check().unwrap();
    state.current = Some(0);
    assert!(state.check().is_err());
}

const LEASE_MS: i64 = 1_000;

/// The same way on a real store; the queue needs none, it is only what is held.
async fn walk_for_real(steps: &[Step], expected: &World, facts: &Facts) {
    let bench = Bench::new();
    let store = bench.store().await;
    let mut world = World::new();
    let mut held: Vec<(String, String)> = Vec::new();
    let mut starts = 0;
    for step in steps {
        match *step {
            Step::Record(n) => {
                let Worker::Holds(message) = world.workers[n] else { unreachable!() };
                store.record(std::slice::from_ref(&facts.judged[message])).await.unwrap();
            }
            Step::Decide => {
                let hash = &facts.hashes[world.current.unwrap()];
                assert!(store.decide(&key("1"), hash, DECIDES, "lead").await.unwrap());
            }
            Step::Claim => {
                for kind in [COMMENT_ASSESSED, ALERT_SAFEGUARDING] {
                    let rows = store.claim(kind, &format!("relay {starts}"), 9, LEASE_MS).await.unwrap();
                    held.extend(rows.into_iter().map(|row| (row.event_id, row.kind)));
                }
            }
            Step::Mark => {
                let ids: Vec<_> = held.drain(..).map(|(id, _)| id).collect();
                store.sent(&ids).await.unwrap();
            }
            Step::CrashRelay => {
                held.clear();
                starts += 1;
            }
            Step::LoseClaims => bench.hand.advance_ms(LEASE_MS),
            Step::Receive(_) | Step::Settle(_) | Step::CrashWorker(_) | Step::LoseLease(_) | Step::Send => {}
        }
        world = world.step(*step, facts);
    }
    assert_eq!(world, *expected);
    let page = store.page(&mentoring(), i64::MIN, 9).await.unwrap();
    assert_eq!(page.first().map(|stored| stored.comment.text.as_str()), world.current.map(|arrival| TEXTS[arrival]));
    assert_eq!(page.first().map(|stored| verdict_no(stored.verdict())), world.verdict, "{steps:?}");
    let funnel = store.funnel(&mentoring()).await.unwrap();
    let counted = [funnel.accepted, funnel.held, funnel.rejected, funnel.escalated];
    let column = counted.iter().position(|count| *count == 1).map(|at| at as u8);
    assert_eq!(column, world.verdict, "the row's own verdict after {steps:?}");
    bench.hand.advance_ms(LEASE_MS);
    let mut open = BTreeSet::new();
    for kind in [COMMENT_ASSESSED, ALERT_SAFEGUARDING] {
        let rows = store.claim(kind, "onlooker", 9, LEASE_MS).await.unwrap();
        open.extend(rows.into_iter().map(|row| facts.events[&row.event_id]));
    }
    let unsent = |event: &usize| world.outbox[*event].is_some_and(|row| !row.sent);
    assert_eq!(open, (0..EVENTS).filter(unsent).collect(), "what is open after {steps:?}");
    let disclosures = store.disclosures(None).await.unwrap();
    assert_eq!(disclosures.first().map(|one| one.comment.text.as_str()), world.disclosed.map(|arrival| TEXTS[arrival]));
}

#[tokio::test]
async fn the_real_store_goes_the_same_ways() {
    const WAYS: usize = 120;
    let facts = Facts::new();
    let walk = Walk::shared();
    // Evenly over the walk, which is in the order of how much has happened.
    let every = walk.states.len() / WAYS;
    let mut steps = 0;
    for at in (0..walk.states.len()).step_by(every) {
        let way = walk.steps_to(at);
        steps += way.len();
        walk_for_real(&way, &walk.states[at], &facts).await;
    }
    println!("{} ways of {steps} steps walked on the real store", walk.states.len().div_ceil(every));
}
