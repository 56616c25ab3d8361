//! Rows that ask the bridge to act: signed after they are stored, one content for each nonce, whatever happens in between.

use std::path::Path;

use synddb_protocol::Uint256;
use synddb_protocol::hash::PayloadHash;
use synddb_protocol::http::{OutboundContent, OutboundList, OutboundSignature, OutboundStatus, Reason};
use synddb_protocol::id::{Address, KeyId};
use synddb_protocol::log::OutboundMessage;
use synddb_protocol::signing::{Domain, RecoverableSignature};
use synddb_protocol::state::Value;
use synddb_protocol::submission::TextEncoding;
use synddb_sequencer::{Bridge, Config};
use synddb_sqlite::changeset::{Table, write_delete, write_insert, write_table, write_update};
use synddb_sqlite::messages::{INBOUND, OUTBOUND};
use synddb_sqlite::rusqlite;
use synddb_storage::faulty::{Loss, Verb};

use crate::killed::{Process, configure};
use crate::sample::{Client, STREAM, submission_body};
use crate::sample_key;
use crate::server::{Answer, Server, config, faulty_store, file_store, http};
use crate::takeover::{Said, begin, submit};

const TARGET: &str = "0x00000000000000000000000000000000000000aa";
pub(crate) const CONTRACT: &str = "0x00000000000000000000000000000000000000b1";

fn domain() -> Domain {
    Domain { chain_id: 31337, contract: CONTRACT.parse().unwrap() }
}

fn bridged(folder: &Path, name: &str) -> Config {
    let bridge = Some(Bridge::new(31337, CONTRACT.parse().unwrap()).unwrap());
    Config { bridge, ..config(folder, name) }
}

fn text(text: &str, encoding: TextEncoding) -> Vec<u8> {
    match encoding {
        TextEncoding::Utf8 => text.as_bytes().to_vec(),
        TextEncoding::Utf16Le => text.encode_utf16().flat_map(u16::to_le_bytes).collect(),
        TextEncoding::Utf16Be => text.encode_utf16().flat_map(u16::to_be_bytes).collect(),
    }
}

/// The rows of a commit: it acknowledges inbound messages, and inserts outbound ones that send so much.
fn rows_in(encoding: TextEncoding, inbound: &[i64], outbound: &[(i64, &str)]) -> Vec<u8> {
    let mut rows = Vec::new();
    let table =
        |name: &str, columns| Table { name: name.to_owned(), key: (0..columns).map(|at| at == 0).collect() };
    let [target, zero, done] = [TARGET, "0", "done"].map(|held| text(held, encoding));
    if !inbound.is_empty() {
        write_table(&mut rows, &table(INBOUND, 4));
    }
    for id in inbound {
        write_insert(&mut rows, &[Value::Integer(*id), Value::Text(&done), Value::Null, Value::Integer(1)]);
    }
    if !outbound.is_empty() {
        write_table(&mut rows, &table(OUTBOUND, 10));
    }
    for (id, value) in outbound {
        let value = text(value, encoding);
        write_insert(&mut rows, &row(*id, &target, &value, &zero));
    }
    rows
}

fn row<'v>(id: i64, target: &'v [u8], value: &'v [u8], zero: &'v [u8]) -> [Value<'v>; 10] {
    [
        Value::Integer(id),
        Value::Text(target),
        Value::Text(value),
        Value::Null,
        Value::Text(zero),
        Value::Blob(b"call"),
        Value::Integer(200_000),
        Value::Null,
        Value::Null,
        Value::Integer(1),
    ]
}

pub(crate) fn rows(outbound: &[(i64, &str)]) -> Vec<u8> {
    rows_in(TextEncoding::Utf8, &[], outbound)
}

/// The body of the next commit, with these rows.
pub(crate) fn body(client: &mut Client, rows: &[u8]) -> Vec<u8> {
    let commits = client.commits_with(1, rows);
    submission_body(client.submit(&commits))
}

async fn status(server: &Server, nonce: u64) -> Option<OutboundStatus> {
    let answer = server.get(&format!("messages/outbound/{nonce}/status")).await;
    if answer.status == 404 {
        assert_eq!(answer.reason(), Reason::NotFound);
        return None;
    }
    assert_eq!(answer.status, 200, "{answer:?}");
    Some(serde_json::from_slice(&answer.body).unwrap())
}

/// What becomes of a row that is bound to be stored.
async fn known(server: &Server, nonce: u64) -> OutboundStatus {
    for _ in 0..1000 {
        if let Some(status) = status(server, nonce).await {
            return status;
        }
        server.pass_time(STREAM).await;
    }
    panic!("nobody knows what became of it")
}

fn signed(status: OutboundStatus) -> OutboundSignature {
    match status {
        OutboundStatus::Signed(signed) => signed,
        status => panic!("{status:?}"),
    }
}

fn refused(status: OutboundStatus) -> String {
    match status {
        OutboundStatus::Refused(refused) => refused.detail,
        status => panic!("{status:?}"),
    }
}

/// What has to be signed of a row.
fn expected(nonce: u64, value: u64, inbox_consumed: u64) -> OutboundMessage {
    OutboundMessage {
        stream: STREAM,
        nonce,
        target: TARGET.parse().unwrap(),
        value: Uint256::from(value),
        token: Address::ZERO,
        amount: Uint256::ZERO,
        payload_hash: PayloadHash::of(b"call"),
        gas_limit: 200_000,
        deadline: u64::MAX,
        inbox_consumed,
    }
}

/// The digest is the protocol's, and the signature recovers to the key.
fn check(signed: &OutboundSignature, message: &OutboundMessage, key: KeyId) {
    let digest = message.digest(&domain());
    assert_eq!(signed.fields.message(STREAM, signed.nonce).unwrap(), *message);
    assert_eq!((signed.digest.clone(), signed.signer), (digest.to_string(), key));
    let mut bytes = [0; 65];
    hex::decode_to_slice(signed.signature.strip_prefix("0x").unwrap(), &mut bytes).unwrap();
    assert_eq!(RecoverableSignature::from_bytes(bytes).recover(&digest), Some(key));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_is_signed_only_after_its_message_is_stored() {
    let folder = tempfile::tempdir().unwrap();
    let (store, faults) = faulty_store(folder.path()).await;
    let server = Server::start(&store, bridged(folder.path(), "one")).await;
    let mut client = Client::new(STREAM);
    let first = server.begin(&client).await.sequence();
    server.stored(STREAM, first).await;
    faults.lose_requests(Verb::Put, Loss::PerMille(1000));
    let held = rows_in(TextEncoding::Utf8, &[1, 2], &[(1, "5")]);
    let taken = server.submit(STREAM, body(&mut client, &held)).await;
    assert_eq!(taken.status, 201, "it is accepted");
    for _ in 0..10 {
        assert_eq!(status(&server, 1).await, None, "it is not stored");
        server.pass_time(STREAM).await;
    }
    let list: OutboundList = serde_json::from_slice(&server.get("messages/outbound").await.body).unwrap();
    assert_eq!(list, OutboundList { messages: Vec::new(), last: 0 });
    faults.clear();
    let of_row = signed(known(&server, 1).await);
    assert_eq!(of_row.sequence.get(), taken.sequence());
    check(&of_row, &expected(1, 5, 2), server.key.id());

    let answer = server.get(&format!("streams/{}/messages/outbound/1", STREAM.to_key())).await;
    let content: OutboundContent = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(content, OutboundContent { signed: of_row.clone(), payload: "0x63616c6c".to_owned() });
    let list: OutboundList =
        serde_json::from_slice(&server.get("messages/outbound?from=1").await.body).unwrap();
    assert_eq!(list, OutboundList { messages: vec![OutboundStatus::Signed(of_row)], last: 1 });
    assert_eq!(server.get("messages/outbound/2").await.reason(), Reason::NotFound);
    assert_eq!(server.get("messages/outbound/nothing").await.reason(), Reason::NotFound);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gaps_changes_and_what_is_malformed_are_refused_for_ever() {
    let folder = tempfile::tempdir().unwrap();
    let store = file_store(folder.path()).await;
    let server = Server::start(&store, bridged(folder.path(), "one")).await;
    let mut client = Client::new(STREAM);
    server.begin(&client).await.receipt();
    server.submit(STREAM, body(&mut client, &rows(&[(1, "1"), (3, "3")]))).await.receipt();
    assert!(refused(known(&server, 3).await).contains("found=`3`"));
    let first = signed(known(&server, 1).await);
    // What was missing comes too late; what follows is one behind the highest.
    server.submit(STREAM, body(&mut client, &rows(&[(2, "2"), (4, "nothing")]))).await.receipt();
    assert!(refused(known(&server, 4).await).contains("`value`"));
    assert!(refused(known(&server, 2).await).contains("found=`2`"));
    server.submit(STREAM, body(&mut client, &rows(&[(5, "5")]))).await.receipt();
    check(&signed(known(&server, 5).await), &expected(5, 5, 0), server.key.id());

    // A row that was signed is changed and deleted, and so is one that nobody saw here.
    let mut edits = Vec::new();
    let table = Table { name: OUTBOUND.to_owned(), key: (0..10).map(|at| at == 0).collect() };
    write_table(&mut edits, &table);
    let of = |id, value| row(id, TARGET.as_bytes(), value, b"0");
    write_update(&mut edits, &table.key, &of(1, b"1"), &of(1, b"7"));
    write_delete(&mut edits, &of(9, b"9"));
    server.submit(STREAM, body(&mut client, &edits)).await.receipt();
    assert!(refused(known(&server, 9).await).contains("deleted"));
    assert_eq!(signed(known(&server, 1).await), first);
    // Rows that are no changeset are nobody's messages.
    let last = server.submit(STREAM, body(&mut client, b"rows")).await.sequence();
    server.stored(STREAM, last).await;
    server.submit(STREAM, body(&mut client, &rows(&[(6, "6")]))).await.receipt();
    check(&signed(known(&server, 6).await), &expected(6, 6, 0), server.key.id());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_incarnation_gives_no_nonce_a_second_content() {
    let folder = tempfile::tempdir().unwrap();
    let store = file_store(folder.path()).await;
    let server = Server::start(&store, bridged(folder.path(), "one")).await;
    let mut client = Client::new(STREAM);
    server.begin(&client).await.receipt();
    server.submit(STREAM, body(&mut client, &rows(&[(1, "1"), (2, "2")]))).await.receipt();
    let first = signed(known(&server, 2).await);
    // Its database is an older copy: the second message is written again, and is another one.
    let mut client = client.successor();
    server.begin(&client).await.receipt();
    server.submit(STREAM, body(&mut client, &rows(&[(2, "200"), (3, "3")]))).await.receipt();
    check(&signed(known(&server, 3).await), &expected(3, 3, 0), server.key.id());
    assert_eq!(signed(known(&server, 2).await), first);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commits_in_parts_count_when_they_are_whole_in_any_encoding() {
    let folder = tempfile::tempdir().unwrap();
    let store = file_store(folder.path()).await;
    let server = Server::start(&store, bridged(folder.path(), "one")).await;
    let mut client = Client::writing(STREAM, TextEncoding::Utf16Be);
    server.begin(&client).await.receipt();
    let whole = rows_in(TextEncoding::Utf16Be, &[1], &[(1, "1"), (2, "2")]);
    // Cut inside a value.
    let (head, rest) = whole.split_at(whole.len() - 150);
    let (middle, end) = rest.split_at(70);
    server.submit(STREAM, submission_body(client.part_with(head, false))).await.receipt();
    let second = server.submit(STREAM, submission_body(client.part_with(middle, false))).await.sequence();
    server.stored(STREAM, second).await;
    server.pass_time(STREAM).await;
    assert_eq!(status(&server, 1).await, None, "the commit is not whole");
    // Its parts are kept over a restart.
    server.stop().await;
    let server = Server::start(&store, bridged(folder.path(), "one")).await;
    let last = loop {
        let answer = server.submit(STREAM, submission_body(client.clone().part_with(end, true))).await;
        if answer.status != 503 {
            break answer.sequence();
        }
    };
    for nonce in [1, 2] {
        let of_row = signed(known(&server, nonce).await);
        assert_eq!(of_row.sequence.get(), last);
        check(&of_row, &expected(nonce, nonce, 1), server.key.id());
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_sequencer_signs_the_same_afterwards() {
    let folder = tempfile::tempdir().unwrap();
    let file = configure(folder.path());
    let plain = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, format!("{plain}[bridge]\nchain_id = 31337\ncontract = \"{CONTRACT}\"\n")).unwrap();
    let http = http();
    let mut client = Client::new(STREAM);
    let process = Process::start(&file);
    begin(&process, &http).await;
    submit(&process, &http, body(&mut client, &rows(&[(1, "1")]))).await;
    let first = read(&process, &http, 1).await;
    check(&first, &expected(1, 1, 0), sample_key(folder.path(), "one").id());
    process.kill();
    // Whether what it was about to write down is written or not. What is read first is the fence.
    for (nonce, at) in [(2, "mailbox walked@2"), (3, "mailbox recorded@2")] {
        let mut process = Process::start_with(&file, "SYNDDB_KILL_AT", at);
        let next = body(&mut client, &rows(&[(nonce, &nonce.to_string())]));
        while process.is_alive() {
            submit(&process, &http, next.clone()).await;
        }
        let process = Process::start(&file);
        while matches!(submit(&process, &http, next.clone()).await, Said::Refused(Reason::NotLeading)) {}
        let nonce = u64::try_from(nonce).unwrap();
        let of_row = read(&process, &http, nonce).await;
        check(&of_row, &expected(nonce, nonce, 0), sample_key(folder.path(), "one").id());
        assert_eq!(read(&process, &http, 1).await, first);
        process.kill();
    }
}

async fn read(process: &Process, http: &reqwest::Client, nonce: u64) -> OutboundSignature {
    let begun = std::time::Instant::now();
    loop {
        let url = format!("{}/messages/outbound/{nonce}/status", process.base);
        let answer = http.get(url).send().await.unwrap();
        if answer.status() == 200 {
            return signed(serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap());
        }
        assert!(begun.elapsed() < crate::takeover::PATIENCE, "it does not come");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_takes_over_signs_the_same_digests_with_its_own_key() {
    let folder = tempfile::tempdir().unwrap();
    let store = file_store(folder.path()).await;
    let one = Server::start(&store, bridged(folder.path(), "one")).await;
    let mut client = Client::new(STREAM);
    one.begin(&client).await.receipt();
    one.submit(STREAM, body(&mut client, &rows_in(TextEncoding::Utf8, &[1], &[(1, "1")]))).await.receipt();
    let first = signed(known(&one, 1).await);
    let trusted = one.key;
    one.stop().await;
    let taking = Config { trusted_keys: vec![trusted], ..bridged(folder.path(), "two") };
    let two = Server::start(&store, taking).await;
    two.submit(STREAM, body(&mut client, &rows(&[(2, "2")]))).await.receipt();
    check(&signed(known(&two, 2).await), &expected(2, 2, 1), two.key.id());
    let again = signed(known(&two, 1).await);
    assert_eq!((&again.digest, again.sequence), (&first.digest, first.sequence));
    check(&again, &expected(1, 1, 1), two.key.id());
    assert_ne!(first.signer, again.signer);
    two.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_paths_say_what_is_missing_and_show_messages_as_they_come() {
    let folder = tempfile::tempdir().unwrap();
    let store = file_store(folder.path()).await;
    let server = Server::start(&store, config(folder.path(), "one")).await;
    let mut client = Client::new(STREAM);
    server.begin(&client).await.receipt();
    let told = server.get("messages/outbound").await;
    assert_eq!(told.reason(), Reason::NotFound);
    assert!(String::from_utf8(told.body).unwrap().contains("bridge.chain_id"));
    server.stop().await;

    // The log is there already.
    let server = Server::start(&store, bridged(folder.path(), "one")).await;
    let posted = server.http.post(format!("{}/messages/outbound", server.base)).send().await.unwrap();
    assert_eq!(posted.status(), 405);
    assert_eq!(posted.headers()["allow"], "GET,HEAD");
    let next = body(&mut client, &rows(&[(1, "1"), (2, "x")]));
    while server.submit(STREAM, next.clone()).await.status == 503 {}
    known(&server, 2).await;
    let url = format!("{}/messages/outbound/stream", server.base);
    let mut shown = server.http.get(url).send().await.unwrap();
    assert_eq!(shown.headers()["content-type"], "text/event-stream");
    server.submit(STREAM, body(&mut client, &rows(&[(3, "3")]))).await.receipt();
    let mut events = String::new();
    while !events.contains("id: 3\n") {
        let piece = tokio::time::timeout(crate::takeover::PATIENCE, shown.chunk()).await.unwrap();
        events.push_str(std::str::from_utf8(&piece.unwrap().unwrap()).unwrap());
    }
    let statuses: Vec<OutboundStatus> = events
        .lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .map(|data| serde_json::from_str(data).unwrap())
        .collect();
    assert_eq!(statuses.iter().map(OutboundStatus::nonce).collect::<Vec<_>>(), [1, 2, 3]);
    assert!(matches!(statuses[1], OutboundStatus::Refused(_)));
    let ledger = folder.path().join("one/streams").join(STREAM.to_key()).join("mailbox.db");
    assert!(ledger.is_file());
    drop(shown);
    server.stop().await;

    // A ledger is for one bridge.
    let other = Some(Bridge::new(1, CONTRACT.parse().unwrap()).unwrap());
    let server = Server::start(&store, Config { bridge: other, ..config(folder.path(), "one") }).await;
    loop {
        let answer = server.get("messages/outbound").await;
        match answer.reason() {
            Reason::Unavailable => break,
            reason => assert_eq!(reason, Reason::NotLeading),
        }
    }
    server.stop().await;
}

/// What is answered once the stream is led.
async fn led(server: &Server, path: &str) -> Answer {
    loop {
        let answer = server.get(path).await;
        if answer.status != 503 || answer.reason() != Reason::NotLeading {
            return answer;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_damaged_is_unavailable_and_never_refused() {
    let folder = tempfile::tempdir().unwrap();
    let store = file_store(folder.path()).await;
    let server = Server::start(&store, bridged(folder.path(), "one")).await;
    let mut client = Client::new(STREAM);
    server.begin(&client).await.receipt();
    let held: Vec<(i64, &str)> = (1..=6).map(|id| (id, "1")).collect();
    server.submit(STREAM, body(&mut client, &rows(&held))).await.receipt();
    let intact = signed(known(&server, 6).await);
    server.stop().await;
    let file = folder.path().join("one/streams").join(STREAM.to_key()).join("mailbox.db");
    let ledger = rusqlite::Connection::open(file).unwrap();
    ledger
        .execute_batch(
            "UPDATE outbound SET fields = replace(fields, '\"value\":\"1\"', '\"value\":\"one\"') WHERE nonce = 1;
             UPDATE outbound SET fields = 'nothing' WHERE nonce = 2;
             UPDATE outbound SET fields = NULL WHERE nonce = 3;
             UPDATE outbound SET refused = 'damage' WHERE nonce = 4;
             UPDATE outbound SET payload = x'00' WHERE nonce = 5;",
        )
        .unwrap();
    drop(ledger);
    let server = Server::start(&store, bridged(folder.path(), "one")).await;
    for path in ["1/status", "2/status", "3/status", "4/status", "1", "2", "3", "4", "5"] {
        let answer = led(&server, &format!("messages/outbound/{path}")).await;
        assert_eq!((answer.status, answer.reason()), (503, Reason::Unavailable), "{path}");
    }
    assert_eq!(server.get("messages/outbound").await.reason(), Reason::Unavailable);
    // The others are served as before.
    assert_eq!(server.get("messages/outbound?from=5").await.status, 200);
    assert_eq!(signed(known(&server, 6).await), intact);
    server.stop().await;
}

#[test]
fn a_bridge_is_a_contract_on_a_live_chain() {
    assert!(Bridge::new(0, CONTRACT.parse().unwrap()).is_err());
    assert!(Bridge::new(1, Address::ZERO).unwrap_err().to_string().contains("contract=`"));
    let read = |text: &str| serde_json::from_str::<Bridge>(text);
    assert_eq!(
        read(&format!("{{\"chain_id\":31337,\"contract\":\"{CONTRACT}\"}}")).unwrap().domain(),
        domain()
    );
    assert!(read(&format!("{{\"chain_id\":0,\"contract\":\"{CONTRACT}\"}}")).is_err());
}
