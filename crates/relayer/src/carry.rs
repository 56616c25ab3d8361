//! Carries out what [`crate::relay`] decides: asks sequencer, validators and chain, and has transactions submitted.
//!
//! What must stay true: a message is remembered as submitted before its transaction is queued, and the queue has one job for each attempt. So whatever
//! ends the process, the next start finds either the job or none, and never pays twice for one attempt.

use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use synddb_chain::submit::{Job, JobId};
use synddb_chain::{Authorized, BlockTag, EndpointError, MessageState, Reverted, Role, calls, outcome_of};
use synddb_protocol::chain;
use synddb_protocol::http::OutboundSignature;
use synddb_protocol::id::StreamId;
use synddb_protocol::log::OutboundMessage;
use synddb_protocol::signing::Domain;
use synddb_service::shutdown::Shutdown;
use synddb_service::trouble::Trouble;

use crate::checkpoints::Checkpoints;
use crate::discovery::Discovery;
use crate::gather::{self, Asked, Content, Words};
use crate::http::View;
use crate::journal::{Journal, JournalError};
use crate::message::{Standing, Tracked};
use crate::metrics;
use crate::payer::{Payer, Unaffordable};
use crate::peers::{Peers, Silence};
use crate::queue::{Found, SqliteQueue};
use crate::relay::{Effect, Event, Policy, step};

/// Messages that are looked at in one round. The others are in the next ones.
const DUE_MAX: u32 = 64;

/// Validators that are named where signatures are missing.
const NAMED_MAX: usize = 4;

/// A relayer at work.
pub(crate) struct Carrier {
    pub(crate) stream: StreamId,
    pub(crate) domain: Domain,
    pub(crate) payer: Payer,
    pub(crate) peers: Peers,
    pub(crate) journal: Journal,
    pub(crate) queue: Arc<SqliteQueue>,
    pub(crate) policy: Policy,
    pub(crate) discovery: Discovery,
    pub(crate) checkpoints: Option<Checkpoints>,
    pub(crate) view: View,
}

/// What one round of work goes by.
pub(crate) struct Round<'r> {
    pub(crate) now_ms: u64,
    pub(crate) peers: &'r Peers,
    pub(crate) payer: &'r Payer,
    pub(crate) policy: &'r Policy,
    pub(crate) view: &'r View,
}

/// What was gathered for the message that is looked at.
struct Work {
    before: MessageState,
    authorized: Option<Authorized>,
}

impl Carrier {
    /// Works until asked to end.
    ///
    /// # Errors
    /// [`JournalError`], when it cannot remember what it does.
    pub(crate) async fn run(mut self, shutdown: &Shutdown) -> Result<(), JournalError> {
        let pause = std::time::Duration::from_millis(self.policy.poll_ms);
        let mut trouble = Trouble::new();
        loop {
            // What is under way is remembered before it begins, so a round may end anywhere.
            let failing = tokio::select! {
                () = shutdown.asked() => return Ok(()),
                failing = self.round() => failing?,
            };
            metrics::failing(failing.is_some());
            match &failing {
                Some(detail) => {
                    if let Some(lasting) = trouble.met(Instant::now(), "failing") {
                        tracing::warn!(detail, times = lasting.times, "the relayer cannot do its work");
                    }
                }
                None => {
                    if trouble.over(Instant::now()).is_some() {
                        tracing::info!("the relayer can do its work again");
                    }
                }
            }
            let counted = self.view.counted().await;
            self.view.update(|status| {
                (status.failing, status.settled, status.open) = (failing, counted.settled, counted.open);
                status.known = counted.known;
                metrics::stand(counted.known, counted.settled, counted.open);
            });
            tokio::select! {
                () = shutdown.asked() => return Ok(()),
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// One look at everything; what is in the way of all of it, if something is.
    async fn round(&mut self) -> Result<Option<String>, JournalError> {
        let endpoint = self.payer.contracts.endpoint();
        // A node may become one of another chain, where a contract of the same address says other things.
        let settled = match endpoint.check_chain().await {
            Ok(()) => self.payer.finality.newest(endpoint).await,
            Err(error) => Err(error),
        };
        let settled = match settled {
            Ok(settled) => settled,
            Err(error) => return Ok(Some(chain(&error))),
        };
        let round = Round {
            now_ms: now_ms(),
            peers: &self.peers,
            payer: &self.payer,
            policy: &self.policy,
            view: &self.view,
        };
        let silent = self.discovery.look(&round, &mut self.journal).await?;
        if let Some(checkpoints) = &mut self.checkpoints {
            checkpoints.bring(&round, &mut self.journal).await?;
        }
        for tracked in self.journal.due(now_ms(), DUE_MAX)? {
            self.advance(tracked, settled).await?;
        }
        let balance = self.payer.contracts.endpoint().balance(self.payer.account).await;
        let Ok(balance) = balance else { return Ok(silent) };
        metrics::balance(balance);
        self.view.update(|status| status.balance = Some(balance.to_string()));
        let is_empty = (balance == 0).then(|| {
            format!("the account has nothing to pay gas with; send it some. account=`{}`", self.payer.account)
        });
        Ok(self.payer.submitter.hindered().or(silent).or(is_empty))
    }

    /// Does for one message whatever can be done now.
    async fn advance(&mut self, mut tracked: Tracked, settled: Option<u64>) -> Result<(), JournalError> {
        let mut work = Work { before: MessageState::NotStarted, authorized: None };
        let mut event = Event::Due;
        loop {
            let (next, effect) = step(now_ms(), &tracked, event, &self.policy);
            if next != tracked {
                self.journal.save(&next)?;
                note(&tracked, &next);
            }
            tracked = next;
            event = match effect {
                Effect::Rest => return Ok(()),
                Effect::AskBridge => self.ask_bridge(tracked.nonce, settled, &mut work).await,
                Effect::Gather => self.gather(tracked.nonce, &mut work).await,
                Effect::Simulate => self.simulate(&work).await,
                Effect::Estimate => self.estimate(&work).await,
                Effect::Send { gas_limit } => self.send(&tracked, gas_limit, &work).await,
                Effect::Follow => self.follow(&tracked),
            };
        }
    }

    async fn ask_bridge(&self, nonce: u64, settled: Option<u64>, work: &mut Work) -> Event {
        match self.states(nonce, settled).await {
            Ok((state, in_settled)) => {
                work.before = state;
                Event::Bridge { state, settled_block: settled, settled: in_settled }
            }
            Err(error) => trouble(&error),
        }
    }

    /// Where a message is in the newest block, and in the newest that is final. The second is asked only where the first has ended it: most have not.
    async fn states(
        &self,
        nonce: u64,
        settled: Option<u64>,
    ) -> Result<(MessageState, Option<MessageState>), EndpointError> {
        let contracts = &self.payer.contracts;
        let state = contracts.message_state(nonce).await?;
        match settled.filter(|_| state.is_final()) {
            Some(block) => {
                let settled = contracts.message_state_at(nonce, BlockTag::Number(block)).await?;
                Ok((state, Some(settled)))
            }
            None => Ok((state, None)),
        }
    }

    async fn gather(&self, nonce: u64, work: &mut Work) -> Event {
        self.gathered(nonce, work).await.unwrap_or_else(|event| event)
    }

    async fn gathered(&self, nonce: u64, work: &mut Work) -> Result<Event, Event> {
        let asked = Asked { stream: self.stream, domain: self.domain, nonce };
        let short = |detail: String| Event::Short { detail, signatures: 0, threshold: 0 };
        let served = self.peers.content(nonce).await.map_err(|error| match error {
            Silence::Nothing => short("the sequencer does not serve it any more".to_owned()),
            Silence::Http(_) | Silence::TooLarge(_) | Silence::Malformed(_) => {
                Event::Trouble(format!("the sequencer cannot be asked: {}", chain(&error)))
            }
        })?;
        let content = gather::content(&served, &asked).map_err(|nonsense| {
            metrics::nonsense();
            tracing::warn!(nonce, %nonsense, "what the sequencer serves is dropped");
            short(format!("what the sequencer serves does not fit: {nonsense}"))
        })?;
        let contracts = &self.payer.contracts;
        let sequencer = content.sequencer.signer;
        if !contracts.is_live(sequencer, Role::Sequencer).await.map_err(|error| trouble(&error))? {
            return Err(short(format!("the sequencer's key does not count on the chain. key=`{sequencer}`")));
        }
        let threshold = contracts.threshold().await.map_err(|error| match error.reverted() {
            Some(data) => short(format!("the chain has no valid quorum: {}", Reverted::of(data))),
            None => trouble(&error),
        })?;
        let (words, missing) = self.words(&content, &asked).await?;
        let signatures = words.count();
        let Some(validators) = words.quorum(threshold) else {
            let detail = format!("signatures are missing: {}", missing.join("; "));
            return Err(Event::Short { detail, signatures, threshold });
        };
        let Content { message, payload, sequencer } = content;
        work.authorized = Some(Authorized { message, payload, sequencer: sequencer.signature, validators });
        Ok(Event::Quorum { signatures, threshold })
    }

    /// Signatures of validators that are live now, and why others are none.
    async fn words(&self, content: &Content, asked: &Asked) -> Result<(Words, Vec<String>), Event> {
        let answers = self.peers.signatures(asked.nonce).await;
        let (mut words, mut missing) = tally(answers, &content.message, asked);
        for signer in words.signers() {
            if !self
                .payer
                .contracts
                .is_live(signer, Role::Validator)
                .await
                .map_err(|error| trouble(&error))?
            {
                words.remove(signer);
                missing.push(format!("the key does not count on the chain. key=`{signer}`"));
            }
        }
        missing.truncate(NAMED_MAX);
        Ok((words, missing))
    }

    async fn simulate(&self, work: &Work) -> Event {
        let Some(authorized) = &work.authorized else { return nothing_gathered() };
        let data = calls::initialize_and_handle(authorized);
        match self.payer.contracts.simulate(self.payer.account, &data).await {
            Ok(told) => Event::Simulated { before: work.before, told },
            Err(error) => trouble(&error),
        }
    }

    async fn estimate(&self, work: &Work) -> Event {
        let Some(authorized) = &work.authorized else { return nothing_gathered() };
        let data = calls::initialize_and_handle(authorized);
        match self.payer.affordable(self.domain.contract, &data, &self.policy).await {
            Ok(gas) => Event::Estimated(gas),
            Err(Unaffordable::Reverted(reverted)) => {
                Event::Simulated { before: work.before, told: Err(reverted) }
            }
            Err(Unaffordable::TooLittle(detail)) => Event::Trouble(detail),
            Err(Unaffordable::Unknown(error)) => trouble(&error),
        }
    }

    async fn send(&self, tracked: &Tracked, gas_limit: u64, work: &Work) -> Event {
        let Some(authorized) = &work.authorized else { return nothing_gathered() };
        let data = calls::initialize_and_handle(authorized);
        let job = Job { id: job_of(tracked), to: self.domain.contract, value: 0, data, gas_limit };
        match self.payer.submitter.enqueue(job).await {
            Ok(_) => Event::UnderWay { tx: None },
            Err(error) => Event::Trouble(chain(&error)),
        }
    }

    fn follow(&self, tracked: &Tracked) -> Event {
        match self.queue.find(&job_of(tracked)) {
            Ok(Found::Unknown) => Event::NeverSent,
            Ok(Found::Open(hash)) => Event::UnderWay { tx: hash.map(|hash| hexed(&hash)) },
            Ok(Found::Settled(receipt)) => {
                metrics::spent(receipt.gas_used, receipt.gas_price);
                let outcome = outcome_of(&receipt, self.domain.contract, tracked.nonce);
                Event::Ended { tx: hexed(&receipt.hash), block: receipt.block, outcome }
            }
            Err(error) => Event::Trouble(chain(&error)),
        }
    }
}

/// Counts what fits of what validators served, and says why the rest does not.
fn tally(
    answers: Vec<(&str, Result<OutboundSignature, Silence>)>,
    message: &OutboundMessage,
    asked: &Asked,
) -> (Words, Vec<String>) {
    let (mut words, mut missing) = (Words::default(), Vec::new());
    for (validator, answer) in answers {
        match answer.map(|served| gather::word(&served, message, asked)) {
            Ok(Ok(signed)) => words.add(signed),
            Ok(Err(nonsense)) => {
                metrics::nonsense();
                tracing::warn!(validator, nonce = asked.nonce, %nonsense, "what a validator serves is dropped");
                missing.push(format!("{validator}: {nonsense}"));
            }
            Err(silence) => missing.push(format!("{validator}: {}", chain(&silence))),
        }
    }
    (words, missing)
}

/// The name of the transaction of this attempt.
fn job_of(tracked: &Tracked) -> JobId {
    JobId(format!("message/{}/{}", tracked.nonce, tracked.attempts))
}

fn trouble(error: &EndpointError) -> Event {
    Event::Trouble(chain(error))
}

/// The decision never asks for it before something was gathered.
fn nothing_gathered() -> Event {
    Event::Trouble("nothing was gathered for the message".to_owned())
}

fn hexed(hash: &[u8; 32]) -> String {
    format!("0x{}", hex::encode(hash))
}

/// Milliseconds since 1970.
pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Says and counts what became of a message.
fn note(before: &Tracked, after: &Tracked) {
    let (nonce, standing) = (after.nonce, &after.standing);
    if before.standing.word() == standing.word() {
        tracing::debug!(nonce, ?standing, error = after.error, "looked at a message");
        return;
    }
    metrics::outcome(standing.word());
    if let Standing::Held { detail } = standing {
        tracing::error!(nonce, detail, "a message is held; somebody has to look");
    } else {
        tracing::info!(nonce, ?standing, "a message");
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;

    use synddb_protocol::signing::SigningKey;

    use super::*;
    use crate::gather::tests::{asked, key, outbound, served, served_content};

    /// What somebody answers.
    enum Answer {
        Json(String),
        /// More than there can be.
        Endless,
        Moved(String),
        /// Nothing, ever.
        Silence,
    }

    /// Starts somebody who answers everything alike, for as long as the test runs.
    fn peer(answer: Answer) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            let mut kept = Vec::new();
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let mut head = [0; 4096];
                let _read = stream.read(&mut head);
                let written = match &answer {
                    Answer::Json(text) => {
                        write!(
                            stream,
                            "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{text}",
                            text.len()
                        )
                    }
                    Answer::Endless => write!(stream, "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n")
                        .and_then(|()| (0..1024).try_for_each(|_| stream.write_all(&[b' '; 1024]))),
                    Answer::Moved(to) => {
                        write!(
                            stream,
                            "HTTP/1.1 302 Found\r\nlocation: {to}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
                        )
                    }
                    Answer::Silence => {
                        kept.push(stream);
                        continue;
                    }
                };
                written.ok();
            }
        });
        url
    }

    fn signs(message: &OutboundMessage, key: &SigningKey, change: fn(&mut OutboundSignature)) -> String {
        let mut served = served(message, key);
        change(&mut served);
        peer(Answer::Json(serde_json::to_string(&served).unwrap()))
    }

    #[tokio::test]
    async fn whoever_lies_floods_or_says_nothing_counts_for_nothing() {
        let message = outbound(b"call");
        let other = OutboundMessage { value: 5.into(), ..message };
        let honest = signs(&message, &key(1), |_| {});
        let validators = [
            honest.clone(),
            // The same key behind another URL.
            signs(&message, &key(1), |_| {}),
            signs(&message, &key(2), |served| served.digest = format!("0x{}", "00".repeat(32))),
            signs(&message, &key(3), |served| served.signer = key(4).id()),
            signs(&message, &key(5), |served| served.signature.replace_range(10..12, "ff")),
            signs(&other, &key(6), |_| {}),
            peer(Answer::Endless),
            peer(Answer::Moved(format!("{honest}/outbound/7/signature"))),
            peer(Answer::Json("[]".to_owned())),
            peer(Answer::Silence),
        ];
        let sequencer = peer(Answer::Json(serde_json::to_string(&served_content(b"call", &key(9))).unwrap()));
        let peers = Peers::at(&sequencer, &validators, None, asked().stream).unwrap();
        let content = gather::content(&peers.content(7).await.unwrap(), &asked()).unwrap();
        assert_eq!(content.sequencer.signer, key(9).id());
        let (words, missing) = tally(peers.signatures(7).await, &content.message, &asked());
        assert_eq!(words.signers(), [key(1).id()]);
        assert_eq!(missing.len(), validators.len() - 2, "{missing:#?}");
        assert_eq!(words.quorum(2), None);
        assert!(peers.list(1).await.is_err(), "what is no list");
    }

    #[test]
    fn an_attempt_has_a_job_of_its_own() {
        let once = Tracked { attempts: 1, ..Tracked::new(7, 0) };
        let twice = Tracked { attempts: 2, ..Tracked::new(7, 0) };
        assert_eq!(job_of(&once), job_of(&once.clone()));
        assert_ne!(job_of(&once), job_of(&twice));
    }
}
