//! What the agent talks to in these tests: an HTTP server with a log of its own, which can be told to answer otherwise.
//!
//! It checks what it is sent with the protocol's own rules, and can rebuild the database from it. It is no sequencer: it keeps nothing on
//! disk, and nothing here is a promise about one.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use synddb_protocol::Canonical as _;
use synddb_protocol::encoding::cbor::Writer;
use synddb_protocol::hash::{ChunkHash, CommitDigest, EpochRecordHash, StateHash};
use synddb_protocol::http::{EVIDENCE_HEADER, Problem, Reason, Receipts};
use synddb_protocol::id::{Epoch, StreamId, Timestamp};
use synddb_protocol::limits::BODY_BYTES_MAX;
use synddb_protocol::log::{
    Batch, Body, Entry, EpochStart, LogError, Message, MessageType, Receipt, Tip, Versions,
};
use synddb_protocol::signing::SigningKey;
use synddb_protocol::submission::{Chunk, CommitKind, Content, Snapshot, StateClaim};
use synddb_sqlite::apply::{Applier, SubmissionApplier, position};
use synddb_sqlite::compare::first_difference;
use synddb_sqlite::snapshot::{Image, restore};

/// Longer than anything takes that works.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// An address at which nobody listens: a port that is given to nobody who asks for any.
pub(crate) const NOBODY: &str = "http://127.0.0.1:1";

pub(crate) const TOKEN: &str = "a token of more than thirty-two characters";

/// What a request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    Submit,
    Snapshot,
    Chunk,
    Checkpoint,
    Leaves,
    Batches,
}

/// A log as it is at one moment.
type Log = (Tip, Vec<Entry>, Vec<Message>);

/// How one request is answered otherwise.
#[derive(Debug, Clone)]
pub(crate) enum Trick {
    /// With this refusal, and this header `Retry-After`.
    Refuse(Reason, Option<u64>),
    /// Not at all: the connection is closed before anything is taken.
    Vanish,
    /// Taken, and the answer is lost.
    LoseAnswer,
    /// With these bytes and this status.
    Say(u16, Vec<u8>),
    /// As it should, but slowly: after so long.
    Late(Duration),
    /// Taken, and promised another form of what is stored: two signatures for one place.
    Equivocate,
    /// With a checkpoint, well signed, whose last digest is another one.
    OtherDigest,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Recorded {
    pub(crate) path: Asked,
    pub(crate) body: Vec<u8>,
    pub(crate) token: String,
    pub(crate) evidence: String,
}

pub(crate) struct State {
    key: SigningKey,
    epoch: Epoch,
    tip: Option<Tip>,
    stored: Option<Tip>,
    known: BTreeMap<CommitDigest, Receipt>,
    entries: Vec<Entry>,
    /// The messages of the entries.
    log: Vec<Message>,
    pub(crate) chunks: BTreeMap<ChunkHash, Vec<u8>>,
    tricks: Vec<(Asked, VecDeque<Trick>)>,
    pub(crate) requests: Vec<Recorded>,
    /// Whether everything is stored as soon as it is taken.
    pub(crate) stores: bool,
    is_gone: bool,
}

pub(crate) struct Sequencer {
    shared: Arc<(Mutex<State>, Condvar)>,
    address: String,
}

impl Sequencer {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let state = State {
            key: SigningKey::from_bytes([7; 32]).unwrap(),
            epoch: Epoch::FIRST,
            tip: None,
            stored: None,
            known: BTreeMap::new(),
            entries: Vec::new(),
            log: Vec::new(),
            chunks: BTreeMap::new(),
            tricks: Vec::new(),
            requests: Vec::new(),
            stores: true,
            is_gone: false,
        };
        let shared = Arc::new((Mutex::new(state), Condvar::new()));
        let serving = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let shared = Arc::clone(&serving);
                if shared.0.lock().unwrap().is_gone {
                    return;
                }
                std::thread::spawn(move || serve(&stream, &shared));
            }
        });
        Self { shared, address }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn key(&self) -> synddb_protocol::signing::VerifyingKey {
        *self.state().key.verifying_key()
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.shared.0.lock().unwrap()
    }

    /// The next requests for this path are answered so.
    pub(crate) fn play(&self, path: Asked, tricks: impl IntoIterator<Item = Trick>) {
        self.state().tricks.push((path, tricks.into_iter().collect()));
    }

    /// From now on everything is answered as it should be.
    pub(crate) fn forget_tricks(&self) {
        self.state().tricks.clear();
    }

    /// Stores everything that was taken, and from now on everything at once.
    pub(crate) fn store_all(&self) {
        let mut state = self.state();
        state.stores = true;
        state.stored = state.tip.clone();
        drop(state);
        self.shared.1.notify_all();
    }

    /// Another leader comes: what was not stored is lost.
    pub(crate) fn fail_over(&self) {
        let mut state = self.state();
        state.epoch = state.epoch.next().unwrap();
        let stream = state.tip.as_ref().unwrap().stream();
        let tip = state.stored.clone().unwrap_or_else(|| Tip::start(stream));
        let size = tip.last().map_or(0, |last| last.get());
        state.known.retain(|_, receipt| receipt.header().sequence.get() <= size);
        state.entries.truncate(usize::try_from(size).unwrap());
        state.log.truncate(usize::try_from(size).unwrap());
        let begun = state.begin_epoch(&tip);
        (state.tip, state.stored, state.stores) = (Some(begun.clone()), Some(begun), true);
        drop(state);
        self.shared.1.notify_all();
    }

    /// Everything is lost that was promised, and nothing was stored.
    pub(crate) fn lose_everything(&self) {
        let mut state = self.state();
        state.epoch = state.epoch.next().unwrap();
        (state.tip, state.stored, state.stores) = (None, None, true);
        state.known.clear();
        state.entries.clear();
        state.log.clear();
        drop(state);
        self.shared.1.notify_all();
    }

    /// The log as it is now; with what is given back it is as it was then.
    pub(crate) fn roll(&self, to: Option<Log>) -> Log {
        let mut state = self.state();
        let now = (state.tip.clone().unwrap(), state.entries.clone(), state.log.clone());
        if let Some((tip, entries, log)) = to {
            (state.tip, state.stored) = (Some(tip.clone()), Some(tip));
            (state.entries, state.log) = (entries, log);
        }
        now
    }

    /// The whole log is signed anew, in the same epoch: it says the same, and is another one.
    pub(crate) fn rewrite(&self) {
        let mut state = self.state();
        let mut tip = Tip::start(state.tip.as_ref().unwrap().stream());
        let mut log = Vec::new();
        for entry in &state.entries {
            let signed =
                tip.sign(state.epoch, Timestamp::from_ms(1).unwrap(), Body::of(entry).unwrap(), &state.key);
            let (message, after) = signed.unwrap();
            log.push(message);
            tip = after;
        }
        (state.log, state.tip, state.stored) = (log, Some(tip.clone()), Some(tip));
    }

    /// The checkpoint of what is stored; with `forged` another one for the same size.
    pub(crate) fn checkpoint(&self, forged: bool) -> Vec<u8> {
        self.state().checkpoint(forged.then(|| CommitDigest::from_bytes([0xee; 32]))).1
    }

    /// Another leader comes, with a key of its own.
    pub(crate) fn sign_with(&self, key: u8) {
        self.state().key = SigningKey::from_bytes([key; 32]).unwrap();
        self.fail_over();
    }

    /// All receipts given so far, in order.
    pub(crate) fn receipts(&self) -> Vec<Receipt> {
        let mut receipts: Vec<_> = self.state().known.values().cloned().collect();
        receipts.sort_by_key(|receipt| receipt.header().sequence);
        receipts
    }

    /// The digest that the next commit names as what comes before it.
    pub(crate) fn last_digest(&self) -> CommitDigest {
        self.state().tip.as_ref().unwrap().client().unwrap().last
    }

    /// The bodies of all requests for a path, in order.
    pub(crate) fn bodies(&self, path: Asked) -> Vec<Vec<u8>> {
        let state = self.state();
        state
            .requests
            .iter()
            .filter(|request| request.path == path)
            .map(|request| request.body.clone())
            .collect()
    }

    /// Rebuilds the database from the log, and compares it with the application's.
    pub(crate) fn assert_replica_equals(&self, database: &Path) {
        let folder = tempfile::tempdir().unwrap();
        let replica = folder.path().join("replica.db");
        self.rebuild(&replica);
        assert_eq!(first_difference(database, &replica).unwrap(), None);
    }

    /// Rebuilds the database from the log, every claim checked, as a replica that says where it stands.
    pub(crate) fn rebuild(&self, replica: &Path) {
        let state = self.state();
        let from = state.entries.iter().rposition(|entry| matches!(entry, Entry::Snapshot(_))).unwrap();
        let Entry::Snapshot(snapshot) = &state.entries[from] else { panic!("no snapshot") };
        let fetch = |chunk: &Chunk| state.chunks.get(&chunk.hash).cloned().ok_or("no such chunk");
        restore(replica, &Image::of_snapshot(snapshot), fetch).unwrap();
        let mut applier = SubmissionApplier::new(Applier::open(replica).unwrap(), replica.parent().unwrap());
        applier.begin().unwrap();
        for entry in &state.entries[from..] {
            if let Entry::Submission(submission) = entry {
                applier.take(&submission.content).unwrap();
            }
        }
        let connection = applier.applier().connection();
        position::create(connection).unwrap();
        let checkpoint = state.tip.as_ref().unwrap().checkpoint(state.epoch, 0).unwrap();
        let (stream, size) = (checkpoint.stream, checkpoint.size.get().cast_signed());
        let bytes = checkpoint.sign(&state.key).unwrap().to_bytes();
        let sql = "INSERT INTO _synddb_position VALUES(1, ?, ?, ?)";
        connection.sqlite().execute(sql, (stream.as_bytes(), size, bytes)).unwrap();
        applier.commit().unwrap();
    }

    /// How the commits in the log came about, and what they claim; of commits in parts, what their last part says.
    pub(crate) fn claims(&self) -> Vec<(CommitKind, Option<StateClaim>)> {
        let state = self.state();
        let mut claims = Vec::new();
        for entry in &state.entries {
            let Entry::Submission(submission) = entry else { continue };
            match &submission.content {
                Content::Commits(commits) => {
                    claims.extend(commits.as_slice().iter().map(|commit| (commit.kind, commit.state)));
                }
                Content::Part(part) => claims.extend(part.last.map(|claim| (part.kind, Some(claim)))),
            }
        }
        claims
    }

    /// The snapshots in the log, in order.
    pub(crate) fn snapshots(&self) -> Vec<Snapshot> {
        let state = self.state();
        let snapshots = state.entries.iter().filter_map(|entry| match entry {
            Entry::Snapshot(snapshot) => Some(snapshot.clone()),
            _ => None,
        });
        snapshots.collect()
    }

    /// How many commits the log has.
    pub(crate) fn commits(&self) -> usize {
        self.state().commits()
    }

    /// What the database was found to hash to by full scans, as the log has it.
    pub(crate) fn scanned(&self) -> Vec<StateHash> {
        let state = self.state();
        let submissions = state.entries.iter().filter_map(|entry| match entry {
            Entry::Submission(submission) => Some(&submission.content),
            _ => None,
        });
        let whole = submissions.filter_map(|content| match content {
            Content::Commits(commits) => Some(commits.as_slice()),
            Content::Part(_) => None,
        });
        whole.flatten().filter_map(|commit| commit.state?.scanned).collect()
    }
}

impl Drop for Sequencer {
    fn drop(&mut self) {
        self.state().is_gone = true;
        self.shared.1.notify_all();
        // Whoever listens looks up.
        TcpStream::connect(&self.address).ok();
    }
}

impl State {
    pub(crate) fn commits(&self) -> usize {
        let commits = self.entries.iter().map(|entry| match entry {
            Entry::Submission(submission) => match &submission.content {
                Content::Commits(commits) => commits.as_slice().len(),
                Content::Part(part) => usize::from(part.last.is_some()),
            },
            _ => 0,
        });
        commits.sum()
    }

    fn trick(&mut self, path: Asked) -> Option<Trick> {
        self.tricks.iter_mut().filter(|(of, _)| *of == path).find_map(|(_, tricks)| tricks.pop_front())
    }

    fn begin_epoch(&mut self, tip: &Tip) -> Tip {
        let start =
            EpochStart { record: EpochRecordHash::from_bytes([3; 32]), versions: Versions::SUPPORTED };
        let body = Body::of(&Entry::Epoch(start)).unwrap();
        self.entries.push(body.entry().clone());
        let (message, after) = tip.sign(self.epoch, tip.timestamp(), body, &self.key).unwrap();
        self.log.push(message);
        after
    }

    fn take(&mut self, stream: StreamId, of: MessageType, bytes: &[u8], is_false: bool) -> (u16, Vec<u8>) {
        let Ok(body) = Body::read(of, bytes.to_vec(), BODY_BYTES_MAX) else {
            return refuse(Reason::Malformed);
        };
        let digest = match body.entry() {
            Entry::Submission(submission) => match &submission.content {
                Content::Commits(commits) => commits.digest(),
                Content::Part(part) => part.digest(),
            },
            Entry::Snapshot(snapshot) => {
                let missing: BTreeSet<_> = snapshot.chunks.iter().map(|chunk| chunk.hash).collect();
                let missing: Vec<_> =
                    missing.into_iter().filter(|hash| !self.chunks.contains_key(hash)).collect();
                if !missing.is_empty() {
                    return refuse(Reason::MissingChunks { missing });
                }
                snapshot.digest()
            }
            _ => return refuse(Reason::Malformed),
        };
        if let Some(receipt) = self.known.get(&digest) {
            return (200, Receipts(vec![receipt.clone()]).to_bytes());
        }
        let tip = match self.tip.clone() {
            Some(tip) => tip,
            None if of == MessageType::Snapshot => self.begin_epoch(&Tip::start(stream)),
            None => return refuse(Reason::NotBegun),
        };
        let entry = body.entry().clone();
        // The time of a message is a part of what is signed.
        let promised = is_false.then(|| {
            let later = Timestamp::from_ms(tip.timestamp().as_ms() + 1).unwrap();
            tip.sign(self.epoch, later, body.clone(), &self.key).unwrap().0
        });
        match tip.sign(self.epoch, tip.timestamp(), body, &self.key) {
            Ok((message, after)) => {
                self.log.push(message.clone());
                self.known.insert(digest, message.receipt.clone());
                self.entries.push(entry);
                self.tip = Some(after);
                if self.stores {
                    self.stored = self.tip.clone();
                }
                (201, Receipts(vec![promised.unwrap_or(message).receipt]).to_bytes())
            }
            Err(LogError::Continuity(error)) => refuse(Reason::of_continuity(&error, tip.client())),
            Err(_) => refuse(Reason::Unprocessable),
        }
    }

    /// The messages of a range of sequences, if all of them are stored.
    fn range(&self, named: &str) -> Option<(u64, &[Message])> {
        let (start, end) = named.split_once('_').unwrap();
        let [start, end]: [u64; 2] = [start, end].map(|number| number.parse().unwrap());
        let stored = self.stored.as_ref()?.last()?.get();
        (end <= stored).then(|| {
            let [from, to] = [start - 1, end].map(|at| usize::try_from(at).unwrap());
            (end, &self.log[from..to])
        })
    }

    fn leaves(&self, named: &str) -> (u16, Vec<u8>) {
        let Some((_, messages)) = self.range(named) else { return refuse(Reason::NotFound) };
        let mut writer = Writer::default();
        writer.array(messages.len());
        messages.iter().for_each(|message| writer.bytes(message.receipt.leaf().as_bytes()));
        (200, writer.into_bytes())
    }

    /// A batch that ends with the range, under a checkpoint that only fits in form.
    fn batch(&self, named: &str) -> (u16, Vec<u8>) {
        let Some((end, messages)) = self.range(named) else { return refuse(Reason::NotFound) };
        let mut tip = Tip::start(self.tip.as_ref().unwrap().stream());
        for (message, entry) in self.log.iter().zip(&self.entries).take(usize::try_from(end).unwrap()) {
            let header = message.receipt.header();
            let body = Body::of(entry).unwrap();
            tip = tip.sign(header.epoch, header.timestamp, body, &self.key).unwrap().1;
        }
        let checkpoint = tip.checkpoint(self.epoch, 0).unwrap().sign(&self.key).unwrap();
        let batch = Batch::new(messages.to_vec(), checkpoint).unwrap().to_stored().unwrap();
        let mut writer = Writer::default();
        writer.bytes(&batch);
        (200, writer.into_bytes())
    }

    fn checkpoint(&self, last: Option<CommitDigest>) -> (u16, Vec<u8>) {
        let Some(stored) = &self.stored else { return refuse(Reason::NotFound) };
        let mut checkpoint = stored.checkpoint(self.epoch, 0).unwrap();
        if let (Some(last), Some(client)) = (last, &mut checkpoint.client) {
            client.last = last;
        }
        (200, checkpoint.sign(&self.key).unwrap().to_bytes())
    }
}

fn refuse(reason: Reason) -> (u16, Vec<u8>) {
    (reason.status(), serde_json::to_vec(&Problem::new(reason, "as the test wants it")).unwrap())
}

/// Serves one connection until it ends.
fn serve(stream: &TcpStream, shared: &(Mutex<State>, Condvar)) {
    let mut reader = BufReader::new(stream);
    while let Some((line, [token, evidence], body)) = read_request(&mut reader) {
        let mut words = line.split(' ');
        let (method, target) = (words.next().unwrap(), words.next().unwrap());
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let mut parts = path.trim_start_matches('/').splitn(3, '/');
        assert_eq!(parts.next(), Some("streams"));
        let id = StreamId::from_key(parts.next().unwrap()).unwrap();
        let (path, named) = match (method, parts.next().unwrap()) {
            ("POST", "submit") => (Asked::Submit, None),
            ("POST", "snapshot") => (Asked::Snapshot, None),
            ("GET", "checkpoint") => (Asked::Checkpoint, None),
            ("GET", rest) if rest.starts_with("leaves/") => (Asked::Leaves, Some(rest[7..].to_owned())),
            ("GET", rest) if rest.starts_with("batches/") => (Asked::Batches, Some(rest[8..].to_owned())),
            ("PUT", rest) => (Asked::Chunk, Some(rest.strip_prefix("snapshot/chunks/").unwrap().to_owned())),
            other => panic!("no such path: {other:?}"),
        };
        let trick = {
            let mut state = shared.0.lock().unwrap();
            state.requests.push(Recorded { path, body: body.clone(), token, evidence });
            state.trick(path)
        };
        shared.1.notify_all();
        let (status, answer, retry_after) = match trick {
            Some(Trick::Vanish) => return,
            Some(Trick::Refuse(reason, after)) => {
                let (status, answer) = refuse(reason);
                (status, answer, after)
            }
            Some(Trick::Say(status, answer)) => (status, answer, None),
            other => {
                if let Some(Trick::Late(late)) = &other {
                    // Nobody notifies; it is the time that passes.
                    let state = shared.0.lock().unwrap();
                    drop(shared.1.wait_timeout_while(state, *late, |state| !state.is_gone).unwrap());
                }
                let (status, answer) = match path {
                    Asked::Checkpoint => match wait_stored(shared, query, other.as_ref()) {
                        Some(answer) => answer,
                        None => return,
                    },
                    Asked::Submit => {
                        let is_false = matches!(other, Some(Trick::Equivocate));
                        shared.0.lock().unwrap().take(id, MessageType::Submission, &body, is_false)
                    }
                    Asked::Snapshot => shared.0.lock().unwrap().take(id, MessageType::Snapshot, &body, false),
                    Asked::Leaves => shared.0.lock().unwrap().leaves(&named.unwrap()),
                    Asked::Batches => shared.0.lock().unwrap().batch(&named.unwrap()),
                    Asked::Chunk => {
                        let hash = ChunkHash::from_key(&named.unwrap()).unwrap();
                        assert_eq!(ChunkHash::of(&body), hash);
                        shared.0.lock().unwrap().chunks.insert(hash, body);
                        (201, Vec::new())
                    }
                };
                shared.1.notify_all();
                if matches!(other, Some(Trick::LoseAnswer)) {
                    return;
                }
                (status, answer, None)
            }
        };
        let retry = retry_after.map(|after| format!("Retry-After: {after}\r\n")).unwrap_or_default();
        let head = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n{retry}\r\n", answer.len());
        let mut stream = stream;
        if stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&answer)).is_err() {
            return;
        }
    }
}

fn read_request(reader: &mut BufReader<&TcpStream>) -> Option<(String, [String; 2], Vec<u8>)> {
    let mut first = String::new();
    reader.read_line(&mut first).ok().filter(|length| *length > 0)?;
    let (mut length, mut token, mut evidence) = (0, String::new(), String::new());
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.parse().unwrap(),
            "authorization" => value.trim_start_matches("Bearer ").clone_into(&mut token),
            EVIDENCE_HEADER => value.clone_into(&mut evidence),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some((first, [token, evidence], body))
}

/// The newest stored checkpoint, once it is large enough or the time is up; `None` when the leader is gone before.
fn wait_stored(
    shared: &(Mutex<State>, Condvar),
    query: &str,
    trick: Option<&Trick>,
) -> Option<(u16, Vec<u8>)> {
    let last = matches!(trick, Some(Trick::OtherDigest)).then(|| CommitDigest::from_bytes([0xee; 32]));
    let number = |name: &str| -> u64 {
        let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.filter(|(found, _)| *found == name).find_map(|(_, value)| value.parse().ok()).unwrap()
    };
    let (at_least, wait) = (number("at_least"), Duration::from_millis(number("wait_ms")));
    let state = shared.0.lock().unwrap();
    let epoch = state.epoch;
    let is_short = |state: &mut State| {
        let size = state.stored.as_ref().and_then(Tip::last).map_or(0, |last| last.get());
        size < at_least && !state.is_gone && state.epoch == epoch
    };
    let state = shared.1.wait_timeout_while(state, wait, is_short).unwrap().0;
    (state.epoch == epoch).then(|| state.checkpoint(last))
}
