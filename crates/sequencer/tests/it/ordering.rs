//! The pure core: whatever it signs and cuts, a reader takes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use synddb_protocol::id::{Epoch, Sequence, Timestamp};
use synddb_protocol::limits::BODY_BYTES_MAX;
use synddb_protocol::log::{
    Batch, Body, Entry, EpochRecord, KeyProof, Leaders, Message, SignedEpochRecord, Tip,
};
use synddb_protocol::signing::TrustedKeys;
use synddb_sequencer::Batching;
use synddb_sequencer::ordering::{Due, Judgement, Ordering, Signed};

use crate::sample::{Client, STREAM, key};

/// What happens to an order.
#[derive(Debug, Clone)]
enum Step {
    /// The next commits come, this many.
    Commits(u64),
    /// A part comes; the last one or not.
    Part(bool),
    /// A snapshot comes after the last commit.
    Snapshot,
    /// A new incarnation begins.
    Begin,
    /// Something comes that does not follow.
    Wrong,
    /// The same comes again.
    Again,
    /// Several are signed, and the transaction fails.
    Undone(u64),
    /// Time passes, in milliseconds; the wall clock may go back.
    Time(u64, bool),
    /// A batch is cut, if one is due.
    Cut,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (1..5u64).prop_map(Step::Commits),
        4 => prop::bool::weighted(0.3).prop_map(Step::Part),
        1 => Just(Step::Snapshot),
        1 => Just(Step::Begin),
        2 => Just(Step::Wrong),
        2 => Just(Step::Again),
        2 => (1..4u64).prop_map(Step::Undone),
        3 => (0..200u64, any::<bool>()).prop_map(|(ms, back)| Step::Time(ms, back)),
        4 => Just(Step::Cut),
    ];
    prop::collection::vec(step, 1..60)
}

/// An order with a client, a journal that never fails unless it is told to, and a reader.
struct World {
    ordering: Ordering,
    client: Client,
    last: Option<Body>,
    journal: Vec<Message>,
    record: SignedEpochRecord,
    wall_ms: u64,
    now: Instant,
    cut: Vec<Batch>,
}

impl World {
    fn new(batching: Batching) -> Self {
        let (key, epoch) = (key(7), Epoch::new(3).unwrap());
        let record = EpochRecord { stream: STREAM, epoch, proof: KeyProof::Unattested }.sign(&key);
        let ordering = Ordering::new(Tip::start(STREAM), epoch, Arc::new(key), batching, 0);
        let mut world = Self {
            ordering,
            client: Client::new(STREAM),
            last: None,
            journal: Vec::new(),
            record,
            wall_ms: 1_767_225_600_000,
            now: Instant::now(),
            cut: Vec::new(),
        };
        let mut draft = world.ordering.draft();
        let signed = draft.sign_epoch(world.time(), &world.record).unwrap();
        world.accept(signed);
        let beginning = world.client.beginning();
        world.take(&Entry::Snapshot(beginning)).unwrap();
        world
    }

    fn time(&self) -> Timestamp {
        Timestamp::from_ms(self.wall_ms).unwrap()
    }

    fn accept(&mut self, signed: Signed) {
        self.journal.push(signed.message);
        self.ordering.accept([signed.placed], self.now);
    }

    /// Takes an entry if it follows.
    fn take(&mut self, entry: &Entry) -> Result<(), ()> {
        let body = Body::of(entry).unwrap();
        let mut draft = self.ordering.draft();
        match draft.judge(body.entry()) {
            Judgement::New | Judgement::PerhapsKnown(_) => {}
            Judgement::Known(..) | Judgement::Refused(_) => return Err(()),
        }
        let signed = draft.sign(self.time(), body.clone()).map_err(|_| ())?;
        self.last = Some(body);
        self.accept(signed);
        Ok(())
    }

    fn step(&mut self, step: &Step) {
        let before = self.client.clone();
        let taken = match step {
            Step::Commits(count) => {
                let commits = self.client.commits(*count);
                let entry = Entry::Submission(self.client.submit(&commits));
                assert_eq!(self.take(&entry).is_ok(), before.part.is_none());
                before.part.is_none()
            }
            Step::Part(is_last) => {
                // A first part is never the last one.
                let is_last = *is_last && self.client.part.is_some();
                let entry = Entry::Submission(self.client.part(is_last));
                self.take(&entry).unwrap();
                true
            }
            Step::Snapshot if before.next > 1 => {
                let entry = Entry::Snapshot(self.client.snapshot_now());
                assert_eq!(self.take(&entry).is_ok(), before.part.is_none());
                true
            }
            Step::Begin if before.incarnation.counter.get() < 200 => {
                self.client = self.client.successor();
                self.take(&Entry::Snapshot(self.client.beginning())).unwrap();
                true
            }
            Step::Snapshot | Step::Begin => true,
            Step::Wrong => {
                let mut ahead = self.client.clone();
                ahead.part = None;
                ahead.commits(1);
                let commits = ahead.commits(1);
                let tip = self.ordering.tip().clone();
                assert!(self.take(&Entry::Submission(ahead.submit(&commits))).is_err());
                assert_eq!(*self.ordering.tip(), tip, "what is refused changes nothing");
                true
            }
            Step::Again => {
                let body = self.last.clone().unwrap();
                let judged = self.ordering.draft().judge(body.entry());
                assert!(matches!(judged, Judgement::Known(..) | Judgement::PerhapsKnown(_)), "{judged:?}");
                true
            }
            Step::Undone(count) => {
                let tip = self.ordering.tip().clone();
                let mut draft = self.ordering.draft();
                for _ in 0..*count {
                    let commits = self.client.commits_with(1, b"undone");
                    let body = Body::of(&Entry::Submission(self.client.submit(&commits))).unwrap();
                    draft.sign(self.time(), body).ok();
                }
                assert_eq!(*self.ordering.tip(), tip, "a draft changes nothing");
                false
            }
            Step::Time(ms, back) => {
                self.now += Duration::from_millis(*ms);
                self.wall_ms = if *back { self.wall_ms - ms } else { self.wall_ms + ms };
                true
            }
            Step::Cut => {
                self.cut_due(self.ordering.due(self.now));
                true
            }
        };
        if !taken {
            self.client = before;
        }
    }

    fn cut_due(&mut self, due: Due) {
        let Due::Now(last) = due else { return };
        let cut = self.ordering.cut(last);
        let place = |sequence: Sequence| usize::try_from(sequence.get()).unwrap();
        let messages = self.journal[place(cut.first) - 1..place(cut.last)].to_vec();
        let stored = cut.to_stored(messages).unwrap();
        self.cut.push(Batch::from_stored(&stored).unwrap());
    }

    /// Cuts what is left, and lets a reader verify everything from the first message on.
    fn finish(mut self, batching: Batching) -> Vec<Batch> {
        while self.ordering.due_at_end() != Due::Never {
            self.cut_due(self.ordering.due_at_end());
        }
        let pinned = TrustedKeys::pinned([*key(7).verifying_key()]);
        let mut leaders = Leaders::joining(STREAM, pinned, Epoch::new(3).unwrap());
        leaders.admit(&self.record).unwrap();
        let mut tip = Tip::start(STREAM);
        for batch in &self.cut {
            assert_eq!(batch.first(), tip.next().unwrap(), "batches are dense from 1");
            assert!(batch.messages().len() <= batching.messages_max);
            tip = batch.clone().verify(&leaders, &tip).unwrap().tip().clone();
        }
        assert_eq!(tip.last(), self.ordering.tip().last());
        assert_eq!(tip.client(), self.ordering.tip().client());
        self.cut
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_reader_verifies_everything_that_is_cut(steps in steps(), messages_max in 1..8usize) {
        let batching = Batching { age_ms: 100, messages_max, bytes_max: 1 << 20 };
        let mut world = World::new(batching);
        for step in &steps {
            world.step(step);
        }
        world.finish(batching);
    }
}

#[test]
fn a_batch_ends_inside_a_commit_only_when_it_is_full_or_waited_long() {
    let batching = Batching { age_ms: 100, messages_max: 4, bytes_max: 1 << 20 };
    let mut world = World::new(batching);
    let part = |world: &mut World, is_last| {
        let part = world.client.part(is_last);
        world.take(&Entry::Submission(part)).unwrap();
    };
    let begun = Sequence::new(2).unwrap();
    part(&mut world, false);
    let age = Duration::from_millis(100);
    assert_eq!(world.ordering.due(world.now), Due::At(world.now + age));
    world.now += age;
    // The epoch message and the snapshot go, the part stays.
    assert_eq!(world.ordering.due(world.now), Due::Now(begun));
    world.cut_due(Due::Now(begun));
    let Due::At(patience) = world.ordering.due(world.now) else { panic!() };
    assert!(patience > world.now);
    part(&mut world, false);
    part(&mut world, false);
    assert_eq!(world.ordering.due(world.now), Due::At(patience));
    assert_eq!(world.ordering.due(patience), Due::Now(Sequence::new(5).unwrap()));
    part(&mut world, false);
    // Full, although the commit is not whole.
    assert_eq!(world.ordering.due(world.now), Due::Now(Sequence::new(6).unwrap()));
    part(&mut world, true);
    let batches = world.finish(batching);
    assert_eq!(batches.iter().map(|batch| batch.messages().len()).collect::<Vec<_>>(), [2, 4, 1]);
}

#[test]
fn batches_stay_within_what_a_reader_opens() {
    // Four bodies of 32 MiB each fill what a batch may open to, though they are small as stored.
    let batching = Batching { age_ms: 0, ..Batching::default() };
    let mut world = World::new(batching);
    for _ in 0..5 {
        let commits = world.client.commits_with(1, &vec![7; BODY_BYTES_MAX - 1024]);
        world.take(&Entry::Submission(world.client.submit(&commits))).unwrap();
    }
    let batches = world.finish(batching);
    assert_eq!(batches.iter().map(|batch| batch.messages().len()).collect::<Vec<_>>(), [6, 1]);
}
