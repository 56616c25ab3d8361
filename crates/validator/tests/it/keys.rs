//! Whom a reader believes: pinned keys and a file of keys that changes while it runs; revocation before, after and between.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Value, json};
use synddb_protocol::http::HaltKind;
use synddb_protocol::id::{Epoch, KeyId, Sequence};
use synddb_protocol::log::{BatchError, MessageError, RevokedError, SignedEpochRecord};
use synddb_protocol::signing::{LastValid, Revocations, SignatureError, VerifyingKey};
use synddb_service::shutdown::Shutdown;
use synddb_service::telemetry::Metrics;
use synddb_sqlite::rusqlite;
use synddb_storage::BatchStore;
use synddb_validator::keys::{Judgement, KeySource, KeysFileError, RevokedKey, Unreachable};
use synddb_validator::{
    Config, ConfigProblem, End, Event, HaltCause, Mode, Refused, ValidatorError, run_trusting,
};

use super::halted::{halt, sequence};
use super::log::{Log, key};
use super::running::{Running, client, equal};

const SETUP: &str = "CREATE TABLE t(id INTEGER PRIMARY KEY, v); INSERT INTO t(v) VALUES(1), (2)";

/// The text of a file that trusts these keys, and revokes these at (epoch, size).
fn listed(keys: &[u8], revoked: &[(u8, u64, u64)]) -> String {
    let public = |number: u8| *key(number).verifying_key();
    let keys = keys.iter().map(|number| format!("[[key]]\nkey = \"{}\"\n", public(*number)));
    let revoked = revoked.iter().map(|(number, epoch, size)| {
        format!("[[revoked]]\nkey = \"{}\"\nepoch = {epoch}\nsize = {size}\n", public(*number))
    });
    keys.chain(revoked).collect()
}

/// A log whose keys are in a file beside it.
struct Trusting {
    log: Log,
    file: PathBuf,
}

impl Trusting {
    async fn begin(text: &str) -> Self {
        let log = Log::begin(SETUP).await;
        let file = log.folder.path().join("keys.toml");
        let trusting = Self { log, file };
        trusting.say(text);
        trusting
    }

    /// Puts another file in the place of the one that is there.
    fn say(&self, text: &str) {
        let new = self.file.with_extension("new");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(new, &self.file).unwrap();
    }

    fn config(&self, mode: Mode) -> Config {
        let listen = (mode == Mode::Follow).then(|| "127.0.0.1:0".parse().unwrap());
        Config {
            sequencer_keys: Vec::new(),
            keys_file: Some(self.file.clone()),
            listen,
            ..self.log.config(mode)
        }
    }

    /// Something more by whoever leads.
    async fn more(&mut self) -> Sequence {
        self.log.run("INSERT INTO t(v) SELECT count(*) FROM t");
        self.log.publish().await
    }
}

fn last_valid(epoch: u64, size: u64) -> LastValid {
    LastValid { epoch: Epoch::new(epoch).unwrap(), size: Sequence::new(size).ok() }
}

/// No row, and no digest of one.
async fn shows_nothing(running: &mut Running) {
    for path in ["/tables", "/schema", "/states?through=3"] {
        let (status, told) = running.get(path).await;
        assert!(status == 503 && told.contains("not believed any more"), "{path}: {told}");
    }
    let url = running.url("/tables/rows").await;
    let told = client().post(url).json(&json!({"table": "t"})).send().await.unwrap();
    assert_eq!(told.status().as_u16(), 503);
}

/// The revocation that a halt is about.
fn revoked_by(cause: &HaltCause) -> RevokedError {
    let HaltCause::Revoked { source, .. } = cause else { panic!("{cause:?}") };
    *source
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_revoked_while_it_runs_stops_a_replica_that_stands_beyond() {
    let mut world = Trusting::begin(&listed(&[1], &[])).await;
    let boundary = world.more().await;
    let last = world.more().await;
    let mut running = Running::start(world.config(Mode::Follow));
    running.until_applied(last).await;
    assert_eq!(running.query(json!({"sql": "SELECT count(*) FROM t"})).await.0, 200);
    // Nothing comes any more: it is noticed all the same.
    world.say(&listed(&[1], &[(1, 1, boundary.get())]));
    let events = running.until(|event| matches!(event, Event::Halted(_))).await;
    let Some(Event::Halted(halt)) = events.last() else { panic!("{events:?}") };
    assert_eq!((halt.kind, halt.from, halt.to), (HaltKind::Revoked, last, last));
    for part in ["run `synddb validator resync`", "last_valid=`epoch 1, size 3`", "through=`4`"] {
        assert!(halt.detail.contains(part), "{}", halt.detail);
    }
    let (_, status) = running.get_json("/status").await;
    // What it holds is not believed any more, and not shown.
    assert_eq!((&status["halted"]["kind"], &status["sequence"]), (&"revoked".into(), &Value::Null));
    assert_eq!(running.query(json!({"sql": "SELECT 1"})).await.0, 503);
    shows_nothing(&mut running).await;
    assert!(matches!(running.stop().await, Err(ValidatorError::Halted { .. })));

    // Started again it halts where it joins, and says so as long as it is not asked to end.
    let mut again = Running::start(world.config(Mode::Follow));
    again.until(|event| matches!(event, Event::Halted(_))).await;
    let (_, status) = again.get_json("/status").await;
    assert_eq!(status["halted"]["kind"], "revoked");
    shows_nothing(&mut again).await;
    again.stop().await.unwrap_err();
    let (_, cause) = super::halted::halt(world.config(Mode::Once)).await;
    let expected = RevokedError::Signed {
        key: key(1).id(),
        last_valid: last_valid(1, 3),
        epoch: Epoch::FIRST,
        through: last,
    };
    assert_eq!(revoked_by(&cause), expected);

    // The last valid place is where it stands: that is no reason to stop.
    world.say(&listed(&[1], &[(1, 1, last.get())]));
    let end = Running::start(world.config(Mode::Once)).end().await.unwrap();
    assert_eq!(end.sequence, Some(last));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_stops_at_the_boundary_and_takes_no_batch_across_it() {
    let mut world = Trusting::begin(&listed(&[1], &[])).await;
    let good = world.more().await;
    world.log.run("INSERT INTO t(v) VALUES(8); INSERT INTO t(v) VALUES(9); INSERT INTO t(v) VALUES(10)");
    let last = world.log.publish().await;
    // Messages 4 to 6 are one batch, and 4 is the last that is believed.
    assert_eq!((good.get(), last.get()), (3, 6));
    world.say(&listed(&[1], &[(1, 1, 4)]));
    let (halt, cause) = halt(world.config(Mode::Once)).await;
    assert_eq!((halt.kind, halt.from, halt.to), (HaltKind::Refused, sequence(4), sequence(6)));
    let HaltCause::Refused { source: Refused::Batch(BatchError::Message { sequence: at, source }), .. } =
        cause
    else {
        panic!("{cause:?}")
    };
    assert_eq!(at, sequence(5));
    assert!(matches!(source, MessageError::Signature(SignatureError::Revoked { .. })), "{source:?}");
    // By the configuration the same; and at the end of the batch it is taken.
    let mut pinned = world.log.config(Mode::Once);
    let revoked = |size| RevokedKey { key: *key(1).verifying_key(), epoch: Epoch::FIRST, size };
    pinned.revoked = vec![revoked(5)];
    assert_eq!(super::halted::halt(pinned.clone()).await.0.kind, HaltKind::Refused);
    pinned.revoked = vec![revoked(6)];
    assert_eq!(Running::start(pinned).end().await.unwrap().sequence, Some(last));
    equal(&world.log);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_earlier_leader_signed_too_much_is_noticed_behind_the_next_ones() {
    let mut world = Trusting::begin(&listed(&[1, 2], &[])).await;
    let by_first = world.more().await;
    world.log.lead(2, 2).await;
    let last = world.more().await;
    // In two runs, so that the first leader's part is known from the file alone.
    Running::start(world.config(Mode::Once)).end().await.unwrap();
    let last = {
        assert!(last > by_first);
        world.more().await
    };
    Running::start(world.config(Mode::Once)).end().await.unwrap();
    world.say(&listed(&[1, 2], &[(1, 1, by_first.get())]));
    assert_eq!(Running::start(world.config(Mode::Once)).end().await.unwrap().sequence, Some(last));
    world.say(&listed(&[1, 2], &[(1, 1, by_first.get() - 1)]));
    let (halt, cause) = halt(world.config(Mode::Once)).await;
    assert_eq!((halt.kind, halt.from, halt.to), (HaltKind::Revoked, by_first, by_first));
    let expected = RevokedError::Signed {
        key: key(1).id(),
        last_valid: last_valid(1, by_first.get() - 1),
        epoch: Epoch::FIRST,
        through: by_first,
    };
    assert_eq!(revoked_by(&cause), expected);
    // While it runs as well.
    world.say(&listed(&[1, 2], &[]));
    let mut running = Running::start(world.config(Mode::Follow));
    running.until(|event| matches!(event, Event::CaughtUp { .. })).await;
    world.say(&listed(&[1, 2], &[(1, 1, 2)]));
    running.until(|event| matches!(event, Event::Halted(halt) if halt.kind == HaltKind::Revoked)).await;
    running.stop().await.unwrap_err();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_signed_what_is_kept_when_a_new_incarnation_replaces_the_replica() {
    let mut world = Trusting::begin(&listed(&[1, 2], &[])).await;
    let by_first = world.more().await;
    Running::start(world.config(Mode::Once)).end().await.unwrap();
    world.log.lead(2, 2).await;
    world.log.begin_anew("another.db", "CREATE TABLE u(a)").await;
    world.log.publish().await;
    Running::start(world.config(Mode::Once)).end().await.unwrap();
    equal(&world.log);
    world.say(&listed(&[1, 2], &[(1, 1, by_first.get() - 1)]));
    let (_, cause) = halt(world.config(Mode::Once)).await;
    assert!(matches!(revoked_by(&cause), RevokedError::Signed { .. }), "{cause:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_does_not_know_who_signed_it_is_not_believed_behind_a_revocation() {
    let mut world = Trusting::begin(&listed(&[1, 2], &[])).await;
    let last = world.more().await;
    Running::start(world.config(Mode::Once)).end().await.unwrap();
    // As a release before this table left it.
    let replica = rusqlite::Connection::open(world.log.replica()).unwrap();
    replica.execute_batch("DROP TABLE _synddb_signers").unwrap();
    drop(replica);
    let more = world.more().await;
    Running::start(world.config(Mode::Once)).end().await.unwrap();
    equal(&world.log);
    // It is remembered that the beginning is not known.
    world.say(&listed(&[1, 2], &[(2, 1, last.get() - 1)]));
    let (halt, cause) = halt(world.config(Mode::Once)).await;
    assert_eq!((halt.from, halt.to), (last, last));
    assert!(matches!(revoked_by(&cause), RevokedError::Unknown { .. }), "{cause:?}");
    world.say(&listed(&[1, 2], &[(2, 1, last.get())]));
    assert_eq!(Running::start(world.config(Mode::Once)).end().await.unwrap().sequence, Some(more));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_added_leads_without_a_restart() {
    let mut world = Trusting::begin(&listed(&[1], &[])).await;
    let mut running = Running::start(world.config(Mode::Follow));
    running.until(|event| matches!(event, Event::CaughtUp { .. })).await;
    world.say(&listed(&[1, 2], &[]));
    // The moment after: nothing waits for the next look.
    world.log.lead(2, 2).await;
    let last = world.more().await;
    running.until_applied(last).await;
    running.stop().await.unwrap();
    equal(&world.log);
    // Without it nobody would have been believed.
    world.say(&listed(&[1], &[]));
    std::fs::remove_file(world.log.replica()).unwrap();
    let (halt, _) = halt(world.config(Mode::Once)).await;
    assert_eq!((halt.kind, halt.from), (HaltKind::Refused, sequence(3)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_taken_out_keeps_its_epoch_and_claims_no_other() {
    let mut world = Trusting::begin(&listed(&[1, 2], &[])).await;
    let mut running = Running::start(world.config(Mode::Follow));
    running.until(|event| matches!(event, Event::CaughtUp { .. })).await;
    world.say(&listed(&[2], &[]));
    let last = world.more().await;
    running.until_applied(last).await;
    world.log.lead(2, 1).await;
    world.log.publish().await;
    let events = running.until(|event| matches!(event, Event::Halted(_))).await;
    let Some(Event::Halted(halt)) = events.last() else { panic!("{events:?}") };
    assert_eq!((halt.kind, halt.from), (HaltKind::Refused, last.next().unwrap()));
    assert!(halt.detail.contains("not trusted"), "{}", halt.detail);
    running.stop().await.unwrap_err();
    // With its epochs named instead, every reader reads what it led.
    world.say(&format!("{}to = 1\n{}", listed(&[1], &[]), listed(&[2], &[])));
    let ended = Running::start(world.config(Mode::Once)).end().await;
    let Err(ValidatorError::Halted { halt, .. }) = ended else { panic!("{ended:?}") };
    assert_eq!(halt.from, last.next().unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_epoch_that_was_passed_is_admitted_when_its_key_is_trusted_later() {
    let mut world = Trusting::begin(&listed(&[1], &[])).await;
    let mut running = Running::start(world.config(Mode::Follow));
    running.until(|event| matches!(event, Event::CaughtUp { .. })).await;
    // Key 2 claims epoch 2, signs into a journal, and ends; key 1 claims 3 and publishes that journal.
    let (two, three) = (Epoch::new(2).unwrap(), Epoch::new(3).unwrap());
    world.log.run("INSERT INTO t(v) VALUES('of epoch 1')");
    world.log.admit(two, 2).await;
    world.log.admit(three, 1).await;
    (world.log.epoch, world.log.key) = (three, key(1));
    let first = world.log.publish().await;
    running.until_applied(first).await;
    // It has read the record of epoch 2 by now, and passed it.
    world.say(&listed(&[1, 2], &[]));
    world.log.start(two, 2).await;
    (world.log.epoch, world.log.key) = (three, key(1));
    let last = world.log.publish().await;
    running.until_applied(last).await;
    running.stop().await.unwrap();
    equal(&world.log);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_spoilt_changes_nothing_until_it_is_mended() {
    let mut world = Trusting::begin(&listed(&[1], &[])).await;
    let mut running = Running::start(world.config(Mode::Follow));
    running.until(|event| matches!(event, Event::CaughtUp { .. })).await;
    for spoilt in ["[[key]]\nkey = 7", "", "\u{0}"] {
        world.say(spoilt);
        // A claim needs the file: the last good one counts.
        let epoch = world.log.epoch.next().unwrap().get();
        world.log.lead(epoch, 1).await;
        let last = world.more().await;
        running.until_applied(last).await;
    }
    std::fs::remove_file(&world.file).unwrap();
    let epoch = world.log.epoch.next().unwrap().get();
    world.log.lead(epoch, 1).await;
    let last = world.more().await;
    running.until_applied(last).await;
    // Mended, it counts again.
    world.say(&listed(&[1, 2], &[]));
    world.log.lead(epoch + 1, 2).await;
    let last = world.more().await;
    running.until_applied(last).await;
    running.stop().await.unwrap();
    equal(&world.log);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_spoilt_at_the_start_is_refused_with_its_line() {
    let world = Trusting::begin("[[key]]\nkey = \"0x00\"\n").await;
    let ended = Running::start(world.config(Mode::Once)).end().await;
    let Err(error @ ValidatorError::Keys(KeysFileError::Malformed { line: 2, .. })) = ended else {
        panic!("{ended:?}")
    };
    assert!(error.is_refusal());
    std::fs::remove_file(&world.file).unwrap();
    let ended = Running::start(world.config(Mode::Once)).end().await;
    assert!(matches!(ended, Err(ValidatorError::Keys(KeysFileError::Read { .. }))), "{ended:?}");
    // A pipe would be waited for.
    std::process::Command::new("mkfifo").arg(&world.file).status().unwrap();
    let ended = Running::start(world.config(Mode::Once)).end().await;
    assert!(matches!(ended, Err(ValidatorError::Keys(KeysFileError::Read { .. }))), "{ended:?}");
    assert!(!world.log.replica().exists());
    let config = world.config(Mode::Once);
    let refused = async |config| match Running::start(config).end().await {
        Err(ValidatorError::Config(problem)) => problem,
        ended => panic!("{ended:?}"),
    };
    let both = Config { sequencer_keys: vec![*key(1).verifying_key()], ..config.clone() };
    assert_eq!(refused(both).await, ConfigProblem::TwoSources);
    let revoked = vec![RevokedKey { key: *key(1).verifying_key(), epoch: Epoch::FIRST, size: u64::MAX }];
    let both = Config { revoked: revoked.clone(), ..config };
    assert_eq!(refused(both).await, ConfigProblem::TwoSources);
    let impossible = Config { revoked, ..world.log.config(Mode::Once) };
    assert_eq!(refused(impossible).await, ConfigProblem::Revoked { size: u64::MAX });
}

/// Keys that are asked elsewhere, where nobody answers for a while.
#[derive(Debug)]
struct Elsewhere {
    is_away: AtomicBool,
    asked: tokio::sync::Semaphore,
    key: VerifyingKey,
}

impl Elsewhere {
    fn answer<T>(&self, answer: T) -> Result<T, Unreachable> {
        self.asked.add_permits(1);
        if self.is_away.load(Ordering::SeqCst) {
            Err(Unreachable::because("nobody home"))
        } else {
            Ok(answer)
        }
    }
}

#[async_trait]
impl KeySource for Elsewhere {
    async fn knows(&self, _: KeyId) -> Result<bool, Unreachable> {
        self.answer(true)
    }

    async fn judge(&self, record: &SignedEpochRecord) -> Result<Judgement, Unreachable> {
        let is_its = record.key() == self.key.id();
        self.answer(if is_its { Judgement::MayLead(self.key) } else { Judgement::MayNot })
    }

    async fn revoked(&self) -> Result<Revocations, Unreachable> {
        self.answer(Revocations::default())
    }

    fn look_again(&self) -> Option<Duration> {
        Some(Duration::from_millis(20))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_does_not_answer_is_waited_for_and_nobody_is_trusted_meanwhile() {
    let mut world = Trusting::begin(&listed(&[1], &[])).await;
    let last = world.more().await;
    let source = |is_away| {
        let asked = tokio::sync::Semaphore::new(0);
        Arc::new(Elsewhere { is_away: AtomicBool::new(is_away), asked, key: *key(1).verifying_key() })
    };
    let begin = |keys: &Arc<Elsewhere>, shutdown: &Shutdown, mode| {
        let (keys, shutdown) = (Arc::<Elsewhere>::clone(keys) as Arc<dyn KeySource>, shutdown.clone());
        let (store, config) = (Arc::clone(&world.log.store) as Arc<dyn BatchStore>, world.log.config(mode));
        // Whom the configuration names is not asked.
        let config = Config { sequencer_keys: Vec::new(), ..config };
        tokio::spawn(run_trusting(store, keys, config, Metrics::detached(), shutdown, |_| {}))
    };
    // Asked to end while it waits, it ends, and has taken nothing.
    let (silent, shutdown) = (source(true), Shutdown::new());
    let ended = begin(&silent, &shutdown, Mode::Follow);
    silent.asked.acquire_many(2).await.unwrap().forget();
    shutdown.ask();
    assert_eq!(ended.await.unwrap().unwrap(), End { sequence: None, state: None });
    assert!(!world.log.replica().exists());
    // As soon as it answers, it goes on.
    let ended = begin(&silent, &Shutdown::new(), Mode::Once);
    silent.asked.acquire_many(2).await.unwrap().forget();
    assert!(!ended.is_finished());
    silent.is_away.store(false, Ordering::SeqCst);
    assert_eq!(ended.await.unwrap().unwrap().sequence, Some(last));
    // One that does not answer while it runs holds nothing up that needs no answer but what is signed from then on.
    let (source, shutdown) = (source(false), Shutdown::new());
    let ended = begin(&source, &shutdown, Mode::Follow);
    source.asked.acquire_many(4).await.unwrap().forget();
    source.is_away.store(true, Ordering::SeqCst);
    source.asked.acquire_many(4).await.unwrap().forget();
    assert!(!ended.is_finished());
    source.is_away.store(false, Ordering::SeqCst);
    shutdown.ask();
    assert_eq!(ended.await.unwrap().unwrap().sequence, Some(last));
}
