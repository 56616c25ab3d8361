//! Proofs of what is stored, and its leaves: everything that is stored can be proven against a signed checkpoint, and nothing else.

use synddb_protocol::Canonical as _;
use synddb_protocol::hash::TreeHash;
use synddb_protocol::http::{ConsistencyProof, InclusionProof, Reason};
use synddb_protocol::log::{Frontier, SignedCheckpoint};
use synddb_protocol::proof::{Leaves, Proven};
use synddb_sequencer::{Batching, Config};
use synddb_storage::faulty::{Loss, Verb};

use crate::sample::{Client, Reader, STREAM};
use crate::server::{Server, config, faulty_store};

async fn inclusion(server: &Server, query: &str) -> Proven<InclusionProof> {
    let answer = server.get(&format!("proof/inclusion?{query}")).await;
    assert_eq!(answer.status, 200, "{query}: {}", String::from_utf8_lossy(&answer.body));
    Proven::from_bytes(&answer.body).unwrap()
}

async fn consistency(server: &Server, query: &str) -> Proven<ConsistencyProof> {
    let answer = server.get(&format!("proof/consistency?{query}")).await;
    assert_eq!(answer.status, 200, "{query}: {}", String::from_utf8_lossy(&answer.body));
    Proven::from_bytes(&answer.body).unwrap()
}

async fn leaves(server: &Server, range: &str) -> Vec<TreeHash> {
    let answer = server.get(&format!("leaves/{range}")).await;
    assert_eq!(answer.status, 200, "{range}: {}", String::from_utf8_lossy(&answer.body));
    Leaves::from_bytes(&answer.body).unwrap().0
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_stored_is_proven_against_the_signed_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let (store, faults) = faulty_store(folder.path()).await;
    let batch = Batching { messages_max: 5, ..config(folder.path(), "one").batch };
    let config = || Config { batch, ..config(folder.path(), "one") };
    let server = Server::start(&store, config()).await;
    let mut client = Client::new(STREAM);
    let mut last = server.begin(&client).await.sequence();
    for count in [1, 4, 2, 7, 3, 12, 1] {
        faults.lose_requests(Verb::Put, Loss::PerMille(1000));
        for _ in 0..count {
            last = server.submit(STREAM, client.next_body(1)).await.sequence();
        }
        faults.lose_requests(Verb::Put, Loss::Never);
        server.stored(STREAM, last).await;
    }
    // Once with the messages in memory, and once by a process that has only the store.
    let recent = leaves(&server, &format!("2_{last}")).await;
    server.stop().await;
    let server = Server::start(&store, config()).await;
    let size = last + 1;
    let signed = server.stored(STREAM, size).await;
    let log = Reader::read(&store, STREAM, &[server.key]).await;
    assert!(log.batches.len() > 8, "{:?}", log.batches);
    let all: Vec<TreeHash> = log.messages.iter().map(|message| message.receipt().leaf()).collect();
    assert_eq!(leaves(&server, &format!("1_{}", size + 9)).await, all);
    assert_eq!(recent, all[1..all.len() - 1]);
    assert_eq!(leaves(&server, "3_4").await, all[2..4]);
    let mut frontier = Frontier::default();
    let roots: Vec<TreeHash> = all
        .iter()
        .map(|leaf| {
            frontier.push(*leaf);
            frontier.root()
        })
        .collect();
    assert_eq!(roots.last(), Some(&signed.claim().root()));
    for (index, leaf) in all.iter().enumerate() {
        let at = index as u64 + 1;
        // The newest checkpoint comes along, signed.
        let Proven { proof, checkpoint } = inclusion(&server, &format!("sequence={at}")).await;
        assert_eq!((proof.sequence.get(), proof.size, &checkpoint), (at, checkpoint.claim().size, &signed));
        let trusted = checkpoint.verify(&log.leaders).unwrap();
        assert!(proof.verify(*leaf, trusted.claim().root()));
        assert!(!proof.verify(all[(index + 1) % all.len()], trusted.claim().root()));
        let Proven { proof, .. } = consistency(&server, &format!("from={at}")).await;
        assert!(proof.verify(roots[index], trusted.claim().root()));
        // And every size between.
        for size in (at..size).step_by(3) {
            let root = roots[usize::try_from(size - 1).unwrap()];
            let Proven { proof, .. } = inclusion(&server, &format!("sequence={at}&size={size}")).await;
            assert!(proof.verify(*leaf, root), "{at} of {size}");
            let Proven { proof, .. } = consistency(&server, &format!("from={at}&size={size}")).await;
            assert!(proof.verify(roots[index], root), "{at} to {size}");
        }
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_stored_is_neither_proven_nor_listed() {
    let folder = tempfile::tempdir().unwrap();
    let (store, faults) = faulty_store(folder.path()).await;
    let server = Server::start(&store, config(folder.path(), "one")).await;
    let mut client = Client::new(STREAM);
    let begun = server.begin(&client).await.sequence();
    server.stored(STREAM, begun).await;
    faults.lose_requests(Verb::Put, Loss::PerMille(1000));
    let taken = server.submit(STREAM, client.next_body(1)).await.sequence();
    let (past, far) = (taken, begun + 5000);
    let refused = [
        (format!("leaves/{past}_{past}"), Reason::NotFound),
        ("leaves/2_1".to_owned(), Reason::Range),
        ("leaves/1_4097".to_owned(), Reason::Range),
        ("leaves/1".to_owned(), Reason::NotFound),
        (format!("proof/inclusion?sequence={past}"), Reason::NotFound),
        (format!("proof/inclusion?sequence=1&size={past}"), Reason::NotFound),
        ("proof/inclusion?sequence=2&size=1".to_owned(), Reason::Range),
        ("proof/inclusion?sequence=0".to_owned(), Reason::Malformed),
        ("proof/inclusion".to_owned(), Reason::Malformed),
        (format!("proof/consistency?from={far}"), Reason::NotFound),
        ("proof/consistency?from=2&size=1".to_owned(), Reason::Range),
        ("proof/consistency?from=1&of=2".to_owned(), Reason::Malformed),
    ];
    for (path, reason) in refused {
        assert_eq!(server.get(&path).await.reason(), reason, "{path}");
    }
    assert_eq!(leaves(&server, &format!("{begun}_{past}")).await.len(), 1);
    faults.lose_requests(Verb::Get, Loss::PerMille(1000));
    let refused = server.get("proof/inclusion?sequence=1").await;
    assert_eq!((refused.reason(), refused.retry_after), (Reason::Unavailable, Some(1)));
    assert_eq!(server.get("leaves/1_1").await.reason(), Reason::Unavailable);
    faults.clear();
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn people_get_proofs_in_json() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = faulty_store(folder.path()).await;
    let server = Server::start(&store, config(folder.path(), "one")).await;
    let begun = server.begin(&Client::new(STREAM)).await.receipt();
    server.stored(STREAM, 2).await;
    let url = format!("{}/streams/{STREAM}/proof/inclusion?sequence=2", server.base);
    let answer =
        server.send(server.http.get(url).header("accept", "text/html, application/json;q=0.9")).await;
    let proven: Proven<InclusionProof> = serde_json::from_slice(&answer.body).unwrap();
    assert!(proven.proof.verify(begun.leaf(), proven.checkpoint.claim().root()));
    let json: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    let checkpoint = json["checkpoint"].as_str().unwrap().strip_prefix("0x").unwrap();
    assert_eq!(SignedCheckpoint::from_bytes(&hex::decode(checkpoint).unwrap()).unwrap(), proven.checkpoint);
    let again: Proven<InclusionProof> = Proven::from_bytes(&proven.to_bytes()).unwrap();
    assert_eq!(again, proven);
    server.stop().await;
}
